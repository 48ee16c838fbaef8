"""Online upgrade (-R): a new pgferry takes the place of the running one, socket by socket.

The new supervisor makes an abstract unix socket and names it to the old one's console (TAKEOVER). The old one connects
there, sends its listening sockets, and waits. When the new workers listen, the new supervisor says `go` with the names
of sockets on which each new worker waits for the old one of its index; from then on workers deal with each other
(worker.handover). Until `go` the old process goes on as if nothing had been.

Other accounts see the names of abstract sockets and can connect, too: whoever runs as another account is sent away, and
the wait for the right one goes on.
"""

import asyncio
import contextlib
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
from pgferry.supervisor.errors import CommandError, StartError, WorkerGone, WorkerRefused
from pgferry.supervisor.listeners import Listeners
from pgferry.supervisor.log import Log
from pgferry.supervisor.pooler import Pooler

_SECONDS = 30.0
_ANSWER_SECONDS = 10.0
"""For a worker's answer, well before the new process gives up waiting for the console's."""
_GO_SECONDS = 90.0
"""For the start of the new workers; then the new process does not have the old one's place any more."""
_CONSOLE = "pgbouncer"
_CONNECT_SECONDS = 10.0
_MAX_FDS = 250
_GAP = 1_000_000


class _Go(msgspec.Struct):
    """The new workers listen, on abstract sockets with these names."""

    go: list[str]


class _Header(msgspec.Struct):
    """What comes with the sockets, in this order: TCP for each worker, unix, HTTP."""

    workers: int
    tcp: list[int]
    unix: int
    unix_path: str | None
    pid: int
    statements: int
    """The highest number that a prepared statement has on the servers."""


@dataclass(slots=True)
class Taken:
    """What the old process has sent, and the connection on which it waits for `go`."""

    sock: socket.socket
    listeners: Listeners
    http: list[socket.socket]
    statements: int
    pid: int
    unix_path: str | None = None
    handover_sockets: list[socket.socket] = field(default_factory=list)

    def http_for(self, wanted: object) -> list[socket.socket] | None:
        """The sockets of the HTTP port, when there were any; closed when the port is not `wanted` any more."""
        if self.http and not wanted:
            for sock in self.http:
                sock.close()
            self.http.clear()
        return self.http or None

    def open_handover_sockets(self, workers: int) -> None:
        """A listening socket for each new worker, on which the old one will call. Raises StartError."""
        try:
            for _ in range(workers):
                self.handover_sockets.append(_abstract_listener())
        except OSError as error:
            self.close()
            raise StartError(f"cannot take over: {error}") from error

    def go(self) -> None:
        """The new workers listen: the old process may begin. Raises StartError when it waits no more."""
        names = [os.fsdecode(sock.getsockname()[1:]) for sock in self.handover_sockets]
        try:
            self.sock.sendall(msgspec.msgpack.encode({"go": names}))
        except OSError as error:
            raise StartError(f"cannot take over: pid {self.pid} does not wait any more: {error}") from error
        finally:
            self._leave()
        self.listeners.unix_path = self.unix_path

    def close(self) -> None:
        """Give up: the old process goes on as before."""
        self.listeners.close()
        for sock in self.http:
            sock.close()
        self._leave()

    def _leave(self) -> None:
        self.sock.close()
        for sock in self.handover_sockets:
            sock.close()


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
    try:
        taken = _receive(sock, workers)
    except BaseException:
        sock.close()
        raise
    log.log(f"taking over from pid {taken.pid}")
    return taken


def _receive(sock: socket.socket, workers: int) -> Taken:
    """What the old process sends on this connection. Raises StartError; then no descriptor is left."""
    sock.settimeout(_SECONDS)
    try:
        data, fds, flags, _peer = socket.recv_fds(sock, 65536, _MAX_FDS)
    except OSError as error:
        raise StartError(f"cannot take over: nothing came from the running process: {error}") from error
    with contextlib.ExitStack() as until_complete:
        for fd in fds:
            until_complete.callback(os.close, fd)
        try:
            header = msgspec.msgpack.decode(data, type=_Header)
        except msgspec.MsgspecError as error:
            raise StartError(
                f"cannot take over: the running process sends something else: {error}"
            ) from error
        if header.workers != workers:
            raise StartError(
                f"cannot take over: the running process has workers = {header.workers}, not {workers}"
            )
        if flags & socket.MSG_CTRUNC or len(fds) < sum(header.tcp) + header.unix:
            raise StartError("cannot take over: not all sockets have come, more files may have to be open")
        for fd in fds:
            os.set_inheritable(fd, False)
        until_complete.pop_all()
        sockets = [socket.socket(fileno=fd) for fd in fds]
    listeners = Listeners()
    for count in header.tcp:
        listeners.tcp.append([sockets.pop(0) for _ in range(count)])
    listeners.unix = [sockets.pop(0) for _ in range(header.unix)]
    return Taken(sock, listeners, sockets, header.statements + _GAP, header.pid, header.unix_path)


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
        self._busy = False
        """From TAKEOVER until the other process has given up."""

    async def begin(self, name: str) -> None:
        """Send what we listen on to the process that waits under this name. Raises CommandError."""
        if self._pooler.state.shutdown or self._busy:
            raise CommandError("shutting down or handing over already")
        self._busy = True
        sock: socket.socket | None = None
        try:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            await _connect(sock, name)
            if not _is_own(sock):
                raise PermissionError("the other process belongs to another account")
            await self._send_listeners(sock)
        except BaseException as error:
            self._busy = False
            if sock is not None:
                sock.close()
            if isinstance(error, (OSError, WorkerRefused)):
                raise CommandError(f"cannot hand over: {error}") from error
            raise
        self._task = asyncio.get_running_loop().create_task(self._wait_for_go(sock))

    async def _send_listeners(self, sock: socket.socket) -> None:
        """Raises OSError, WorkerRefused."""
        listeners = self._pooler.listeners
        header = _Header(
            workers=len(listeners.tcp),
            tcp=[len(group) for group in listeners.tcp],
            unix=len(listeners.unix),
            unix_path=listeners.unix_path,
            pid=os.getpid(),
            statements=await self._last_statement(),
        )
        sockets = [each for group in listeners.tcp for each in group] + listeners.unix + list(self._http)
        socket.send_fds(sock, [msgspec.msgpack.encode(header)], [each.fileno() for each in sockets])

    async def _last_statement(self) -> int:
        """The highest number of a prepared statement. Raises WorkerRefused: one cannot tell, or hand over."""
        last = 0
        for index, answer in (await self._pooler.fleet.ask_each("last_statement", _ANSWER_SECONDS)).items():
            if isinstance(answer, WorkerRefused):
                raise answer
            if isinstance(answer, TimeoutError):
                raise WorkerRefused(f"worker {index} does not answer")
            if not isinstance(answer, WorkerGone):
                last = max(last, int(answer["number"]))
        return last

    async def _wait_for_go(self, sock: socket.socket) -> None:
        pooler = self._pooler
        sock.setblocking(False)
        names: list[str] = []
        reason = "is gone"
        try:
            async with asyncio.timeout(_GO_SECONDS):
                data = await asyncio.get_running_loop().sock_recv(sock, 65536)
            if data:
                names = msgspec.msgpack.decode(data, type=_Go).go
        except TimeoutError:
            reason = f"was not ready within {_GO_SECONDS:g} s"
        except (OSError, msgspec.MsgspecError) as error:
            reason = f"is gone: {error}"
        finally:
            sock.close()
        if not names:
            self._busy = False
            pooler.log.warning(f"the process that wanted to take over {reason}; going on as before")
            return
        await self._hand_over(names)

    async def _hand_over(self, names: list[str]) -> None:
        pooler = self._pooler
        pooler.log.log("handing over to a new process")
        pooler.state.shutdown = "handover"
        pooler.fleet.draining = True
        pooler.listeners.leave()
        try:
            await self._stop_web()
        except Exception as error:  # its clients come again, those of the database are waited for
            pooler.log.error(f"the HTTP port was not closed in good order: {error}")
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
