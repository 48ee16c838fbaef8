"""What a run costs the server: its connections, and their memory when they are processes of this machine."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pgferry.client import Connection, Target
from pgferry.compare.load import APPLICATION

_WATCHER = "pgferry bench watch"
_PAUSE = 0.1


@dataclass(slots=True)
class Cost:
    """The most of each that was seen; `memory` in bytes, None when the server's processes are not here."""

    connections: int = 0
    memory: int | None = None


class Watch:
    """One connection of its own that counts the others."""

    def __init__(self, target: Target) -> None:
        self._connection = Connection(target, application_name=_WATCHER, timeout=30.0)
        self._local = target.is_local
        self.cost = Cost()

    def free(self) -> int:
        """How many more connections an ordinary user could open now."""
        sql = """
            SELECT (SELECT sum(CASE name WHEN 'max_connections' THEN setting::int ELSE -setting::int END)
                    FROM pg_catalog.pg_settings
                    WHERE name IN ('max_connections', 'superuser_reserved_connections', 'reserved_connections'))
                 - (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend')
        """
        return int(self._connection.value(sql))

    def version(self) -> str:
        return self._connection.value("SHOW server_version")

    @contextmanager
    def watching(self) -> Iterator[Cost]:
        """Count several times a second until the end of the with block."""
        self.cost = Cost()
        stop = threading.Event()
        thread = threading.Thread(target=self._until, args=(stop,), daemon=True)
        thread.start()
        try:
            yield self.cost
        finally:
            stop.set()
            thread.join(30.0)

    def _until(self, stop: threading.Event) -> None:
        while not stop.wait(_PAUSE):
            self.look()

    def look(self) -> None:
        """Count now."""
        rows = self._connection.query(
            f"SELECT pid FROM pg_catalog.pg_stat_activity WHERE application_name = '{APPLICATION}'"
        ).rows
        self.cost.connections = max(self.cost.connections, len(rows))
        if self._local and rows:
            sizes = [_private_memory(int(row[0] or 0)) for row in rows]
            if all(size is not None for size in sizes):
                self.cost.memory = max(self.cost.memory or 0, sum(size or 0 for size in sizes))

    def close(self) -> None:
        self._connection.close()


def _private_memory(pid: int) -> int | None:
    """A process's own memory (not the shared buffers), None when it is not a PostgreSQL of this machine."""
    try:
        command = Path(f"/proc/{pid}/comm").read_text()
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0  # gone meanwhile, or in another machine or container: comm decides when any is there
    if not command.startswith("postgres"):
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), None)
