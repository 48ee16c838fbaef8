"""A raw PostgreSQL client: send any bytes, receive whole messages; no cleverness of a driver in between."""

import hashlib
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scramp import ScramClient

from pgferry.client import Address, connect
from pgferry.protocol import backend, frontend
from pgferry.protocol.reader import MessageReader
from pgferry.protocol.startup import (
    VERSION_3_0,
    VERSION_3_2,
    CancelRequest,
    GSSENCRequest,
    SSLRequest,
    StartupMessage,
)

PROTOCOL_3_0 = VERSION_3_0
PROTOCOL_3_2 = VERSION_3_2
CANCEL_CODE, SSL_CODE, GSS_CODE = (
    int.from_bytes(request.CODE, "big") for request in (CancelRequest, SSLRequest, GSSENCRequest)
)


@dataclass(frozen=True, slots=True)
class Message:
    """One message from a server: its type letter and its body without the length."""

    type: str
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        """Of an ErrorResponse or NoticeResponse: {"S": "ERROR", "C": "42601", "M": ...}."""
        return dict(backend.ErrorResponse.read(self.body).fields)

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
        return list(backend.DataRow.read(self.body).values)

    @property
    def parameter(self) -> tuple[str, str]:
        """Name and value of a ParameterStatus."""
        status = backend.ParameterStatus.read(self.body)
        return status.name, status.value  # in the client's encoding, escaped where that is not UTF-8


# --- what a client can say


def message(kind: bytes, body: bytes = b"") -> bytes:
    """Any message with a type byte, well-formed or not."""
    return kind + struct.pack("!i", len(body) + 4) + body


def special(code: int, body: bytes = b"") -> bytes:
    """SSLRequest, GSSENCRequest, CancelRequest, well-formed or not: a startup packet with a code for the version."""
    return struct.pack("!ii", len(body) + 8, code) + body


def startup(user: str, database: str, version: int = PROTOCOL_3_0, **parameters: str) -> bytes:
    pairs = {"user": user, "database": database, **parameters}
    return StartupMessage(version, tuple((name, str(value)) for name, value in pairs.items())).build()


def cancel_request(pid: int, key: bytes) -> bytes:
    return special(CANCEL_CODE, struct.pack("!i", pid) + key)


def query(sql: str | bytes) -> bytes:
    return frontend.Query(_text(sql)).build()


def parse(sql: str | bytes, name: str = "", types: Sequence[int] = ()) -> bytes:
    return frontend.Parse(name, _text(sql), tuple(types)).build()


def bind(
    values: Iterable[str | bytes | None] = (),
    statement: str = "",
    portal: str = "",
    formats: Sequence[int] = (),
    results: Sequence[int] = (),
) -> bytes:
    """Bind; values as text or bytes, None for NULL."""
    given = tuple(value.encode() if isinstance(value, str) else value for value in values)
    return frontend.Bind(portal, statement, tuple(formats), given, tuple(results)).build()


def describe(name: str = "", kind: str = "S") -> bytes:
    """Describe a statement ("S") or a portal ("P")."""
    return frontend.Describe(kind, name).build()


def execute(portal: str = "", limit: int = 0) -> bytes:
    return frontend.Execute(portal, limit).build()


def close(name: str = "", kind: str = "S") -> bytes:
    """Close a statement ("S") or a portal ("P")."""
    return frontend.Close(kind, name).build()


def sync() -> bytes:
    return frontend.Sync().build()


def flush() -> bytes:
    return frontend.Flush().build()


def terminate() -> bytes:
    return frontend.Terminate().build()


def password(secret: str | bytes) -> bytes:
    return frontend.password(secret.encode() if isinstance(secret, str) else secret).build()


def copy_data(data: str | bytes) -> bytes:
    return frontend.CopyData(data.encode() if isinstance(data, str) else data).build()


def copy_done() -> bytes:
    return frontend.CopyDone().build()


def copy_fail(reason: str = "no more") -> bytes:
    return frontend.CopyFail(reason).build()


def function_call(oid: int, *values: bytes | None) -> bytes:
    """FunctionCall with binary arguments and result."""
    return frontend.FunctionCall(oid, (1,), values, 1).build()


class Wire:
    """One blocking connection, to an address or over a socket.

    Timeout in seconds: TimeoutError. An end of the stream: EOFError.
    """

    def __init__(self, address: Address | socket.socket, timeout: float = 10.0) -> None:
        self.sock = address if isinstance(address, socket.socket) else connect(address, timeout)
        self.parameters: dict[str, str] = {}
        self.pid = 0
        self.key = b""
        self._messages = MessageReader()

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
                self.send(frontend.sasl_initial("SCRAM-SHA-256", first).build())
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
        kind, body = self.recv_parts()
        got = Message(kind.decode("latin-1"), body)
        if got.type == "S":
            self.parameters.update([got.parameter])
        return got

    def recv_bytes(self, size: int) -> bytes:
        """Exactly so many bytes."""
        while self._messages.pending < size:
            self._fill()
        return self._messages.take_bytes(size)

    def recv_parts(self) -> tuple[bytes, bytes]:
        """The type byte and the body of the next whole message, whichever side says it."""
        while (found := self._messages.take()) is None:
            self._fill()
        return found

    def recv_packet(self) -> bytes:
        """What a client says first, behind its length."""
        self._messages.typed = False
        _, packet = self.recv_parts()
        self._messages.typed = True
        return packet

    def _fill(self) -> None:
        data = self.sock.recv(65536)
        if not data:
            unread = self._messages.take_bytes(200)
            raise EOFError(f"the other side closed the connection; unread: {unread!r}")
        self._messages.feed(data)

    def skip(self, size: int) -> None:
        """Read so many bytes and forget them."""
        size -= len(self._messages.take_bytes(size))
        buffer = bytearray(1 << 20)
        while size > 0:
            got = self.sock.recv_into(buffer, min(len(buffer), size))
            if not got:
                raise EOFError("the other side closed the connection")
            size -= got

    def rest(self) -> bytes:
        """Everything up to the end of the stream, which may be a reset."""
        try:
            while data := self.sock.recv(65536):
                self._messages.feed(data)
        except ConnectionResetError:
            pass
        return self._messages.take_bytes(self._messages.pending)

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
        return not data and not self._messages.pending

    def silent(self, seconds: float = 0.2) -> bool:
        """Whether nothing arrives for so long."""
        if self._messages.pending:
            return False
        before = self.sock.gettimeout()
        self.sock.settimeout(seconds)
        try:
            self._messages.feed(self.sock.recv(65536))
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


def _text(sql: str | bytes) -> str:
    return sql if isinstance(sql, str) else sql.decode("utf-8", "surrogateescape")


def _md5(user: str, secret: str, salt: bytes) -> str:
    inner = hashlib.md5(secret.encode() + user.encode()).hexdigest()
    return "md5" + hashlib.md5(inner.encode() + salt).hexdigest()
