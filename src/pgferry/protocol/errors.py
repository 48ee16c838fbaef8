"""What can be wrong with a peer's bytes, and the SQLSTATEs and texts that pgferry sends."""

from typing import Final

SUCCESSFUL_COMPLETION: Final = "00000"
CONNECTION_FAILURE: Final = "08006"
PROTOCOL_VIOLATION: Final = "08P01"  # PgBouncer's code for every error of its own
FEATURE_NOT_SUPPORTED: Final = "0A000"
TRANSACTION_ABORTED: Final = "25P02"
UNDEFINED_STATEMENT: Final = "26000"
INVALID_AUTHORIZATION: Final = "28000"
INVALID_PASSWORD: Final = "28P01"
INVALID_CATALOG_NAME: Final = "3D000"
SYNTAX_ERROR: Final = "42601"
DUPLICATE_STATEMENT: Final = "42P05"
TOO_MANY_CONNECTIONS: Final = "53300"
QUERY_CANCELED: Final = "57014"
ADMIN_SHUTDOWN: Final = "57P01"
CANNOT_CONNECT_NOW: Final = "57P03"
CONFIG_FILE_ERROR: Final = "F0000"

OLD_PROTOCOL: Final = "old V2 protocol not supported"
BAD_STARTUP_LAYOUT: Final = "invalid startup packet layout: expected terminator as last byte"
BAD_OPTIONS: Final = (
    "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed"
)
UNSUPPORTED_PARAMETER: Final = "unsupported startup parameter: {}"
UNSUPPORTED_OPTION: Final = "unsupported startup parameter in options: {}"

# PgBouncer cuts its own messages; dashboards and tests have learned the cut texts.
MAX_MESSAGE: Final = 127


class ProtocolError(Exception):
    """A peer sent something that is no valid message.

    ``message`` is fit to be sent to the peer; ``where`` names the message, ``offset`` is the byte in its
    payload at which reading failed (-1: not about one place).
    """

    def __init__(self, message: str, where: str = "", offset: int = -1) -> None:
        place = f" (in {where}" + (f" at byte {offset})" if offset >= 0 else ")") if where else ""
        super().__init__(message + place)
        self.message = message
        self.where = where
        self.offset = offset


def cut(text: str, limit: int = MAX_MESSAGE) -> str:
    """Cut a text to ``limit`` bytes of UTF-8 without leaving half a character."""
    raw = text.encode("utf-8", "surrogateescape")
    if len(raw) <= limit:
        return text
    end = limit
    while end > max(limit - 3, 0) and raw[end] & 0xC0 == 0x80:  # the byte left out continues a character
        end -= 1
    return raw[:end].decode("utf-8", "surrogateescape")
