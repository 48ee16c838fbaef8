"""Free TCP ports that nobody else of ours takes meanwhile: a bind test and a lock file for each."""

import errno
import fcntl
import os
import random
import socket
import tempfile
from contextlib import suppress
from pathlib import Path

from pgferry.embedded.errors import EmbeddedError

# Below Linux's range for outgoing connections (32768 up), or a client's own port could be in the way.
FIRST, LAST = 20000, 32000


class PortLock:
    """A port that is ours until release(): no other process that uses this class is given it."""

    def __init__(self, port: int, fd: int) -> None:
        self.port = port
        self._fd = fd

    def release(self) -> None:
        """Let others have the port. Harmless twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> int:
        return self.port

    def __exit__(self, *_: object) -> None:
        self.release()


def take_port() -> PortLock:
    """A free port on every local address, locked. Raises EmbeddedError after 200 busy ones."""
    folder = Path(tempfile.gettempdir()) / f"pgferry-ports-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    for port in random.sample(range(FIRST, LAST), 200):
        fd = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            continue
        if is_free(port):
            return PortLock(port, fd)
        os.close(fd)
    raise EmbeddedError(f"No free TCP port was found between {FIRST} and {LAST}.")


def is_free(port: int) -> bool:
    """Whether nobody listens on the port, on IPv4 and (where the machine has it) IPv6."""
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        with suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((address, port))
            except OSError as e:
                # EADDRNOTAVAIL and EAFNOSUPPORT mean that there is no such family here
                if e.errno in (errno.EADDRINUSE, errno.EACCES):
                    return False
    return True
