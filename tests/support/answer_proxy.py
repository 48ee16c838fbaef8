"""A proxy in front of PostgreSQL that tears an answer apart: the error first, ReadyForQuery when the test says so."""

import socket
import threading
from contextlib import suppress

from pgferry.client import Address, connect
from support.wire import Wire, message


class AnswerProxy:
    """Listens on 127.0.0.1:`port` and forwards to `target`; no TLS. Use it in a with statement.

    hold(), hold_after_error() and fail() work once, on any connection; then wait for `held` and call release().
    """

    def __init__(self, target: Address) -> None:
        self.target = target
        self.held = threading.Event()  # an error has been passed on, and what follows it waits
        self.queries: list[bytes] = []  # the texts of all Queries that went by
        self.ended = threading.Event()  # pgferry has closed a connection
        self._go = threading.Event()
        self._pattern: bytes | None = None
        self._code: bytes | None = None
        self._armed = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def hold_after_error(self) -> None:
        """Pass on the next ErrorResponse, and hold back what the server says behind it."""
        self.held.clear()
        self._go.clear()
        self._armed = True

    def hold(self, pattern: bytes) -> None:
        """Keep the next Query with `pattern` in it from the server, and all that comes behind it."""
        self.held.clear()
        self._go.clear()
        self._pattern, self._code = pattern, None

    def fail(self, pattern: bytes, code: str) -> None:
        """Answer the next Query with `pattern` in it with this SQLSTATE; the server does not get it."""
        self.held.clear()
        self._go.clear()
        self._pattern, self._code = pattern, code.encode()

    def release(self) -> None:
        """Let the rest go."""
        self._go.set()

    def __enter__(self) -> "AnswerProxy":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        for sock in [self._listener, *self._open]:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = connect(self.target, 10.0)
                server.settimeout(None)
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._open += [client, server]
                lock = threading.Lock()
                for work in (self._to_server, self._to_client):
                    threading.Thread(target=work, args=(client, server, lock), daemon=True).start()

    def _to_server(self, client: socket.socket, server: socket.socket, lock: threading.Lock) -> None:
        with suppress(OSError, EOFError):
            wire = Wire(client)
            packet = wire.recv_packet()
            server.sendall((len(packet) + 4).to_bytes(4, "big") + packet)
            while True:
                kind, body = wire.recv_parts()
                if kind == b"Q":
                    self.queries.append(body[:-1])
                if kind == b"Q" and self._pattern is not None and self._pattern in body:
                    self._pattern = None
                    if self._code is None:
                        self.held.set()
                        self._go.wait()
                        server.sendall(message(kind, body))
                        continue
                    text = b"SERROR\0VERROR\0C" + self._code + b"\0Mfailed by the test\0\0"
                    with lock:
                        client.sendall(message(b"E", text))
                        self.held.set()
                        self._go.wait()
                        client.sendall(message(b"Z", b"I"))
                    continue
                server.sendall(message(kind, body))
        self.ended.set()
        _end(client, server)

    def _to_client(self, client: socket.socket, server: socket.socket, lock: threading.Lock) -> None:
        with suppress(OSError, EOFError):
            wire = Wire(server)
            while True:
                kind, body = wire.recv_parts()
                with lock:
                    client.sendall(message(kind, body))
                    if kind == b"E" and self._armed:
                        self._armed = False
                        self.held.set()
                        self._go.wait()
        _end(client, server)


def _end(*pair: socket.socket) -> None:
    for sock in pair:
        with suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
