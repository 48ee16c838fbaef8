"""The SASL messages of PostgreSQL around SCRAM: mechanism lists and the initial response."""

from typing import Final

from pgferry.auth.errors import NO_COMMON_MECHANISM, SASL_FAILED, WRONG_MECHANISM, AuthError, ServerAuthError
from pgferry.auth.scram import MECHANISM, MECHANISM_PLUS

_MAX_LIST: Final = 1024


def mechanism_list(*, plus: bool = False) -> bytes:
    """Return what follows the code 10 of AuthenticationSASL; ``plus``: channel binding is on offer."""
    return (MECHANISM_PLUS + b"\0" if plus else b"") + MECHANISM + b"\0\0"


def initial_response(body: bytes, *, plus: bool = False) -> tuple[bytes, bytes]:
    """Split a SASLInitialResponse (its body, after type and length) into mechanism and client-first-message.

    AuthError when it is malformed, has no data, or names a mechanism that ``mechanism_list`` did not offer.
    """
    mechanism, zero, rest = body.partition(b"\0")
    if not zero:
        raise AuthError(SASL_FAILED, "malformed SASLInitialResponse")
    if mechanism != MECHANISM and not (plus and mechanism == MECHANISM_PLUS):
        raise AuthError(WRONG_MECHANISM)
    if len(rest) < 4 or int.from_bytes(rest[:4], "big") != len(rest) - 4:
        raise AuthError(SASL_FAILED, "SASLInitialResponse without data or with a wrong length")
    return mechanism, rest[4:]


def build_initial_response(mechanism: bytes, client_first: bytes) -> bytes:
    """Return the body of a SASLInitialResponse, our answer to a server's mechanism list."""
    return mechanism + b"\0" + len(client_first).to_bytes(4, "big") + client_first


def choose_mechanism(offered: bytes, *, can_bind: bool = False) -> bytes:
    """Choose from a server's list (what follows the code 10 of AuthenticationSASL).

    ``can_bind``: we hold the hash of the server's certificate. ServerAuthError when none of them is ours.
    """
    if len(offered) > _MAX_LIST:
        raise ServerAuthError(NO_COMMON_MECHANISM, "list too long")
    names = offered.split(b"\0")
    if can_bind and MECHANISM_PLUS in names:
        return MECHANISM_PLUS
    if MECHANISM in names:
        return MECHANISM
    raise ServerAuthError(NO_COMMON_MECHANISM)
