"""Resource faults in a running pgferry: system calls and allocations that fail as often as a test says (faults.c)."""

import mmap
import os
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).with_name("faults.c")
KINDS = ("epoll_add", "memory")  # as in faults.c; memory: allocations of 16 kB or more


def compiler() -> str | None:
    """The C compiler that the engine was built with, or None."""
    return shutil.which("cc") or shutil.which("gcc")


class Faults:
    """The counters, and the environment for a process that is to have them."""

    def __init__(self, directory: Path) -> None:
        library, counters = directory / "faults.so", directory / "faults"
        found = compiler()
        assert found, "no C compiler"
        subprocess.run([found, "-shared", "-fPIC", "-O2", "-o", library, SOURCE], check=True)
        counters.write_bytes(bytes(4 * len(KINDS)))
        for path, mode in ((library, 0o755), (counters, 0o666)):
            path.chmod(mode)
        with counters.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 4 * len(KINDS))
        self.environment: Mapping[str, str] = {
            "LD_PRELOAD": str(library),
            "PGFERRY_FAULTS": str(counters),
            "PYTHONMALLOC": os.environ.get("PYTHONMALLOC", "default"),
        }

    def fail(self, kind: str, times: int) -> None:
        """Let the next so many fail; 0: no more."""
        struct.pack_into("i", self._map, 4 * KINDS.index(kind), times)

    def left(self, kind: str) -> int:
        """How many of them are still to fail."""
        found: int = struct.unpack_from("i", self._map, 4 * KINDS.index(kind))[0]
        return found
