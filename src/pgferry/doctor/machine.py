"""What this machine allows: cores, open files, the backlog, local ports."""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class Machine:
    """Limits of the kernel; 0 where they cannot be read. `open_files` is a running pooler's, else this "
    "shell's."""

    cores: int = 0
    open_files: int = 0
    files_of: str = ""
    somaxconn: int = 0
    local_ports: int = 0

    @classmethod
    def read(cls, pidfile: str = "") -> Machine:
        """Read this machine's; `pidfile` leads to the process whose limit of open files counts."""
        open_files, files_of = resource.getrlimit(resource.RLIMIT_NOFILE)[1], "of this shell (hard limit)"
        if found := _process_limit(pidfile):
            open_files, files_of = found, "of the running process"
        low, high = ([*_numbers("/proc/sys/net/ipv4/ip_local_port_range"), 0, 0])[:2]
        return cls(
            cores=len(os.sched_getaffinity(0)),
            open_files=open_files,
            files_of=files_of,
            somaxconn=next(iter(_numbers("/proc/sys/net/core/somaxconn")), 0),
            local_ports=max(high - low, 0),
        )


def _numbers(path: str) -> list[int]:
    try:
        return [int(word) for word in Path(path).read_text().split()]
    except (OSError, ValueError):
        return []


def _process_limit(pidfile: str) -> int:
    if not pidfile:
        return 0
    pid = next(iter(_numbers(pidfile)), 0)
    try:
        lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    except OSError:
        return 0
    words = next((line.split() for line in lines if line.startswith("Max open files")), [])
    return int(words[4]) if len(words) > 4 and words[4].isdecimal() else 0
