"""Leaving a port that another process listens on too (so_reuseport), without losing a connection.

The kernel gives each new connection to one of the sockets of the port, and resets those that a closed socket has not
yet handed over. So before it is closed, a socket must get no new ones, and those that are under way must arrive:
a filter program sends what is new to another socket of the port, for as long as the shutdown lingers.
"""

import contextlib
import ctypes
import socket
import struct
from collections.abc import Iterator

LINGER_SECONDS = 0.25
_ATTACH_FILTER = 51
_DETACH_FILTER = 68
_RETURN = 0x06


def prepare(fd: int, workers: int) -> None:
    """Send new connections elsewhere, if there is somebody: the sockets behind our own `workers` in the group.

    A number that no socket has leaves the choice to the kernel. What it refuses is left out: then a connection may be
    lost that comes in the instant of closing.
    """
    with contextlib.suppress(OSError), _borrowed(fd) as sock:
        program = ctypes.create_string_buffer(struct.pack("=HBBI", _RETURN, 0, 0, workers))
        whole = struct.pack("@HP", 1, ctypes.addressof(program))
        sock.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, whole)
    # Clients that have connected and not yet sent anything are not handed over while this is on.
    with contextlib.suppress(OSError), _borrowed(fd) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 0)


def undo(fd: int) -> None:
    """The filter belongs to the port, not to the socket: take it back before closing."""
    with contextlib.suppress(OSError), _borrowed(fd) as sock:
        sock.setsockopt(socket.SOL_SOCKET, _DETACH_FILTER, 0)


@contextlib.contextmanager
def _borrowed(fd: int) -> Iterator[socket.socket]:
    sock = socket.socket(fileno=fd)
    try:
        yield sock
    finally:
        sock.detach()
