"""A PostgreSQL server made of a script: it says what a test wants, right or wrong, to every connection."""

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress

from pgferry.protocol.startup import SSLRequest
from support.wire import Wire, message

AUTH_OK = message(b"R", struct.pack("!i", 0))
READY = message(b"Z", b"I")
SSL_REQUEST = SSLRequest().payload()
GREETING = b"".join(
    (
        AUTH_OK,
        *(
            message(b"S", f"{name}\0{value}\0".encode())
            for name, value in {
                "server_version": "15.0 (fake)",
                "server_encoding": "UTF8",
                "client_encoding": "UTF8",
                "DateStyle": "ISO, MDY",
                "IntervalStyle": "postgres",
                "TimeZone": "UTC",
                "standard_conforming_strings": "on",
                "application_name": "",
                "integer_datetimes": "on",
            }.items()
        ),
        message(b"K", struct.pack("!ii", 4711, 815)),
        READY,
    )
)


def result(text: str) -> bytes:
    """The whole answer to a simple query: one row with one column."""
    column = b"a\0" + struct.pack("!ihihih", 0, 0, 25, -1, -1, 0)
    value = text.encode()
    return b"".join(
        (
            message(b"T", struct.pack("!h", 1) + column),
            message(b"D", struct.pack("!hi", 1, len(value)) + value),
            message(b"C", b"SELECT 1\0"),
            READY,
        )
    )


class Conversation:
    """One connection, as the script sees it. Everything raises OSError or EOFError at its end."""

    def __init__(self, sock: socket.socket) -> None:
        self.wire = Wire(sock)

    def startup(self) -> bytes:
        """Read the startup packet; an SSLRequest in front of it is refused."""
        packet = self.wire.recv_packet()
        if packet == SSL_REQUEST:
            self.send(b"N")
            return self.startup()
        return packet

    def recv(self) -> tuple[bytes, bytes]:
        """Read one message: type and body."""
        return self.wire.recv_parts()

    def send(self, *parts: bytes) -> None:
        self.wire.send(*parts)

    def login(self) -> None:
        """A login as it should be."""
        self.startup()
        self.send(GREETING)

    def wait_for_end(self) -> None:
        """Say nothing until the other side closes."""
        while self.wire.sock.recv(65536):
            pass


class FakeServer:
    """Listens on 127.0.0.1:`port`; script(conversation) runs for each connection, which is closed behind it.

    `script` may be replaced at any time. Use it in a with statement.
    """

    def __init__(self, script: Callable[[Conversation], None]) -> None:
        self.script = script
        self.accepted = 0
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.host, self.port = self._listener.getsockname()[:2]
        self._socks: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def line(self) -> str:
        """For [databases]."""
        return f"host={self.host} port={self.port}"

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self._socks.append(sock)
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with suppress(OSError, EOFError), sock:
            self.script(Conversation(sock))

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._socks:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> "FakeServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
