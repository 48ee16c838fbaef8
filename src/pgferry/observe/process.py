"""Memory, processor time and descriptors of a process, from /proc."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process uses now."""

    cpu_seconds: float
    resident_bytes: int
    descriptors: int


def usage(pid: int) -> Usage | None:
    """The usage of a process, None when it is gone."""
    folder = Path(f"/proc/{pid}")
    try:
        # The name in parentheses may hold anything; what follows it is numbers.
        numbers = (folder / "stat").read_text().rpartition(")")[2].split()
        descriptors = sum(1 for _ in (folder / "fd").iterdir())
    except (OSError, ValueError):
        return None
    return Usage((int(numbers[11]) + int(numbers[12])) / _TICKS, int(numbers[21]) * _PAGE, descriptors)
