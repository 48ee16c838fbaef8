"""PostgreSQL's md5 password method: stored secrets, salted answers, and their check."""

import hashlib
import hmac
import os
from typing import Final

from pgferry.auth.errors import AuthError
from pgferry.auth.text import to_bytes

SALT_LENGTH: Final = 4
RESPONSE_LENGTH: Final = 35
_HEX: Final = frozenset(b"0123456789abcdef")


def new_salt() -> bytes:
    """Return the four random bytes of an AuthenticationMD5Password message."""
    return os.urandom(SALT_LENGTH)


def is_md5_secret(text: str) -> bool:
    """Tell whether a stored secret is ``md5`` and 32 lower-case hexadecimal digits."""
    return (
        len(text) == RESPONSE_LENGTH and text.startswith("md5") and text.isascii() and _is_hex(text.encode())
    )


def md5_secret(password: str | bytes, user: str | bytes) -> str:
    """Return the secret that PostgreSQL stores: ``md5`` and md5(password || user) in hexadecimal."""
    return "md5" + _hex(to_bytes(password) + to_bytes(user)).decode()


def md5_response(secret_hex: bytes, salt: bytes) -> bytes:
    """Return the answer to an MD5 challenge, without the terminating zero.

    ``secret_hex`` is a stored secret without its prefix, 32 digits. AuthError when ``salt`` has not 4 bytes.
    """
    if len(salt) != SALT_LENGTH:
        raise AuthError("server login failed: bad MD5 salt", f"{len(salt)} bytes")
    return b"md5" + _hex(secret_hex + salt)


def check_md5_response(secret: str, salt: bytes, response: bytes) -> bool:
    """Tell, in constant time, whether a client's answer fits the stored md5 ``secret`` (with its prefix)."""
    return hmac.compare_digest(md5_response(secret[3:].encode(), salt), response)


def _is_hex(text: bytes) -> bool:
    return all(c in _HEX for c in text[3:])


def _hex(data: bytes) -> bytes:
    try:
        return hashlib.md5(data).hexdigest().encode()
    except ValueError as error:  # a system in FIPS mode has no MD5, PostgreSQL refuses there too
        raise AuthError("password authentication failed", f"MD5 is not available: {error}") from error
