"""Online upgrade, between the old and the new worker of one index: sockets with what belongs to them, one by one.

Frames of 4 bytes length and a msgpack map on a unix socket. The old worker sends `move` with a descriptor, the new
one answers `moved` or `kept`; until then the old one has its descriptor, too, and goes on with it when the new one is
gone. The new one sends `cancel` for keys that it does not know.
"""

import array
import os
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Any

from pgferry.engine.core.model import Engine
from pgferry.engine.io.stream import Stream
from pgferry.engine.ops import handover
from pgferry.engine.ops.worker_loop import Watch
from pgferry.frames import Frames, Message, packed

WINDOW = 200
"""How many may be on their way at the same time."""


class HandoverConnection:
    """One end of the connection between the two workers."""

    def __init__(self, engine: Engine, sock: socket.socket) -> None:
        sock.setblocking(False)
        peer = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if peer[1] != os.geteuid():
            raise PermissionError("the other end belongs to somebody else")
        self._engine = engine
        self._sock = sock
        self._frames = Frames()
        self._fds: deque[int] = deque()
        self._out: deque[tuple[bytes, int | None]] = deque()
        self.closed = False
        self._watch = Watch(engine.loop, os.dup(sock.fileno()), self._run, True)

    def send(self, message: Message, fd: int | None = None) -> None:
        """Send a frame; the descriptor stays ours."""
        self._out.append((packed(message), fd))
        self._flush()

    def close(self) -> None:
        """End the connection."""
        if not self.closed:
            self.closed = True
            self._watch.stop()
            self._sock.close()
            while self._fds:
                os.close(self._fds.popleft())
            self.on_closed()

    def on_message(self, message: Message, _fd: int | None) -> None:
        """A frame has come; the descriptor is ours now."""
        raise NotImplementedError

    def on_closed(self) -> None:
        """The connection is over."""

    def _run(self) -> None:
        self._flush()
        while not self.closed:
            try:
                data, fds, _flags, _peer = socket.recv_fds(self._sock, 262144, 64)
            except BlockingIOError:
                return
            except OSError:
                data, fds = b"", []
            self._fds.extend(fds)
            if not data:
                self.close()
                return
            try:
                for message in self._frames.feed(data):
                    fd = self._fds.popleft() if message["op"] == "move" and self._fds else None
                    try:
                        self.on_message(message, fd)
                    except Exception as error:  # costs what it was about: others move on
                        self._engine.loop.report(self, error)
                    if self.closed:
                        return
            except ValueError:
                self.close()

    def _flush(self) -> None:
        while self._out and not self.closed:
            data, fd = self._out[0]
            rights = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))]
            try:
                sent = self._sock.sendmsg([data], rights)
            except BlockingIOError:
                return
            except OSError:
                self.close()
                return
            if sent == len(data):
                self._out.popleft()
            else:
                self._out[0] = (data[sent:], None)


class HandoverSender(HandoverConnection):
    """The old worker's end: sends each client and server that is between two transactions, until nothing is left."""

    def __init__(self, engine: Engine, name: str, cancel: Callable[[bytes], None]) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect("\0" + name)
        except OSError:
            sock.close()
            raise
        self._cancel = cancel
        self._next = 0
        self._moving: dict[int, Stream] = {}
        self._refused: set[Stream] = set()
        self.clients = self.servers = 0
        super().__init__(engine, sock)

    def go_on(self) -> None:
        """Send what is between transactions now. Servers first, so that clients find them there."""
        if self.closed:
            return
        for server in handover.movable_servers(self._engine, self._room() + len(self._refused)):
            if server not in self._refused and self._room() > 0:
                self._send(server, handover.describe_server)
        for client in handover.movable_clients(self._engine, self._room() + len(self._refused)):
            if client not in self._refused and self._room() > 0:
                self._send(client, handover.describe_client)

    def _room(self) -> int:
        return max(0, WINDOW - len(self._moving))

    def _send(self, stream: Any, describe: Callable[[Any], Message]) -> None:
        try:
            about = describe(stream)
        except Exception as error:  # it stays here, as one does that the new process refuses
            self._engine.loop.report(stream, error)
            self._refused.add(stream)
            handover.take_back(stream)
            return
        self._next += 1
        self._moving[self._next] = stream
        self.send({"op": "move", "id": self._next, "about": about}, stream.fd)

    def on_message(self, message: Message, _fd: int | None) -> None:
        """`moved` and `kept`: what has become of one; `cancel`: a request for a client that is still here."""
        if message["op"] == "cancel":
            self._cancel(message["key"])
            return
        stream = self._moving.pop(message["id"])
        if message["op"] == "moved":
            self.clients += message["kind"] == "client"
            self.servers += message["kind"] == "server"
            handover.forget_moved(stream)
        else:
            self._refused.add(stream)
            handover.take_back(stream)
        if len(self._moving) < WINDOW // 4:
            self.go_on()

    def on_closed(self) -> None:
        """What was on its way stays here."""
        for stream in self._moving.values():
            handover.take_back(stream)
        self._moving.clear()


class HandoverReceiver(HandoverConnection):
    """The new worker's end."""

    def on_message(self, message: Message, _fd: int | None) -> None:
        """`move`: a client or a server."""
        fd = _fd
        if message["op"] != "move" or fd is None:
            return
        about = message["about"]
        os.set_inheritable(fd, False)
        os.set_blocking(fd, False)
        server = None
        try:
            if about["kind"] == "client":
                handover.accept_client(self._engine, about, fd)
            else:
                server = handover.accept_server(self._engine, about, fd)
        except Exception as error:  # whatever it is: the old process goes on with it
            os.close(fd)
            self._engine.log.write("WARNING", f"a {about['kind']} stays in the old process: {error!r}")
            self.send({"op": "kept", "id": message["id"]})
            return
        self.send({"op": "moved", "id": message["id"], "kind": about["kind"]})
        if server is not None:
            handover.begin_server(server)

    def cancel(self, key: bytes) -> None:
        """A cancel request for a client that we do not have: it may still be there."""
        if not self.closed:
            self.send({"op": "cancel", "key": key})


class HandoverListener:
    """Where the old worker finds the new one: a listening socket that the supervisor has made."""

    def __init__(self, engine: Engine, fd: int) -> None:
        self._engine = engine
        self._sock = socket.socket(fileno=fd)
        self._sock.setblocking(False)
        self._watch = Watch(engine.loop, os.dup(fd), self._accept)
        self.receiver: HandoverReceiver | None = None

    def _accept(self) -> None:
        try:
            sock, _ = self._sock.accept()
        except BlockingIOError:
            return
        try:
            self.receiver = HandoverReceiver(self._engine, sock)
        except PermissionError as error:
            sock.close()
            self._engine.log.write("WARNING", f"hand-over refused: {error}")
