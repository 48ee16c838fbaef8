"""Where a pooler spends its time: instructions (callgrind), samples (perf), system calls (strace)."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .steady import SteadyLoad
from .system import BenchError, require
from .targets import TRUST, Pooler

START_UNDER_VALGRIND_S = 120
WARM_UP_ROUNDS = 20
PERF_FREQUENCY = 1999
PROTOCOLS = ("simple", "extended", "prepared", "connect", "tenants")


@dataclass(frozen=True, slots=True)
class Job:
    """What is profiled: protocol, clients, number of transactions (perf: seconds), lines to print."""

    protocol: str
    clients: int
    transactions: int
    seconds: float
    top: int


def callgrind(pooler: Pooler, job: Job, folder: Path) -> str:
    """Count instructions per transaction by function with callgrind; exact, and slow."""
    text, done = _counted(pooler, job.protocol, job.clients, job.transactions, folder)
    return _per_transaction(text, done, job)


def instructions(pooler: Pooler, protocol: str, clients: int, transactions: int) -> float:
    """Return how many instructions a transaction takes, as callgrind() counts them."""
    text, done = _counted(pooler, protocol, clients, transactions, pooler.folder)
    total = re.search(r"([\d,]+)\s.*PROGRAM TOTALS", text)
    if total is None:
        raise BenchError(f"callgrind_annotate gives no total: {text[-300:]}")
    return int(total[1].replace(",", "")) / done


def _counted(pooler: Pooler, protocol: str, clients: int, transactions: int, folder: Path) -> tuple[str, int]:
    """Return the table of callgrind_annotate and the number of transactions.

    Logins and warm-up are not counted. Only the process that serves clients is (pgferry: its first worker).
    Raises BenchError when valgrind is missing or the pooler does not come up.
    """
    valgrind, control = require("valgrind", "valgrind"), require("callgrind_control", "valgrind")
    annotate = require("callgrind_annotate", "valgrind")
    output = folder / "callgrind.out"
    pooler.prefix = [valgrind, "--tool=callgrind", "--trace-children=yes", "--instr-atstart=no", "-q"]
    pooler.prefix += [f"--callgrind-out-file={output}.%p"]
    for old in folder.glob("callgrind.out.*"):
        old.unlink()
    try:
        pooler.start(TRUST, START_UNDER_VALGRIND_S)
    finally:
        pooler.prefix = []  # the next start is an ordinary one
    load = SteadyLoad(pooler.port, protocol, clients)
    try:
        load.run(clients * WARM_UP_ROUNDS)
        pid = pooler.serving_process()
        _control(pooler, control, "-i", "on", pid)
        done = load.run(transactions)
        _control(pooler, control, "-i", "off", pid)
        _control(pooler, control, "-d", "", pid)
    finally:
        load.close()
        pooler.stop()
    dumps = sorted(folder.glob(f"callgrind.out.{pid}*"), key=lambda path: path.stat().st_size)
    if not dumps:
        raise BenchError(f"callgrind left no figures: {pooler.log_tail()}")
    text = subprocess.run(
        [annotate, "--show-percs=no", str(dumps[-1])], capture_output=True, text=True, check=False
    )
    return text.stdout, done


def perf(pooler: Pooler, job: Job, folder: Path) -> str:
    """Sample functions, the kernel's too, with perf during a steady load; returns perf's table."""
    program, data = require("perf", "linux-perf"), folder / "perf.data"
    record = [program, "record", "-q", "-e", "cpu-clock", "-F", str(PERF_FREQUENCY), "-g", "-o", str(data)]
    _observed(pooler, job, lambda pid: [*record, "-p", str(pid)])
    report = [program, "report", "-q", "--stdio", "--no-children", "-g", "none", "-n", "-i", str(data)]
    outcome = subprocess.run(report, capture_output=True, text=True, check=False)
    return "\n".join([line for line in outcome.stdout.splitlines() if line.strip()][: job.top])


def syscalls(pooler: Pooler, job: Job, folder: Path) -> str:
    """Count system calls per transaction by name with strace during a steady load."""
    program, table = require("strace", "strace"), folder / "strace.txt"
    command = [program, "-q", "-c", "-f", "-o", str(table)]
    done = _observed(pooler, job, lambda pid: [*command, "-p", str(pid)])
    lines = []
    for line in table.read_text().splitlines():
        match = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:(\d+)\s+)?(\w+)$", line)
        if match:
            failed = f"  ({int(match[2]) / done:.3f} of them fail)" if match[2] else ""
            lines.append(f"{int(match[1]) / done:8.3f}  {match[3]}{failed}")
    return f"calls per transaction, {done} transactions, {job.clients} clients, {job.protocol}\n" + "\n".join(
        lines
    )


MODES: dict[str, Callable[[Pooler, Job, Path], str]] = {
    "callgrind": callgrind,
    "perf": perf,
    "syscalls": syscalls,
}


def _observed(pooler: Pooler, job: Job, observer: Callable[[int], list[str]]) -> int:
    """Run a steady load of `job.seconds` while `observer` watches; returns the transactions done."""
    pooler.start(TRUST)
    load = SteadyLoad(pooler.port, job.protocol, job.clients)
    try:
        load.run(job.clients * WARM_UP_ROUNDS)
        watcher = subprocess.Popen(
            observer(pooler.serving_process()), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(0.5)
        done, end = 0, time.monotonic() + job.seconds
        while time.monotonic() < end:
            done += load.run(job.clients)
        watcher.send_signal(signal.SIGINT)
        watcher.wait(30)
    finally:
        load.close()
        pooler.stop()
    return done


def _control(pooler: Pooler, control: str, option: str, argument: str, pid: int) -> None:
    """Tell callgrind in `pid` something, as the account it runs as."""
    words = [control, option, *([argument] if argument else []), str(pid)]
    status, output = pooler.account.run(words, timeout=120)
    if status:
        raise BenchError(f"callgrind_control failed: {output.strip()}")


def _per_transaction(text: str, done: int, job: Job) -> str:
    """Divide callgrind_annotate's totals by the number of transactions."""
    lines = [f"instructions per transaction, {done} transactions, {job.clients} clients, {job.protocol}"]
    for line in text.splitlines():
        match = re.match(r"\s*([\d,]+)\s+(.+)$", line)
        if match and len(lines) <= job.top + 1:
            lines.append(f"{int(match[1].replace(',', '')) / done:10.1f}  {match[2]}")
    return "\n".join(lines)
