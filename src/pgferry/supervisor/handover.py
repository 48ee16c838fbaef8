"""Online upgrade (-R): a new pgferry takes the place of the running one, socket by socket.

The new supervisor makes an abstract unix socket and names it to the old one's console (TAKEOVER). The old one connects
there, sends its listening sockets, and waits. When the new workers listen, the new supervisor says `go` with the names
of sockets on which each new worker waits for the old one of its index; from then on workers deal with each other
(worker.handover). Until `go` the old process goes on as if nothing had been.

Other accounts see the names of abstract sockets and can connect, too: whoever runs as another account is sent away, and
the wait for the right one goes on.
"""

import asyncio
import os
import secrets
import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import msgspec

from pgferry.client import ClientError, Connection, ConnectionFailed, QueryError, Target
from pgferry.supervisor.errors import CommandError, StartError, WorkerRefused
from pgferry.supervisor.listeners import Listeners
from pgferry.supervisor.log import Log
from pgferry.supervisor.pooler import Pooler

_SECONDS = 30.0
_CONSOLE = "pgbouncer"
_CONNECT_SECONDS = 10.0
_MAX_FDS = 250
_GAP = 1_000_000


@dataclass(slots=True)
class Taken:
    """What the old process has sent, and the connection on which it waits for `go`."""

    sock: socket.socket
    listeners: Listeners
    http: list[socket.socket]
    statements: int
    pid: int
    unix_path: str | None = None
    doors: list[socket.socket] = field(default_factory=list)

    def http_for(self, wanted: object) -> list[socket.socket] | None:
        """The sockets of the HTTP port, when there were any; closed when the port is not `wanted` any more."""
        if self.http and not wanted:
            for sock in self.http:
                sock.close()
            self.http.clear()
        return self.http or None

    def open_doors(self, workers: int) -> None:
        """A listening socket for each new worker, on which the old one will call."""
        for _ in range(workers):
            self.doors.append(_abstract_listener())

    def go(self) -> None:
        """The new workers listen: the old process may begin."""
        names = [os.fsdecode(door.getsockname()[1:]) for door in self.doors]
        self.sock.sendall(msgspec.msgpack.encode({"go": names}))
        self.sock.close()
        self.listeners.unix_path = self.unix_path
        for door in self.doors:
            door.close()


# --- the new process


def take_over(unix_dir: str, port: int, workers: int, log: Log) -> Taken | None:
    """Ask the process at our unix socket for its place; None when there is none. Raises StartError."""
    if not unix_dir:
        raise StartError("-R needs unix_socket_dir to find the running process")
    path = f"{unix_dir}/.s.PGSQL.{port}"
    ended = threading.Event()
    with _abstract_listener() as listener, ThreadPoolExecutor(1) as beside:
        name = os.fsdecode(listener.getsockname()[1:])
        # Beside the console's answer, which comes when the old process has connected: strangers must not fill it.
        found = beside.submit(accept_own, listener, ended)
        try:
            _tell_console(path, f'TAKEOVER "{name}"')
            sock = found.result()
        except (FileNotFoundError, ConnectionRefusedError):
            log.log(f"nobody to take over from at unix:{path}, normal start")
            return None
        except (OSError, ClientError) as error:
            raise StartError(f"cannot take over from the process at unix:{path}: {error}") from error
        finally:
            ended.set()
    if sock is None:
        raise StartError(f"cannot take over from the process at unix:{path}: it did not connect in time")
    sock.settimeout(_SECONDS)
    data, fds, _flags, _peer = socket.recv_fds(sock, 65536, _MAX_FDS)
    header = msgspec.msgpack.decode(data)
    sockets = [socket.socket(fileno=fd) for fd in fds]
    for each in sockets:
        each.set_inheritable(False)
    if header["workers"] != workers:
        raise StartError(
            f"cannot take over: the running process has workers = {header['workers']}, not {workers}"
        )
    listeners = Listeners()
    for count in header["tcp"]:
        listeners.tcp.append([sockets.pop(0) for _ in range(count)])
    listeners.unix = [sockets.pop(0) for _ in range(header["unix"])]
    log.log(f"taking over from pid {header['pid']}")
    return Taken(sock, listeners, sockets, header["statements"] + _GAP, header["pid"], header["unix_path"])


def accept_own(
    listener: socket.socket, ended: threading.Event, seconds: float = _SECONDS
) -> socket.socket | None:
    """The first connection of a process of this account; None when there is none in time, or when it is `ended`."""
    listener.settimeout(0.1)
    limit = time.monotonic() + seconds
    while not ended.is_set() and time.monotonic() < limit:
        try:
            sock, _ = listener.accept()
        except TimeoutError:
            continue
        if _is_own(sock):
            return sock
        sock.close()
    return None


def _tell_console(path: str, command: str) -> None:
    """Run one command on the console as the account that runs both. Raises OSError, ClientError, StartError."""
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(_SECONDS)
        sock.connect(address)
        if not _is_own(sock):
            raise StartError(
                f"cannot take over from the process at unix:{path}: it belongs to another account"
            )
        try:
            console = Connection(Target(path, 0, _CONSOLE, _CONSOLE), sock=sock, timeout=_SECONDS)
            console.query(command)
        except ConnectionFailed as error:
            raise StartError(f"cannot take over: {error.reason}") from error
        except QueryError as error:
            raise StartError(f"cannot take over: {error.message}") from error


def _abstract_listener() -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(f"\0pgferry_{secrets.token_hex(16)}")
    sock.listen(128)
    return sock


def _is_own(sock: socket.socket) -> bool:
    """Whether the process at the other end runs as our account."""
    _pid, uid, _gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return bool(uid == os.geteuid())


# --- the old process


async def _connect(sock: socket.socket, name: str) -> None:
    """Connect, without holding up everything else while strangers fill the queue there. Raises OSError."""
    sock.setblocking(False)
    limit = time.monotonic() + _CONNECT_SECONDS
    while True:
        try:
            sock.connect("\0" + name)
            break
        except BlockingIOError:
            if time.monotonic() > limit:
                raise
            await asyncio.sleep(0.02)
    sock.setblocking(True)


class Handover:
    """The old supervisor's side."""

    def __init__(
        self, pooler: Pooler, http: Sequence[socket.socket], stop_web: Callable[[], Awaitable[None]]
    ) -> None:
        self._pooler = pooler
        self._http = http
        self._stop_web = stop_web
        self._task: asyncio.Task[None] | None = None

    async def begin(self, name: str) -> None:
        """Send what we listen on to the process that waits under this name. Raises CommandError."""
        if self._pooler.state.shutdown or (self._task is not None and not self._task.done()):
            raise CommandError("shutting down or handing over already")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            await _connect(sock, name)
            if not _is_own(sock):
                raise PermissionError("the other process belongs to another account")
            await self._send_listeners(sock)
        except (OSError, WorkerRefused) as error:
            sock.close()
            raise CommandError(f"cannot hand over: {error}") from error
        self._task = asyncio.get_running_loop().create_task(self._wait_for_go(sock))

    async def _send_listeners(self, sock: socket.socket) -> None:
        listeners = self._pooler.listeners
        numbers = await self._pooler.fleet.ask_all("last_statement", _SECONDS)
        header = {
            "workers": len(listeners.tcp),
            "tcp": [len(group) for group in listeners.tcp],
            "unix": len(listeners.unix),
            "unix_path": listeners.unix_path,
            "pid": os.getpid(),
            "statements": max((int(answer["number"]) for answer in numbers.values()), default=0),
        }
        sockets = [each for group in listeners.tcp for each in group] + listeners.unix + list(self._http)
        socket.send_fds(sock, [msgspec.msgpack.encode(header)], [each.fileno() for each in sockets])

    async def _wait_for_go(self, sock: socket.socket) -> None:
        pooler = self._pooler
        sock.setblocking(False)
        data = await asyncio.get_running_loop().sock_recv(sock, 65536)
        sock.close()
        if not data:
            pooler.log.warning("the process that wanted to take over is gone; going on as before")
            return
        names = msgspec.msgpack.decode(data)["go"]
        pooler.log.log("handing over to a new process")
        pooler.state.shutdown = "handover"
        pooler.fleet.draining = True
        pooler.listeners.leave()
        await self._stop_web()
        answers = await asyncio.gather(
            *(pooler.fleet.ask(index, "hand_over", None, name=name) for index, name in enumerate(names)),
            return_exceptions=True,
        )
        kept = []
        for index, answer in enumerate(answers):
            if isinstance(answer, BaseException):
                pooler.log.error(f"worker {index} could not hand over: {answer}")
            if isinstance(answer, WorkerRefused):
                kept.append(index)
        if kept:
            pooler.log.warning("clients that could not be handed over stay until they leave")
            await asyncio.gather(
                *(pooler.fleet.ask(i, "shutdown", None, mode="wait_for_clients") for i in kept),
                return_exceptions=True,
            )
        clients = sum(a["clients"] for a in answers if not isinstance(a, BaseException))
        servers = sum(a["servers"] for a in answers if not isinstance(a, BaseException))
        pooler.log.log(f"handed over {clients} clients and {servers} servers, exiting")
        pooler.end(5.0)
