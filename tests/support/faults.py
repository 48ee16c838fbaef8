"""Resource faults in a running pgferry: system calls and allocations that fail when a test says so (faults.c)."""

import errno
import mmap
import os
import shutil
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).with_name("faults.c")
HALF = -1
"""Not an error: only a part of the bytes is sent."""
LARGE = 16384
"""Bytes of an allocation that counts as memory, unless a test says otherwise."""
# As in faults.c, in its order: what the kernel says where nothing else is asked for.
KINDS: Mapping[str, int] = {
    "epoll_add": errno.ENOSPC,
    "memory": errno.ENOMEM,
    "epoll_wait": errno.EINTR,
    "accept": errno.EMFILE,
    "recv": errno.ECONNRESET,
    "send": errno.ENOBUFS,
    "socket": errno.EMFILE,
    "connect": errno.ECONNREFUSED,
    "open": errno.EMFILE,
    "fork": errno.EAGAIN,
    "thread": errno.EAGAIN,
    "eventfd": errno.EMFILE,
    "socketpair": errno.EMFILE,
    "pipe": errno.EMFILE,
    "splice": errno.ENOMEM,
    "write": errno.ENOSPC,
}
_HEAD, _KIND = struct.Struct("ii"), struct.Struct("iiii")
_SIZE = _HEAD.size + _KIND.size * len(KINDS)


def compiler() -> str | None:
    """The C compiler that the engine was built with, or None."""
    return shutil.which("cc") or shutil.which("gcc")


class Faults:
    """What is to fail, and the environment for a process that is to have it."""

    def __init__(self, directory: Path) -> None:
        library, counters = directory / "faults.so", directory / "faults"
        found = compiler()
        assert found, "no C compiler"
        subprocess.run(
            [found, "-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o", library, SOURCE, "-ldl"], check=True
        )
        counters.write_bytes(_HEAD.pack(0, LARGE) + bytes(_SIZE - _HEAD.size))
        for path, mode in ((library, 0o755), (counters, 0o666)):
            path.chmod(mode)
        with counters.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _SIZE)
        self.environment: Mapping[str, str] = {
            "LD_PRELOAD": str(library),
            "PGFERRY_FAULTS": str(counters),
            "PYTHONMALLOC": os.environ.get("PYTHONMALLOC", "default"),
        }

    def only(self, pid: int = 0, large: int = LARGE) -> None:
        """Faults happen in this process only (0: in all), and to allocations of so many bytes and more."""
        _HEAD.pack_into(self._map, 0, pid, large)

    def fail(self, kind: str, times: int = 1, code: int = 0, after: int = 0) -> None:
        """Let the next so many fail, with this errno, after so many that do not. 0: no more. Counts from 0 again."""
        at = _HEAD.size + _KIND.size * list(KINDS).index(kind)
        _KIND.pack_into(self._map, at, 0, 0, 0, 0)
        _KIND.pack_into(self._map, at, times, after, 0, code or KINDS[kind])

    def stop(self) -> None:
        """Nothing fails any more."""
        for kind in KINDS:
            self.fail(kind, 0)

    def left(self, kind: str) -> int:
        """How many of them are still to fail."""
        return self._figures(kind)[0]

    def calls(self, kind: str) -> int:
        """How many there were since fail()."""
        return self._figures(kind)[2]

    def _figures(self, kind: str) -> tuple[int, int, int, int]:
        at = _HEAD.size + _KIND.size * list(KINDS).index(kind)
        left, after, calls, code = _KIND.unpack_from(self._map, at)
        return left, after, calls, code
