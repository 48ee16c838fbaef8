"""What the benchmark needs from the machine: programs, limits, and its description for the report."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


class BenchError(Exception):
    """The benchmark cannot go on; the text says what is missing or broken and what to do."""


def require(name: str, package: str) -> str:
    """Return the path of the program `name`; raises BenchError naming the Debian `package` that has it."""
    path = shutil.which(name)
    if path is None:
        raise BenchError(
            f"{name} is missing: install it (Debian: apt-get install {package}) or put it on PATH"
        )
    return path


def raise_descriptor_limit() -> int:
    """Lift the soft limit of open files to the hard one for us and all children; returns the limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def log_tail(path: Path, lines: int = 5) -> str:
    """Return the last lines of a log, for error texts."""
    if not path.exists():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def describe_machine() -> dict[str, str]:
    """Return the facts about this machine that a reader needs to judge the figures."""
    return {
        "cpu": _first_field("/proc/cpuinfo", "model name"),
        "cores": str(os.cpu_count()),
        "memory": f"{int(_first_field('/proc/meminfo', 'MemTotal').split()[0]) / 1024**2:.0f} GiB",
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "python": platform.python_version(),
    }


def clock_mhz() -> float:
    """Return the processor's clock rate; raises BenchError where the kernel does not tell it."""
    mhz = float(_first_field("/proc/cpuinfo", "cpu MHz"))
    if not mhz:
        raise BenchError("/proc/cpuinfo does not tell the clock rate")
    return mhz


def repository_version() -> str:
    """Return the short commit of this checkout, marked when files differ from it, or 'unknown'."""
    git = shutil.which("git")
    if git is None:
        return "unknown"
    command = [git, "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=10"]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    return outcome.stdout.strip() or "unknown"


def _first_field(path: str, name: str) -> str:
    """Return the value of the first `name: value` line of a /proc file."""
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "0"
