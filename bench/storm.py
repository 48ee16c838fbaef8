"""The storm: thousands of clients log in at once after a restart (SCRAM over TLS) while others keep working."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .crowd import GIVE_UP_S
from .pgbench import percentile
from .processes import CpuMeter
from .secure import with_tls
from .server import DATABASE
from .system import REPOSITORY, BenchError
from .targets import SCRAM, Pooler

CALM_S = 2.0  # of queries without a storm, to compare with
BACKLOG = 4096
OPENED = re.compile(r"(\d\d):(\d\d):(\d\d)\.(\d)\d\d .* new connection to server")


def storm(target: Pooler, clients: int) -> dict[str, float]:
    """Restart the pooler, let one client work, then let the crowd in; raises BenchError when it cannot be done.

    Figures: seconds until all were in, how many were, refused attempts, seconds for the median and the last
    login, the worker's latency before and during the storm, processor time of the pooler, server connections
    opened and the most of them within 0.1 s.
    """
    with with_tls(target):
        target.settings["listen_backlog"] = str(BACKLOG)
        target.start(SCRAM)
        with _child("probe", target) as probe:
            if probe.stdout is None or probe.stdout.readline().strip() != "in":
                raise BenchError(f"the first client did not get in: {target.log_tail()}")
            time.sleep(CALM_S)
            mark = len(target.log_text())
            begin = time.time()
            with CpuMeter(target.root) as meter, _child("crowd", target, str(clients)) as crowd:
                told = _told(crowd, GIVE_UP_S + 30)
            end = time.time()
            answers = _told(probe, 10)["answers"]
        opened = Counter(OPENED.findall(target.log_text()[mark:]))
    target.start(SCRAM)
    before = sorted(seconds for at, seconds in answers if at < begin)
    during = sorted(seconds for at, seconds in answers if begin <= at <= end)
    if not before or not during or not told["times"]:
        raise BenchError("nobody was answered")
    return {
        "seconds": told["seconds"],
        "clients_in": float(len(told["times"])),
        "refused": float(sum(told["failures"].values())),
        "login_p50_s": percentile(told["times"], 50),
        "calm_p50_us": percentile(before, 50) * 1e6,
        "calm_p99_us": percentile(before, 99) * 1e6,
        "p50_us": percentile(during, 50) * 1e6,
        "p99_us": percentile(during, 99) * 1e6,
        "worst_us": during[-1] * 1e6,
        "cpu_ms": meter.total_s * 1000 / clients,
        "servers": float(sum(opened.values())),
        "servers_at_once": float(max(opened.values(), default=0)),
    }


@contextmanager
def _child(mode: str, target: Pooler, *more: str) -> Iterator[subprocess.Popen[str]]:
    """One of the clients of crowd.py."""
    command = [
        sys.executable,
        "-m",
        "bench.crowd",
        mode,
        str(target.port),
        SCRAM.user,
        SCRAM.password,
        DATABASE,
    ]
    process = subprocess.Popen(
        [*command, *more], cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _told(process: subprocess.Popen[str], patience_s: float) -> dict[str, Any]:
    """End a client's input and return what it prints in the end."""
    try:
        output, _ = process.communicate(timeout=patience_s)
        answer: dict[str, Any] = json.loads(output.splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        raise BenchError(f"a client of the storm did not end well: {error}") from error
    return answer
