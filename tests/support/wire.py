"""A raw PostgreSQL client: send any bytes, receive whole messages; no cleverness of a driver in between."""

import hashlib
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scramp import ScramClient

from pgferry.embedded.client import Address, connect, error_fields

PROTOCOL_3_0 = 3 << 16
PROTOCOL_3_2 = 3 << 16 | 2
CANCEL_CODE = 80877102
SSL_CODE = 80877103
GSS_CODE = 80877104


@dataclass(frozen=True, slots=True)
class Message:
    """One message from a server: its type letter and its body without the length."""

    type: str
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        """Of an ErrorResponse or NoticeResponse: {"S": "ERROR", "C": "42601", "M": ...}."""
        return error_fields(self.body)

    @property
    def sqlstate(self) -> str:
        return self.fields.get("C", "")

    @property
    def text(self) -> str:
        """The message of an error, the tag of a CommandComplete, else the body as text."""
        if self.type in "EN":
            return self.fields.get("M", "")
        return self.body.rstrip(b"\0").decode(errors="replace")

    @property
    def row(self) -> list[bytes | None]:
        """The values of a DataRow."""
        values: list[bytes | None] = []
        at = 2
        for _ in range(struct.unpack_from("!h", self.body)[0]):
            (size,) = struct.unpack_from("!i", self.body, at)
            at += 4
            values.append(None if size < 0 else self.body[at : at + size])
            at += max(size, 0)
        return values

    @property
    def parameter(self) -> tuple[str, str]:
        """Name and value of a ParameterStatus."""
        name, value, _ = self.body.split(b"\0")
        return name.decode(), value.decode(errors="surrogateescape")  # in the client's encoding


# --- what a client can say


def message(kind: bytes, body: bytes = b"") -> bytes:
    """Any message with a type byte."""
    return kind + struct.pack("!i", len(body) + 4) + body


def startup(user: str, database: str, version: int = PROTOCOL_3_0, **parameters: str) -> bytes:
    pairs = {"user": user, "database": database, **parameters}
    body = b"".join(f"{k}\0{v}\0".encode() for k, v in pairs.items()) + b"\0"
    return struct.pack("!ii", len(body) + 8, version) + body


def special(code: int, body: bytes = b"") -> bytes:
    """SSLRequest, GSSENCRequest, CancelRequest: a startup packet with a code for the version."""
    return struct.pack("!ii", len(body) + 8, code) + body


def cancel_request(pid: int, key: bytes) -> bytes:
    return special(CANCEL_CODE, struct.pack("!i", pid) + key)


def query(sql: str | bytes) -> bytes:
    return message(b"Q", _bytes(sql) + b"\0")


def parse(sql: str | bytes, name: str = "", types: Sequence[int] = ()) -> bytes:
    oids = struct.pack(f"!h{len(types)}I", len(types), *types)
    return message(b"P", name.encode() + b"\0" + _bytes(sql) + b"\0" + oids)


def bind(
    values: Iterable[str | bytes | None] = (),
    statement: str = "",
    portal: str = "",
    formats: Sequence[int] = (),
    results: Sequence[int] = (),
) -> bytes:
    """Bind; values as text or bytes, None for NULL."""
    given = list(values)
    body = portal.encode() + b"\0" + statement.encode() + b"\0"
    body += struct.pack(f"!h{len(formats)}h", len(formats), *formats) + struct.pack("!h", len(given))
    for value in given:
        data = None if value is None else _bytes(value)
        body += struct.pack("!i", -1) if data is None else struct.pack("!i", len(data)) + data
    return message(b"B", body + struct.pack(f"!h{len(results)}h", len(results), *results))


def describe(name: str = "", kind: str = "S") -> bytes:
    """Describe a statement ("S") or a portal ("P")."""
    return message(b"D", kind.encode() + name.encode() + b"\0")


def execute(portal: str = "", limit: int = 0) -> bytes:
    return message(b"E", portal.encode() + b"\0" + struct.pack("!i", limit))


def close(name: str = "", kind: str = "S") -> bytes:
    """Close a statement ("S") or a portal ("P")."""
    return message(b"C", kind.encode() + name.encode() + b"\0")


def sync() -> bytes:
    return message(b"S")


def flush() -> bytes:
    return message(b"H")


def terminate() -> bytes:
    return message(b"X")


def password(secret: str | bytes) -> bytes:
    return message(b"p", _bytes(secret) + b"\0")


def copy_data(data: str | bytes) -> bytes:
    return message(b"d", _bytes(data))


def copy_done() -> bytes:
    return message(b"c")


def copy_fail(reason: str = "no more") -> bytes:
    return message(b"f", reason.encode() + b"\0")


def function_call(oid: int, *values: bytes | None) -> bytes:
    """FunctionCall with binary arguments and result."""
    body = struct.pack("!Ihhh", oid, 1, 1, len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return message(b"F", body + struct.pack("!h", 1))


class Wire:
    """One blocking connection, to an address or over a socket.

    Timeout in seconds: TimeoutError. An end of the stream: EOFError.
    """

    def __init__(self, address: Address | socket.socket, timeout: float = 10.0) -> None:
        self.sock = address if isinstance(address, socket.socket) else connect(address, timeout)
        self.parameters: dict[str, str] = {}
        self.pid = 0
        self.key = b""
        self._buffer = bytearray()

    @classmethod
    def login(
        cls,
        address: Address,
        user: str = "postgres",
        database: str = "postgres",
        secret: str = "",
        timeout: float = 10.0,
        version: int = PROTOCOL_3_0,
        **parameters: str,
    ) -> "Wire":
        """Connect and log in (trust, plain, md5, SCRAM). ConnectionError with the server's words."""
        wire = cls(address, timeout)
        try:
            wire.send(startup(user, database, version, **parameters))
            wire.authenticate(user, secret)
        except BaseException:
            wire.close()
            raise
        return wire

    def authenticate(self, user: str, secret: str) -> list[Message]:
        """Answer what the server asks until ReadyForQuery; everything it said."""
        scram: ScramClient | None = None
        seen: list[Message] = []
        while True:
            got = self.recv()
            seen.append(got)
            if got.type == "E":
                raise ConnectionError(f"{got.fields.get('S')} {got.sqlstate} {got.text}")
            if got.type == "Z":
                return seen
            if got.type == "K":
                self.pid, self.key = struct.unpack_from("!i", got.body)[0], got.body[4:]
            if got.type != "R":
                continue
            (code,) = struct.unpack_from("!i", got.body)
            if code == 3:
                self.send(password(secret))
            elif code == 5:
                self.send(password(_md5(user, secret, got.body[4:])))
            elif code == 10:
                scram = ScramClient(["SCRAM-SHA-256"], user, secret)
                first = scram.get_client_first().encode()
                head = b"SCRAM-SHA-256\0" + struct.pack("!i", len(first))
                self.send(message(b"p", head + first))
            elif code == 11 and scram is not None:
                scram.set_server_first(got.body[4:].decode())
                self.send(message(b"p", scram.get_client_final().encode()))
            elif code == 12 and scram is not None:
                scram.set_server_final(got.body[4:].decode())

    def send(self, *parts: bytes) -> None:
        """Send all parts in one write."""
        self.sock.sendall(b"".join(parts))

    def recv(self) -> Message:
        """The next whole message."""
        head = self.recv_bytes(5)
        got = Message(head[:1].decode("latin-1"), self.recv_bytes(struct.unpack("!i", head[1:])[0] - 4))
        if got.type == "S":
            self.parameters.update([got.parameter])
        return got

    def recv_bytes(self, size: int) -> bytes:
        """Exactly so many bytes."""
        while len(self._buffer) < size:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError(f"the server closed the connection; unread: {bytes(self._buffer[:200])!r}")
            self._buffer += data
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def rest(self) -> bytes:
        """Everything up to the end of the stream, which may be a reset."""
        try:
            while data := self.sock.recv(65536):
                self._buffer += data
        except ConnectionResetError:
            pass
        return bytes(self._buffer)

    def until(self, kind: str = "Z", count: int = 1) -> list[Message]:
        """Messages up to the count-th of a type (ReadyForQuery), that one included."""
        seen: list[Message] = []
        while count:
            seen.append(self.recv())
            count -= seen[-1].type == kind
        return seen

    def query(self, sql: str) -> list[Message]:
        """A simple query and its whole answer."""
        self.send(query(sql))
        return self.until()

    def rows(self, sql: str) -> list[list[bytes | None]]:
        """The rows of a simple query; AssertionError when it fails."""
        answer = self.query(sql)
        errors = [m.text for m in answer if m.type == "E"]
        assert not errors, errors
        return [m.row for m in answer if m.type == "D"]

    def at_end(self, timeout: float = 10.0) -> bool:
        """Whether the server closes the connection, with nothing more to read before that."""
        self.sock.settimeout(timeout)
        try:
            data = self.sock.recv(1)
        except ConnectionResetError:
            data = b""
        return not data and not self._buffer

    def silent(self, seconds: float = 0.2) -> bool:
        """Whether nothing arrives for so long."""
        if self._buffer:
            return False
        before = self.sock.gettimeout()
        self.sock.settimeout(seconds)
        try:
            self._buffer += self.sock.recv(65536)
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(before)
        return False

    def reset(self) -> None:
        """Close with a TCP reset, as a crashed client does."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        """Close without a goodbye."""
        self.sock.close()

    def __enter__(self) -> "Wire":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def last_words(wire: Wire) -> list[Message]:
    """Everything it is told until the connection is closed."""
    seen = []
    try:
        while True:
            seen.append(wire.recv())
    except (EOFError, ConnectionResetError):
        return seen
    finally:
        wire.close()


def said(messages: list[Message]) -> list[tuple[str, str, str]]:
    """Severity, SQLSTATE and text of the errors among them."""
    return [(m.fields["S"], m.sqlstate, m.text) for m in messages if m.type == "E"]


def types(messages: Iterable[Message]) -> str:
    """The type letters of an answer, for short assertions: "TDCZ"."""
    return "".join(m.type for m in messages)


def _bytes(text: str | bytes) -> bytes:
    return text.encode() if isinstance(text, str) else text


def _md5(user: str, secret: str, salt: bytes) -> str:
    inner = hashlib.md5(secret.encode() + user.encode()).hexdigest()
    return "md5" + hashlib.md5(inner.encode() + salt).hexdigest()
