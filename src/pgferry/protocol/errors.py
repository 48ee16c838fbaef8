"""What can be wrong with a peer's bytes, and the SQLSTATEs and texts that pgferry sends."""

from typing import Final

SUCCESSFUL_COMPLETION: Final = "00000"
PROTOCOL_VIOLATION: Final = "08P01"  # PgBouncer's code for every error of its own

OLD_PROTOCOL: Final = "old V2 protocol not supported"
BAD_STARTUP_LAYOUT: Final = "invalid startup packet layout: expected terminator as last byte"
BAD_OPTIONS: Final = (
    "unsupported options startup parameter: only '-c config=val' and '--config=val' are allowed"
)
UNSUPPORTED_PARAMETER: Final = "unsupported startup parameter: {}"
UNSUPPORTED_OPTION: Final = "unsupported startup parameter in options: {}"


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
