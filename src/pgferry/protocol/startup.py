"""Packets before the login: startup, cancel, requests for encryption."""

from typing import Final

from pgferry.protocol import codec as c
from pgferry.protocol.codec import Cursor, Message
from pgferry.protocol.errors import BAD_STARTUP_LAYOUT, OLD_PROTOCOL, ProtocolError

VERSION_3_0: Final = 3 << 16
VERSION_3_2: Final = 3 << 16 | 2
# PostgreSQL's own bound; nothing of this size may be asked of memory before the login.
MAX_STARTUP: Final = 10_000


class SSLRequest(Message, frozen=True):
    """Answered by one byte, S or N."""

    CODE = (80877103).to_bytes(4, "big")


class GSSENCRequest(Message, frozen=True):
    """Answered by one byte, G or N."""

    CODE = (80877104).to_bytes(4, "big")


class CancelRequest(Message, frozen=True):
    """The key of a BackendKeyData; the connection is closed without an answer."""

    CODE = (80877102).to_bytes(4, "big")
    LAYOUT = (c.INT32, c.KEY)
    process_id: int
    key: bytes


class StartupMessage(Message, frozen=True):
    """Protocol version and parameters, in the order they came; of a repeated name the last one counts."""

    LAYOUT = (c.INT32, c.PAIRS)
    version: int
    parameters: tuple[tuple[str, str], ...]

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return a parameter's value."""
        return next((value for known, value in reversed(self.parameters) if known == name), default)


_REQUESTS: Final[dict[bytes, type[Message]]] = {
    request.CODE: request for request in (SSLRequest, GSSENCRequest, CancelRequest)
}


def startup(**parameters: str) -> StartupMessage:
    """Return a startup message of protocol 3.0 with ``parameters`` (user=..., database=..., ...)."""
    return StartupMessage(VERSION_3_0, tuple(parameters.items()))


def parse(payload: bytes) -> Message:
    """Return the packet that a connection began with (the payload starts behind the length).

    ProtocolError carries the text for the client: old protocol, bad header, bad layout.
    """
    if len(payload) < 4:
        raise ProtocolError(_bad_header(payload), "startup packet", 0)
    request = _REQUESTS.get(payload[:4])
    if request is not None:
        return request.read(payload)
    major = int.from_bytes(payload[:2], "big")
    if major == 2:
        raise ProtocolError(OLD_PROTOCOL)
    if major != 3:
        raise ProtocolError(_bad_header(payload))
    return StartupMessage(int.from_bytes(payload[:4], "big"), _parameters(payload))


def _parameters(payload: bytes) -> tuple[tuple[str, str], ...]:
    cursor = Cursor(payload, StartupMessage.__name__)
    cursor.take(4)
    try:
        pairs = c.PAIRS.read(cursor)
        cursor.finish()
    except ProtocolError as error:
        raise ProtocolError(BAD_STARTUP_LAYOUT, error.where, error.offset) from error
    return pairs


def _bad_header(payload: bytes) -> str:
    header = (len(payload) + 4).to_bytes(4, "big") + payload[:4]
    return f"bad packet header: '{header.hex()}'"
