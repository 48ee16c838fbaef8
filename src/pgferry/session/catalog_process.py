"""analyze_catalog() in a process of its own, with MessagePack on standard input and output.

It is given the rows and the names of harmless_functions, and answers with the Knowledge.
It has little memory and little time, others come before it, and it ends with whoever has started it.
"""

import ctypes
import os
import resource
import signal
import sys

import msgspec

from pgferry.session.catalog import analyze_catalog

MEMORY = 2 << 30
"""Bytes of address space."""
SECONDS = 60
"""Of processor time."""
_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Read, analyze_catalog, write."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    os.nice(10)
    given = tuple[list[tuple[bytes | None, ...]], frozenset[bytes]]
    rows, harmless = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=given)
    sys.stdout.buffer.write(msgspec.msgpack.encode(analyze_catalog(rows, harmless=harmless)))


if __name__ == "__main__":
    main()
