"""Messages that servers send: authentication, results, errors, COPY; and their parser."""

from collections.abc import Sequence
from typing import Final

from pgferry.protocol import codec as c
from pgferry.protocol.codec import Column, Message
from pgferry.protocol.errors import ProtocolError
from pgferry.protocol.reader import MessageReader


class AuthenticationOk(Message, frozen=True):
    """The login succeeded."""

    TYPE = b"R"
    CODE = b"\0\0\0\0"


class AuthenticationCleartextPassword(Message, frozen=True):
    """The server wants the password itself."""

    TYPE = b"R"
    CODE = b"\0\0\0\3"


class AuthenticationMD5Password(Message, frozen=True):
    """The server wants a salted md5 answer."""

    TYPE = b"R"
    CODE = b"\0\0\0\5"
    LAYOUT = (c.SALT,)
    salt: bytes


class AuthenticationSASL(Message, frozen=True):
    """The server offers SASL mechanisms, best first."""

    TYPE = b"R"
    CODE = b"\0\0\0\x0a"
    LAYOUT = (c.LIST,)
    mechanisms: tuple[str, ...]


class AuthenticationSASLContinue(Message, frozen=True):
    """A SASL challenge."""

    TYPE = b"R"
    CODE = b"\0\0\0\x0b"
    LAYOUT = (c.REST,)
    data: bytes


class AuthenticationSASLFinal(Message, frozen=True):
    """The server's last SASL data."""

    TYPE = b"R"
    CODE = b"\0\0\0\x0c"
    LAYOUT = (c.REST,)
    data: bytes


class AuthenticationOther(Message, frozen=True):
    """A method that pgferry does not speak (Kerberos, GSSAPI, SSPI, or unknown)."""

    TYPE = b"R"
    LAYOUT = (c.INT32, c.REST)
    code: int
    data: bytes = b""


class BackendKeyData(Message, frozen=True):
    """The key for cancel requests: 4 bytes in protocol 3.0, up to 256 in 3.2."""

    TYPE = b"K"
    LAYOUT = (c.INT32, c.KEY)
    process_id: int
    key: bytes


class ParameterStatus(Message, frozen=True):
    """A setting's value, at login and whenever it changes."""

    TYPE = b"S"
    LAYOUT = (c.TEXT, c.TEXT)
    name: str
    value: str


class ReadyForQuery(Message, frozen=True):
    """The server waits for a command: idle (I), in a transaction (T), or in a failed one (E)."""

    TYPE = b"Z"
    LAYOUT = (c.one_of("ITE"),)
    status: str = "I"


class NegotiateProtocolVersion(Message, frozen=True):
    """The server speaks an older protocol (``version``, as in the startup packet) or lacks options."""

    TYPE = b"v"
    LAYOUT = (c.INT32, c.NAMES)
    version: int
    unknown_options: tuple[str, ...] = ()


class RowDescription(Message, frozen=True):
    """The columns of the rows that follow."""

    TYPE = b"T"
    LAYOUT = (c.COLUMNS,)
    columns: tuple[Column, ...]


class DataRow(Message, frozen=True):
    """One row; None is NULL."""

    TYPE = b"D"
    LAYOUT = (c.VALUES,)
    values: tuple[bytes | None, ...]


class CommandComplete(Message, frozen=True):
    """A statement is done; the tag says which and how many rows."""

    TYPE = b"C"
    LAYOUT = (c.TEXT,)
    tag: str


class EmptyQueryResponse(Message, frozen=True):
    """The query had no statement in it."""

    TYPE = b"I"


class _Report(Message, frozen=True):
    """Fields of an error or notice, in the order they came. Any of them may be missing."""

    LAYOUT = (c.FIELDS,)
    fields: tuple[tuple[str, str], ...]

    def get(self, code: str, default: str = "") -> str:
        """Return the first field with a code letter."""
        return next((text for letter, text in self.fields if letter == code), default)

    @property
    def severity(self) -> str:
        """The severity in English if the server sent it (V), else the translated one (S)."""
        return self.get("V") or self.get("S")

    @property
    def sqlstate(self) -> str:
        """The SQLSTATE, empty when the server sent none."""
        return self.get("C")

    @property
    def message(self) -> str:
        """The primary message."""
        return self.get("M")


class ErrorResponse(_Report, frozen=True):
    """An error."""

    TYPE = b"E"


class NoticeResponse(_Report, frozen=True):
    """A notice or warning."""

    TYPE = b"N"


class NotificationResponse(Message, frozen=True):
    """A NOTIFY of some session."""

    TYPE = b"A"
    LAYOUT = (c.INT32, c.TEXT, c.TEXT)
    process_id: int
    channel: str
    payload_text: str = ""


class ParseComplete(Message, frozen=True):
    """Answer to Parse."""

    TYPE = b"1"


class BindComplete(Message, frozen=True):
    """Answer to Bind."""

    TYPE = b"2"


class CloseComplete(Message, frozen=True):
    """Answer to Close."""

    TYPE = b"3"


class NoData(Message, frozen=True):
    """Answer to Describe: there will be no rows."""

    TYPE = b"n"


class PortalSuspended(Message, frozen=True):
    """Execute stopped at its row limit."""

    TYPE = b"s"


class ParameterDescription(Message, frozen=True):
    """The types of a prepared statement's parameters."""

    TYPE = b"t"
    LAYOUT = (c.OIDS,)
    types: tuple[int, ...]


class CopyInResponse(Message, frozen=True):
    """The server waits for CopyData."""

    TYPE = b"G"
    LAYOUT = (c.INT8, c.FORMATS)
    format: int = 0
    column_formats: tuple[int, ...] = ()


class CopyOutResponse(Message, frozen=True):
    """CopyData follows."""

    TYPE = b"H"
    LAYOUT = (c.INT8, c.FORMATS)
    format: int = 0
    column_formats: tuple[int, ...] = ()


class CopyBothResponse(Message, frozen=True):
    """CopyData both ways (replication)."""

    TYPE = b"W"
    LAYOUT = (c.INT8, c.FORMATS)
    format: int = 0
    column_formats: tuple[int, ...] = ()


class CopyData(Message, frozen=True):
    """A piece of a COPY stream."""

    TYPE = b"d"
    LAYOUT = (c.REST,)
    data: bytes


class CopyDone(Message, frozen=True):
    """The COPY stream is complete."""

    TYPE = b"c"


class FunctionCallResponse(Message, frozen=True):
    """Answer to FunctionCall; None is NULL."""

    TYPE = b"V"
    LAYOUT = (c.VALUE,)
    value: bytes | None


AUTHENTICATION: Final[tuple[type[Message], ...]] = (
    AuthenticationOk,
    AuthenticationCleartextPassword,
    AuthenticationMD5Password,
    AuthenticationSASL,
    AuthenticationSASLContinue,
    AuthenticationSASLFinal,
)
PLAIN: Final[tuple[type[Message], ...]] = (
    BackendKeyData,
    ParameterStatus,
    ReadyForQuery,
    NegotiateProtocolVersion,
    RowDescription,
    DataRow,
    CommandComplete,
    EmptyQueryResponse,
    ErrorResponse,
    NoticeResponse,
    NotificationResponse,
    ParseComplete,
    BindComplete,
    CloseComplete,
    NoData,
    PortalSuspended,
    ParameterDescription,
    CopyInResponse,
    CopyOutResponse,
    CopyBothResponse,
    CopyData,
    CopyDone,
    FunctionCallResponse,
)
MESSAGES: Final[tuple[type[Message], ...]] = (*AUTHENTICATION, AuthenticationOther, *PLAIN)
_BY_TYPE: Final = {message.TYPE: message for message in PLAIN}
_BY_CODE: Final = {message.CODE: message for message in AUTHENTICATION}


def parse(kind: bytes, payload: bytes) -> Message:
    """Return the message of one type byte and payload; ProtocolError for anything that is none."""
    if kind == b"R":
        return _BY_CODE.get(payload[:4], AuthenticationOther).read(payload)
    message = _BY_TYPE.get(kind)
    if message is None:
        raise ProtocolError(f"unknown message type {kind!r}", "backend message", 0)
    return message.read(payload)


def first_error(data: bytes) -> ErrorResponse | None:
    """Return the first error among the whole messages that ``data`` begins with."""
    messages = MessageReader()
    messages.feed(data)
    found = (payload for kind, payload in messages if kind == ErrorResponse.TYPE)
    return next(map(ErrorResponse.read, found), None)


def build_all(messages: Sequence[Message]) -> bytes:
    """Return several messages in one piece, for one send."""
    return b"".join(message.build() for message in messages)
