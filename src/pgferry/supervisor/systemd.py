"""What a service manager gives and wants: notifications, the watchdog's heartbeat, sockets that are open already."""

import contextlib
import os
import socket
import time
from collections.abc import Sequence

from pgferry.supervisor.errors import StartError

_FIRST_FD = 3


def notify(text: str) -> None:
    """Send `text` (as `READY=1`) to the service manager, when there is one. Never blocks, never fails."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("/", "@"):
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.sendto(text.encode(), "\0" + address[1:] if address[0] == "@" else address)


def reloading() -> None:
    """Tell that a reload begins; Type=notify-reload knows by the clock to which signal it belongs."""
    notify(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def watchdog_seconds() -> float | None:
    """How long the service manager waits for a WATCHDOG=1 before it takes us for hung; None: it does not watch."""
    text, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not text.isdecimal() or int(text) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(text) / 1e6


def passed_sockets() -> list[socket.socket]:
    """The listening sockets that were passed to this process (LISTEN_FDS), none without socket activation.

    The environment does not tell of them afterwards, and child processes do not inherit them by accident.
    Raises StartError when one of them is not for us to listen on.
    """
    pid, count = os.environ.get("LISTEN_PID", ""), os.environ.get("LISTEN_FDS", "")
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        os.environ.pop(name, None)
    sockets = []
    for fd in range(_FIRST_FD, _FIRST_FD + int(count)):
        try:
            sock = socket.socket(fileno=fd)
        except OSError as error:
            raise StartError(f"file descriptor {fd} of LISTEN_FDS is no socket: {error.strerror}") from error
        sock.set_inheritable(False)
        sockets.append(sock)
    _check(sockets)
    return sockets


def _check(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        if sock.family not in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX):
            raise StartError(f"file descriptor {sock.fileno()} of LISTEN_FDS is no TCP or unix socket")
        if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise StartError(f"file descriptor {sock.fileno()} of LISTEN_FDS does not listen for connections")
