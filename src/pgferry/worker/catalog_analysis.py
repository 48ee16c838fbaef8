"""What a database's catalog means (session.catalog.analyze_catalog), worked out beside the loop.

A small catalog is read in a thread; while it works the loop has to share the GIL with it, so a larger one is given to
a process of its own. Neither is the thread that logins wait for.
"""

import subprocess
import sys
import time
from collections.abc import Sequence

import msgspec

from pgferry.engine.io.loop import Loop
from pgferry.session.catalog import Knowledge, Row, analyze_catalog
from pgferry.worker.slow import Done, SlowWork

SMALL = 32 * 1024
"""Bytes of rows that the thread reads by itself."""
PATIENCE = 120.0
"""Seconds that the process is given, however busy the machine is."""
_PROCESS = (sys.executable, "-P", "-m", "pgferry.session.catalog_process")
_BREATH = 0.001


class CatalogAnalysis:
    """One catalog at a time."""

    def __init__(self, loop: Loop) -> None:
        self._work = SlowWork(loop)

    def run(self, rows: Sequence[Row], harmless: frozenset[bytes], done: Done) -> None:
        """Call done(Knowledge, None) on the loop, or done(None, error): then nothing is known of the catalog."""
        self._work.run(object(), lambda: analyzed(rows, harmless), done)


def analyzed(rows: Sequence[Row], harmless: frozenset[bytes] = frozenset()) -> Knowledge:
    """Return what the answer to SCAN_QUERY means; for a thread. Raises what in_process() does, and what is a bug."""
    if sum(len(column or b"") for row in rows for column in row) <= SMALL:
        return analyze_catalog(rows, lambda: time.sleep(_BREATH), harmless)
    return in_process(rows, harmless)


def in_process(
    rows: Sequence[Row],
    harmless: frozenset[bytes] = frozenset(),
    patience: float = PATIENCE,
    command: Sequence[str] = _PROCESS,
) -> Knowledge:
    """Let a process work it out. Raises OSError, TimeoutError, RuntimeError with its last words, ValueError."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            answer, words = process.communicate(msgspec.msgpack.encode((rows, harmless)), patience)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"not done within {patience:g} s") from None
        finally:
            process.kill()
    if process.returncode != 0:
        last = words.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise RuntimeError(f"its process ended with status {process.returncode}: {last}")
    return msgspec.msgpack.decode(answer, type=Knowledge)
