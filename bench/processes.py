"""Processor time and memory of a pooler: all its processes, read from the kernel without disturbing them."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

SAMPLE_INTERVAL_S = 0.05


@dataclass(frozen=True, slots=True)
class Memory:
    """Memory in bytes, summed over processes: proportional share (`pss`), private pages and resident size."""

    pss: int
    private: int
    rss: int


def family(root: int) -> list[int]:
    """Return `root` and all its living descendants."""
    found = [root]
    for pid in found:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                found.extend(int(child) for child in task.read_text().split())
            except OSError:  # that thread has ended meanwhile
                continue
    return found


def cpu_ns(pid: int) -> int:
    """Return the processor time in ns (user and system, ended threads too) of `pid`; 0 when it is gone.

    The kernel's clock of another process (clock_getcpuclockid(3)) has ns resolution; /proc/PID/stat counts
    ticks of 10 ms and /proc/PID/schedstat only the main thread.
    """
    try:
        return time.clock_gettime_ns(~pid << 3 | 2)
    except OSError:
        return 0


def memory(pids: list[int]) -> Memory:
    """Return the memory of `pids` from /proc/PID/smaps_rollup, which is slow: not for use in a load."""
    pss = private = rss = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, value = line.split()[:2]
            if name == "Pss:":
                pss += int(value) * 1024
            elif name == "Rss:":
                rss += int(value) * 1024
            elif name in ("Private_Clean:", "Private_Dirty:"):
                private += int(value) * 1024
    return Memory(pss, private, rss)


@dataclass(frozen=True, slots=True)
class Sample:
    """Processor time in ns used so far by the family, at wall-clock `time` in seconds."""

    time: float
    cpu_ns: int


class CpuMeter:
    """Samples the processor time of a family of processes while a `with` block runs.

    Load generators log each transaction with its time, so any two samples give the processor time per
    transaction between them, without the logins and the warm-up before.
    """

    def __init__(self, root: int | None) -> None:
        """Watch the process `root` and its descendants; None (a direct connection) measures nothing."""
        self._root = root
        self._last: dict[int, int] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.samples: list[Sample] = []

    def __enter__(self) -> CpuMeter:
        self._take()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        self._take()

    @property
    def total_s(self) -> float:
        """Processor seconds from the first to the last sample."""
        return (self.samples[-1].cpu_ns - self.samples[0].cpu_ns) / 1e9

    def _run(self) -> None:
        while not self._done.wait(SAMPLE_INTERVAL_S):
            self._take()

    def _take(self) -> None:
        # A process that ended keeps what it had used at the last sample.
        for pid in family(self._root) if self._root is not None else ():
            self._last[pid] = max(cpu_ns(pid), self._last.get(pid, 0))
        self.samples.append(Sample(time.time(), sum(self._last.values())))
