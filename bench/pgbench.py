"""One load by pgbench: throughput, latencies from its log, the pooler's processor time per transaction."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .processes import CpuMeter, Sample
from .server import DATABASE
from .system import BenchError, require
from .targets import Login

GRACE_S = 60
WARM_UP = 0.15  # share of the run that is not measured
Transaction = tuple[float, int, float]  # wall-clock end in seconds, client, duration in us


@dataclass(frozen=True, slots=True)
class Load:
    """What pgbench is asked for: select-only transactions, or `script`, by `clients` for `seconds`."""

    clients: int
    protocol: str
    seconds: float
    connect_each: bool = False
    tls: bool = False
    script: str = ""
    variables: Mapping[str, int] = field(default_factory=dict)

    @property
    def jobs(self) -> int:
        """Threads: two, as the machine is small; one per client where connecting blocks the thread."""
        return self.clients if self.connect_each else min(2, self.clients)


def run(load: Load, port: int, login: Login, root: int | None) -> dict[str, float]:
    """Run `load` against 127.0.0.1:`port` while watching the processes below `root`.

    Returns tps, p50_us, p95_us, p99_us, transactions and, with a pooler, cpu_us per transaction. With
    `connect_each` the latency is the whole round: connect, log in, one transaction, disconnect.
    Raises BenchError when pgbench fails or a client was lost.
    """
    with tempfile.TemporaryDirectory(prefix="pgferry-bench-log-") as folder:
        with CpuMeter(root) as meter:
            _pgbench(load, port, login, Path(folder))
        transactions = sorted(_read_logs(Path(folder)))
    if load.connect_each:
        transactions = list(_whole_rounds(transactions))
    if len(transactions) < 10:
        raise BenchError(f"only {len(transactions)} transactions were done")
    return _figures(transactions, meter.samples, has_pooler=root is not None)


def _pgbench(load: Load, port: int, login: Login, folder: Path) -> None:
    command = [require("pgbench", "postgresql-contrib"), "-n", "-M", load.protocol, "-l"]
    if load.script:
        (folder / "script.sql").write_text(load.script)
        command += ["-f", "script.sql", *(f"-D{name}={value}" for name, value in load.variables.items())]
    else:
        command.append("-S")
    command += ["-c", str(load.clients), "-j", str(load.jobs), "-T", f"{max(1, round(load.seconds))}"]
    command += ["-h", "127.0.0.1", "-p", str(port), "-U", login.user]
    command += ["-C"] if load.connect_each else []
    try:
        outcome = subprocess.run(
            [*command, DATABASE],
            cwd=folder,
            env={
                **os.environ,
                "PGPASSWORD": login.password,
                **({"PGSSLMODE": "require"} if load.tls else {}),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=load.seconds + GRACE_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"pgbench hangs: no end {GRACE_S} s after it should have") from error
    complaints = [line for line in outcome.stderr.splitlines() if re.search("error|FATAL|abort", line)]
    if outcome.returncode or complaints:
        raise BenchError(f"pgbench: {'; '.join(complaints[:3]) or outcome.stderr.strip()[-300:]}")


def _read_logs(folder: Path) -> Iterator[Transaction]:
    """Yield the transactions of all threads; a line is client, number, us, script, end in s and its us."""
    for path in folder.glob("pgbench_log.*"):
        with path.open() as lines:
            for line in lines:
                client, _, duration, _, second, micros = line.split()[:6]
                yield int(second) + int(micros) / 1e6, int(client), float(duration)


def _whole_rounds(transactions: list[Transaction]) -> Iterator[Transaction]:
    """Replace durations, which leave the login out, by the time since the same client's last transaction."""
    last: defaultdict[int, float] = defaultdict(float)
    for end, client, _ in transactions:
        if last[client]:
            yield end, client, (end - last[client]) * 1e6
        last[client] = end


def _figures(
    transactions: list[Transaction], samples: Sequence[Sample], has_pooler: bool
) -> dict[str, float]:
    """Return the figures of the window between two samples of processor time, without warm-up and end."""
    first, last = transactions[0][0], transactions[-1][0]
    begin = first + WARM_UP * (last - first)
    inside = [sample for sample in samples if begin <= sample.time <= last]
    if len(inside) < 2:
        raise BenchError("the run was too short to measure")
    start, end = inside[0], inside[-1]
    ends = [transaction[0] for transaction in transactions]
    window = transactions[bisect_left(ends, start.time) : bisect_left(ends, end.time)]
    if not window:
        raise BenchError("no transaction ended in the measured part of the run")
    durations = sorted(transaction[2] for transaction in window)
    figures = {
        "tps": len(window) / (end.time - start.time),
        "transactions": float(len(window)),
        **{f"p{percent}_us": percentile(durations, percent) for percent in (50, 95, 99)},
    }
    if has_pooler:
        figures["cpu_us"] = (end.cpu_ns - start.cpu_ns) / 1e3 / len(window)
    return figures


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the nearest-rank percentile of an ascending sequence that is not empty."""
    rank = max(1, -int(-len(ordered) * percent // 100))
    return ordered[rank - 1]
