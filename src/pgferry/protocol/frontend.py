"""Messages that clients send after the startup packet, and their parser."""

from typing import Final

from pgferry.protocol import codec as c
from pgferry.protocol.codec import Cursor, Message
from pgferry.protocol.errors import ProtocolError


class Query(Message, frozen=True):
    """A text of one or more statements."""

    TYPE = b"Q"
    LAYOUT = (c.TEXT,)
    query: str


class Parse(Message, frozen=True):
    """Prepare a statement; type 0 leaves a parameter's type to the server."""

    TYPE = b"P"
    LAYOUT = (c.TEXT, c.TEXT, c.OIDS)
    name: str
    query: str
    types: tuple[int, ...] = ()


class Bind(Message, frozen=True):
    """Make a portal of a prepared statement; formats: none = all text, one = for all, else one for each."""

    TYPE = b"B"
    LAYOUT = (c.TEXT, c.TEXT, c.FORMATS, c.VALUES, c.FORMATS)
    portal: str
    statement: str
    formats: tuple[int, ...] = ()
    values: tuple[bytes | None, ...] = ()
    result_formats: tuple[int, ...] = ()


class Describe(Message, frozen=True):
    """Ask for the columns of a statement (S) or portal (P)."""

    TYPE = b"D"
    LAYOUT = (c.one_of("SP"), c.TEXT)
    kind: str
    name: str = ""


class Execute(Message, frozen=True):
    """Run a portal; ``limit`` rows at most, 0 = all."""

    TYPE = b"E"
    LAYOUT = (c.TEXT, c.INT32)
    portal: str = ""
    limit: int = 0


class Close(Message, frozen=True):
    """Forget a statement (S) or portal (P)."""

    TYPE = b"C"
    LAYOUT = (c.one_of("SP"), c.TEXT)
    kind: str
    name: str = ""


class Sync(Message, frozen=True):
    """End of a pipeline's segment."""

    TYPE = b"S"


class Flush(Message, frozen=True):
    """Send what is ready."""

    TYPE = b"H"


class CopyData(Message, frozen=True):
    """A piece of a COPY stream."""

    TYPE = b"d"
    LAYOUT = (c.REST,)
    data: bytes


class CopyDone(Message, frozen=True):
    """The COPY stream is complete."""

    TYPE = b"c"


class CopyFail(Message, frozen=True):
    """The COPY must fail with this text."""

    TYPE = b"f"
    LAYOUT = (c.TEXT,)
    reason: str


class FunctionCall(Message, frozen=True):
    """Call a function by its OID (the old fast path)."""

    TYPE = b"F"
    LAYOUT = (c.OID, c.FORMATS, c.VALUES, c.INT16)
    function: int
    formats: tuple[int, ...] = ()
    values: tuple[bytes | None, ...] = ()
    result_format: int = 0


class Terminate(Message, frozen=True):
    """The client leaves."""

    TYPE = b"X"


class AuthenticationAnswer(Message, frozen=True):
    """PasswordMessage, SASLInitialResponse or SASLResponse: one type, told apart by the situation."""

    TYPE = b"p"
    LAYOUT = (c.REST,)
    body: bytes

    def password(self) -> bytes:
        """Read it as a PasswordMessage: the password or md5 answer without its zero byte."""
        if self.body.find(b"\0") != len(self.body) - 1 or not self.body:
            raise ProtocolError("password without end, or bytes behind it", "PasswordMessage", len(self.body))
        return self.body[:-1]

    def sasl_initial(self) -> tuple[str, bytes | None]:
        """Read it as a SASLInitialResponse: the mechanism and its data, None when there is none."""
        cursor = Cursor(self.body, "SASLInitialResponse")
        mechanism, data = cursor.cstring(), c.VALUE.read(cursor)
        cursor.finish()
        return mechanism, data


MESSAGES: Final[tuple[type[Message], ...]] = (
    Query,
    Parse,
    Bind,
    Describe,
    Execute,
    Close,
    Sync,
    Flush,
    CopyData,
    CopyDone,
    CopyFail,
    FunctionCall,
    Terminate,
    AuthenticationAnswer,
)
_BY_TYPE: Final = {message.TYPE: message for message in MESSAGES}


def parse(kind: bytes, payload: bytes) -> Message:
    """Return the message of one type byte and payload; ProtocolError for anything that is none."""
    message = _BY_TYPE.get(kind)
    if message is None:
        raise ProtocolError(f"unknown message type {kind!r}", "frontend message", 0)
    return message.read(payload)


def password(text: bytes) -> AuthenticationAnswer:
    """Return a PasswordMessage with a password or md5 answer; ValueError when it holds a zero byte."""
    if b"\0" in text:
        raise ValueError("a password cannot hold a zero byte")
    return AuthenticationAnswer(text + b"\0")


def sasl_initial(mechanism: str, data: bytes | None) -> AuthenticationAnswer:
    """Return a SASLInitialResponse."""
    return AuthenticationAnswer(c.pack_text(mechanism) + c.VALUE.write(data))
