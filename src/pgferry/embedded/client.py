"""The smallest PostgreSQL client: trust login and the simple query protocol, for set-up and consoles."""

import socket
import struct
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from pgferry.embedded.errors import EmbeddedError

Address = tuple[str, int] | str  # (host, port), or the path of a unix socket


class QueryError(EmbeddedError):
    """The server answered with an ErrorResponse; `fields` by their letters ("C" is the SQLSTATE)."""

    def __init__(self, fields: dict[str, str]) -> None:
        self.fields = fields
        super().__init__(f"{fields.get('S', 'ERROR')}: {fields.get('M', '')} ({fields.get('C', '')})")


@dataclass(slots=True)
class Result:
    """Column names and rows (text, None for NULL) of the last statement that returned rows."""

    columns: list[str] = field(default_factory=list)
    rows: list[tuple[str | None, ...]] = field(default_factory=list)


def startup_packet(user: str, database: str, **parameters: str) -> bytes:
    """StartupMessage of protocol 3.0 (PostgreSQL docs, 54.7)."""
    pairs = {"user": user, "database": database, **parameters}
    body = b"".join(f"{k}\0{v}\0".encode() for k, v in pairs.items()) + b"\0"
    return struct.pack("!ii", len(body) + 8, 196608) + body


def query_packet(sql: str) -> bytes:
    """Query message."""
    body = sql.encode() + b"\0"
    return b"Q" + struct.pack("!i", len(body) + 4) + body


def error_fields(body: bytes) -> dict[str, str]:
    """The fields of an ErrorResponse or NoticeResponse body."""
    return {f[:1].decode(): f[1:].decode(errors="replace") for f in body.split(b"\0") if f}


def connect(address: Address, timeout: float) -> socket.socket:
    """A connected stream socket; timeout in seconds, kept for what is done with it. Raises OSError."""
    if isinstance(address, tuple):
        sock = socket.create_connection(address, timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


class Client:
    """One connection. Raises QueryError, and OSError or EmbeddedError when the connection fails."""

    def __init__(self, address: Address, user: str, database: str, *, timeout: float = 30.0) -> None:
        self._sock = connect(address, timeout)
        self._buffer = b""
        try:
            self._sock.sendall(startup_packet(user, database, application_name="pgferry"))
            self._until_ready()
        except BaseException:
            self._sock.close()
            raise

    def query(self, sql: str) -> Result:
        """Run one text of statements; the last one's rows."""
        self._sock.sendall(query_packet(sql))
        return self._until_ready()

    def close(self) -> None:
        """Say goodbye and close."""
        try:
            self._sock.sendall(b"X\0\0\0\4")
        except OSError:
            pass  # the server was faster
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def _until_ready(self) -> Result:
        result, error = Result(), None
        while True:
            kind, body = self._message()
            if kind == b"Z":
                if error is not None:
                    raise error
                return result
            if kind == b"T":
                result = Result(_columns(body))
            elif kind == b"D":
                result.rows.append(_row(body))
            elif kind == b"E":
                error = QueryError(error_fields(body))
                if error.fields.get("V", error.fields.get("S")) in ("FATAL", "PANIC"):
                    raise error
            elif kind == b"R" and body != b"\0\0\0\0":
                raise EmbeddedError(
                    "The server asks for a password, which the embedded client does not have."
                )

    def _message(self) -> tuple[bytes, bytes]:
        head = self._exactly(5)
        return head[:1], self._exactly(struct.unpack("!i", head[1:])[0] - 4)

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = self._sock.recv(65536)
            if not data:
                raise EmbeddedError("The server closed the connection.")
            self._buffer += data
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken


def _columns(body: bytes) -> list[str]:
    names, at = [], 2
    for _ in range(struct.unpack_from("!h", body)[0]):
        end = body.index(b"\0", at)
        names.append(body[at:end].decode())
        at = end + 19
    return names


def _row(body: bytes) -> tuple[str | None, ...]:
    values: list[str | None] = []
    at = 2
    for _ in range(struct.unpack_from("!h", body)[0]):
        (size,) = struct.unpack_from("!i", body, at)
        at += 4
        values.append(None if size < 0 else body[at : at + size].decode())
        at += max(size, 0)
    return tuple(values)
