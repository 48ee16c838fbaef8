"""Stored secrets (auth_file, auth_query, [databases]): their kind and what each can do (COMPAT 2.4)."""

import enum
import hmac
from typing import Final, NamedTuple

from pgferry.auth.md5 import check_md5_response, is_md5_secret, md5_secret
from pgferry.auth.scram import Verifier, parse_verifier, verify_password
from pgferry.auth.text import to_bytes


class SecretKind(enum.Enum):
    """The form a stored secret has."""

    NONE = "none"  # no user, NULL from auth_query, or an empty secret: no password can match
    PLAIN = "plain"
    MD5 = "md5"
    SCRAM = "scram-sha-256"


class Method(enum.Enum):
    """A password exchange on the wire, in either direction."""

    PLAIN = "plain"
    MD5 = "md5"
    SCRAM = "scram-sha-256"


class Secret(NamedTuple):
    """A classified secret; ``verifier`` is set for SCRAM secrets only."""

    kind: SecretKind
    text: str
    verifier: Verifier | None


NO_SECRET: Final = Secret(SecretKind.NONE, "", None)

# The exchange to hold with a client, by (configured method, kind of secret); absent = it must fail, so the
# configured method is held against a made-up secret and the client learns nothing.
_CLIENT: Final[dict[tuple[Method, SecretKind], Method]] = {
    (Method.PLAIN, SecretKind.PLAIN): Method.PLAIN,
    (Method.PLAIN, SecretKind.MD5): Method.PLAIN,
    (Method.PLAIN, SecretKind.SCRAM): Method.PLAIN,
    (Method.MD5, SecretKind.PLAIN): Method.MD5,
    (Method.MD5, SecretKind.MD5): Method.MD5,
    (Method.MD5, SecretKind.SCRAM): Method.SCRAM,
    (Method.SCRAM, SecretKind.PLAIN): Method.SCRAM,
    (Method.SCRAM, SecretKind.SCRAM): Method.SCRAM,
}

# What a server may ask for, by kind of secret. Hashes are not sent to a server that asks for clear text: it
# could only fail, and would hand the server something that opens other logins.
_SERVER: Final[dict[SecretKind, frozenset[Method]]] = {
    SecretKind.NONE: frozenset(Method),  # as an empty password: the server says what it thinks of that
    SecretKind.PLAIN: frozenset(Method),
    SecretKind.MD5: frozenset({Method.MD5}),
    SecretKind.SCRAM: frozenset(),
}


def classify(text: str | None) -> Secret:
    """Sort a stored secret by its form. Anything that is neither md5 nor SCRAM is a plain password."""
    if not text:
        return NO_SECRET
    if is_md5_secret(text):
        return Secret(SecretKind.MD5, text, None)
    verifier = parse_verifier(text)
    if verifier is not None:
        return Secret(SecretKind.SCRAM, text, verifier)
    return Secret(SecretKind.PLAIN, text, None)


def client_method(configured: Method, secret: Secret) -> tuple[Method, bool]:
    """Return the exchange to hold with a client and whether it can succeed at all.

    The second value False means: go through the exchange with a made-up secret and refuse at its end.
    """
    method = _CLIENT.get((configured, secret.kind))
    return (configured, False) if method is None else (method, True)


def can_log_in_to_server(secret: Secret, asked: Method, *, has_client_key: bool = False) -> bool:
    """Tell whether ``secret`` can answer what a PostgreSQL server asks for.

    ``has_client_key``: a client has logged in with SCRAM against this very secret, so its key can be used.
    """
    if asked is Method.SCRAM and secret.kind is SecretKind.SCRAM:
        return has_client_key
    return asked in _SERVER[secret.kind]


def check_cleartext(secret: Secret, user: str | bytes, password: bytes) -> bool:
    """Tell whether a password sent in clear text is right.

    Slow for a SCRAM secret (PBKDF2, milliseconds, releases the GIL): call it in a thread then.
    """
    if secret.kind is SecretKind.SCRAM and secret.verifier is not None:
        return verify_password(secret.verifier, password)
    if secret.kind is SecretKind.MD5:
        return hmac.compare_digest(md5_secret(password, user).encode(), secret.text.encode())
    same = hmac.compare_digest(to_bytes(secret.text), password)
    return same and secret.kind is SecretKind.PLAIN


def check_md5(secret: Secret, user: str | bytes, salt: bytes, response: bytes) -> bool:
    """Tell whether a client's answer to an MD5 challenge is right; False for secrets that cannot know."""
    stored = secret.text if secret.kind is SecretKind.MD5 else md5_secret(secret.text, user)
    same = check_md5_response(stored, salt, response)
    return same and secret.kind in (SecretKind.MD5, SecretKind.PLAIN)
