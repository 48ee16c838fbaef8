"""SCRAM-SHA-256 (RFC 5802, RFC 7677) for both directions: login of clients, and our login to servers.

Everything here is fast except the three functions marked *slow*, which run PBKDF2 (they release the GIL; the
caller runs them in a thread). The exchanges never do slow work: a verifier or keys come in ready.

Channel binding: ``cbind`` is the tls-server-end-point hash of the certificate when the connection could use
SCRAM-SHA-256-PLUS, and ``plus`` tells that this mechanism was chosen.
"""

import binascii
import enum
import hmac
import os
from hashlib import pbkdf2_hmac, sha256
from typing import Final, NamedTuple

from pgferry.auth.errors import (
    INVALID_SERVER_SIGNATURE,
    PASSWORD_FAILED,
    SASL_FAILED,
    AuthError,
    ServerAuthError,
)
from pgferry.auth.saslprep import saslprep
from pgferry.auth.text import to_bytes

MECHANISM: Final = b"SCRAM-SHA-256"
MECHANISM_PLUS: Final = b"SCRAM-SHA-256-PLUS"
# A hostile server must not be able to keep a processor busy for minutes with one login.
MAX_ITERATIONS: Final = 1_000_000
# PostgreSQL's own limit for SASL messages of clients. Servers may have longer salts, but not that long.
MAX_CLIENT_MESSAGE: Final = 1024
MAX_SERVER_MESSAGE: Final = 4096
SALT_LENGTH: Final = 16
KEY_LENGTH: Final = 32
_NONCE_BYTES: Final = 18
_BINDING_FLAG: Final = b"p=tls-server-end-point"
# RFC 5802 "printable": visible ASCII without the comma.
_PRINTABLE: Final = bytes(c for c in range(0x21, 0x7F) if c != 0x2C)


class Verifier(NamedTuple):
    """What a server stores of a password; ``salt`` and keys are raw bytes, both keys 32 bytes long."""

    iterations: int
    salt: bytes
    stored_key: bytes
    server_key: bytes

    def __str__(self) -> str:
        """Return the form that PostgreSQL stores in pg_authid.rolpassword."""
        salt, stored, server = (_b64(part).decode() for part in self[1:])
        return f"SCRAM-SHA-256${self.iterations}:{salt}${stored}:{server}"


class Keys(NamedTuple):
    """What a client needs to log in without the password: ClientKey and ServerKey."""

    client_key: bytes
    server_key: bytes

    def verifier(self, salt: bytes, iterations: int) -> Verifier:
        """Return the verifier that these keys belong to."""
        return Verifier(iterations, salt, sha256(self.client_key).digest(), self.server_key)


class Challenge(NamedTuple):
    """What a server's first message asks for: the parameters of ``derive_keys``."""

    salt: bytes
    iterations: int


class _State(enum.Enum):
    START = 0
    WAIT_FIRST = 1
    READY = 2
    WAIT_FINAL = 3
    DONE = 4
    FAILED = 5


def parse_verifier(text: str) -> Verifier | None:
    """Read PostgreSQL's stored form; None for anything else.

    It is ``SCRAM-SHA-256$ITERATIONS:SALT$STOREDKEY:SERVERKEY``, the last three in base64.
    """
    parts = text.split("$")
    if len(parts) != 3 or parts[0] != "SCRAM-SHA-256" or not text.isascii():
        return None
    iterations, colon1, salt = parts[1].partition(":")
    stored_key, colon2, server_key = parts[2].partition(":")
    if not (colon1 and colon2 and iterations.isdecimal()) or len(iterations) > 10:
        return None
    try:
        verifier = Verifier(
            int(iterations), _unb64(salt.encode()), _unb64(stored_key.encode()), _unb64(server_key.encode())
        )
    except binascii.Error:
        return None
    if not 0 < verifier.iterations < 2**31 or not verifier.salt:
        return None
    if len(verifier.stored_key) != KEY_LENGTH or len(verifier.server_key) != KEY_LENGTH:
        return None
    return verifier


def derive_keys(password: str | bytes, salt: bytes, iterations: int) -> Keys:
    """*Slow.* Return the keys of a password (prepared as PostgreSQL does it)."""
    salted = pbkdf2_hmac("sha256", saslprep(password), salt, iterations)
    return Keys(hmac.digest(salted, b"Client Key", "sha256"), hmac.digest(salted, b"Server Key", "sha256"))


def make_verifier(password: str | bytes, salt: bytes, iterations: int) -> Verifier:
    """*Slow.* Return the verifier of a password, for stored plain passwords and for userlist files."""
    return derive_keys(password, salt, iterations).verifier(salt, iterations)


def verify_password(verifier: Verifier, password: str | bytes) -> bool:
    """*Slow.* Tell whether a clear-text password belongs to a verifier.

    AuthError when the verifier has more than MAX_ITERATIONS: nobody may keep a thread busy for minutes.
    """
    if verifier.iterations > MAX_ITERATIONS:
        raise AuthError(PASSWORD_FAILED, f"stored secret has {verifier.iterations} iterations")
    found = make_verifier(password, verifier.salt, verifier.iterations)
    return hmac.compare_digest(found.stored_key, verifier.stored_key)


class SaltSource:
    """Salts that depend on the user name and a secret only, and verifiers for users that do not exist.

    Users with a plain password and unknown users get their salt from here, so that a client cannot tell them
    apart: the same name has the same salt in each try. All workers must share one ``secret`` (32 random
    bytes), or the salt of a name would change from connection to connection.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes | None = None) -> None:
        self._secret = os.urandom(KEY_LENGTH) if secret is None else secret

    def salt(self, user: str | bytes) -> bytes:
        """Return the 16-byte salt of a user name."""
        return self._derive(b"salt", user)[:SALT_LENGTH]

    def mock(self, user: str | bytes, iterations: int) -> Verifier:
        """Return a verifier that no password fits, for ``ServerExchange(..., doomed=True)``."""
        return Verifier(
            iterations, self.salt(user), self._derive(b"stored", user), self._derive(b"server", user)
        )

    def _derive(self, purpose: bytes, user: str | bytes) -> bytes:
        return hmac.digest(self._secret, purpose + b"\0" + to_bytes(user), "sha256")


class ServerExchange:
    """The server's half of one SCRAM login of a client.

    Each method raises AuthError ("SASL authentication failed", the reason in ``detail``) for anything that is
    malformed, out of order or wrong. ``doomed`` makes a correct-looking exchange fail at its very end
    (unknown users, secrets that cannot do SCRAM). ``nonce`` is for tests.
    """

    __slots__ = (
        "_bare",
        "_binding",
        "_cbind",
        "_client_key",
        "_doomed",
        "_nonce",
        "_plus",
        "_server_first",
        "_state",
        "_verifier",
    )

    def __init__(
        self,
        verifier: Verifier,
        *,
        doomed: bool = False,
        cbind: bytes | None = None,
        plus: bool = False,
        nonce: bytes | None = None,
    ) -> None:
        self._verifier = verifier
        self._doomed = doomed
        self._cbind = cbind
        self._plus = plus
        self._nonce = new_nonce() if nonce is None else nonce
        self._state = _State.START
        self._bare = self._binding = self._server_first = self._client_key = b""

    @property
    def client_key(self) -> bytes:
        """The client's key, known after success: with the verifier's server_key it logs in to a server."""
        if self._state is not _State.DONE:
            raise AuthError(SASL_FAILED, "the exchange is not finished")
        return self._client_key

    def client_first(self, message: bytes) -> bytes:
        """Take client-first-message, return server-first-message."""
        self._enter(_State.START, message)
        parts = message.split(b",", 2)
        if len(parts) != 3:
            raise AuthError(SASL_FAILED, "malformed client-first-message")
        flag, authzid, bare = parts
        self._binding = self._expected_binding(flag)
        if authzid:
            raise AuthError(SASL_FAILED, "client uses authorization identity, but it is not supported")
        attributes = bare.split(b",")
        if attributes[0].startswith(b"m="):
            raise AuthError(SASL_FAILED, "client requires an unsupported SCRAM extension")
        if len(attributes) < 2 or not attributes[0].startswith(b"n=") or not attributes[1].startswith(b"r="):
            raise AuthError(SASL_FAILED, "client-first-message without user name or nonce")
        client_nonce = attributes[1][2:]
        if not client_nonce or client_nonce.translate(None, _PRINTABLE):
            raise AuthError(SASL_FAILED, "empty or unprintable nonce")
        _check_extensions(attributes)
        self._bare = bare
        self._nonce = client_nonce + self._nonce
        self._server_first = b"r=%b,s=%b,i=%d" % (
            self._nonce,
            _b64(self._verifier.salt),
            self._verifier.iterations,
        )
        self._state = _State.WAIT_FINAL
        return self._server_first

    def client_final(self, message: bytes) -> bytes:
        """Take client-final-message, return server-final-message: the client is who it says it is."""
        self._enter(_State.WAIT_FINAL, message)
        without_proof, found, proof_b64 = message.rpartition(b",p=")
        attributes = without_proof.split(b",")
        if not found or len(attributes) < 2 or not attributes[0].startswith(b"c="):
            raise AuthError(SASL_FAILED, "malformed client-final-message")
        if attributes[0][2:] != self._binding:
            raise AuthError(SASL_FAILED, "SCRAM channel binding check failed")
        if not attributes[1].startswith(b"r=") or not hmac.compare_digest(attributes[1][2:], self._nonce):
            raise AuthError(SASL_FAILED, "nonce missing or changed")
        _check_extensions(attributes)
        proof = _decode(proof_b64)
        if len(proof) != KEY_LENGTH:
            raise AuthError(SASL_FAILED, "malformed client proof")
        verifier = self._verifier
        auth_message = b"%b,%b,%b" % (self._bare, self._server_first, without_proof)
        client_key = _xor(proof, hmac.digest(verifier.stored_key, auth_message, "sha256"))
        right = hmac.compare_digest(sha256(client_key).digest(), verifier.stored_key)
        signature = hmac.digest(verifier.server_key, auth_message, "sha256")
        if not right or self._doomed:
            raise AuthError(SASL_FAILED, "unknown user" if self._doomed else "wrong password")
        self._client_key = client_key
        self._state = _State.DONE
        return b"v=" + _b64(signature)

    def _enter(self, expected: _State, message: bytes) -> None:
        """Check order and size; whatever fails from here on leaves the exchange dead."""
        if self._state is not expected:
            raise AuthError(SASL_FAILED, "SCRAM message out of order")
        self._state = _State.FAILED
        if len(message) > MAX_CLIENT_MESSAGE or b"\0" in message:
            raise AuthError(SASL_FAILED, "SCRAM message too long or with a zero byte")

    def _expected_binding(self, flag: bytes) -> bytes:
        """Return the ``c=`` value that client-final-message must carry, or refuse the gs2 flag."""
        if self._plus:
            if flag != _BINDING_FLAG or self._cbind is None:
                raise AuthError(
                    SASL_FAILED, "SCRAM-SHA-256-PLUS without tls-server-end-point channel binding"
                )
            return _b64(_BINDING_FLAG + b",," + self._cbind)
        if flag == b"n":
            return b"biws"
        if flag != b"y":
            raise AuthError(SASL_FAILED, "channel binding flag not supported")
        if self._cbind is not None:
            raise AuthError(SASL_FAILED, "client believes that channel binding is not offered, but it is")
        return b"eSws"


class ClientExchange:
    """The client's half of one SCRAM login to a PostgreSQL server.

    ``first`` → ``server_first`` → (keys from a cache, ``derive_keys`` in a thread, or a client's own login) →
    ``final`` → ``verify``. Methods raise ServerAuthError. A server must not be believed (AuthenticationOk)
    before ``done`` is true. ``nonce`` is for tests.
    """

    __slots__ = (
        "_auth_message",
        "_bare",
        "_gs2",
        "_nonce",
        "_server_first",
        "_server_key",
        "_state",
        "mechanism",
    )

    def __init__(self, *, cbind: bytes | None = None, plus: bool = False, nonce: bytes | None = None) -> None:
        if plus and cbind is None:
            raise ServerAuthError("channel binding without TLS")
        self.mechanism = MECHANISM_PLUS if plus else MECHANISM
        # "y": we could bind, the server did not offer it; whoever removed the offer on its way is found out.
        flag = _BINDING_FLAG if plus else b"n" if cbind is None else b"y"
        self._gs2 = (flag + b",,", cbind if plus and cbind is not None else b"")
        self._nonce = new_nonce() if nonce is None else nonce
        self._bare = b""
        self._server_first = self._auth_message = self._server_key = b""
        self._state = _State.START

    @property
    def done(self) -> bool:
        """Whether the server has proved that it knows the password's verifier."""
        return self._state is _State.DONE

    def first(self, user: bytes = b"") -> bytes:
        """Return client-first-message. PostgreSQL takes the name from the startup packet."""
        self._enter(_State.START, b"")
        name = user.replace(b"=", b"=3D").replace(b",", b"=2C")
        self._bare = b"n=%b,r=%b" % (name, self._nonce)
        self._state = _State.WAIT_FIRST
        return self._gs2[0] + self._bare

    def server_first(self, message: bytes) -> Challenge:
        """Take server-first-message, return the salt and the iteration count (1 to 1 000 000)."""
        self._enter(_State.WAIT_FIRST, message)
        if message.startswith(b"e="):
            raise ServerAuthError(f"SCRAM error {_printable(message[2:])}")
        parts = message.split(b",")
        if len(parts) < 3 or [part[:2] for part in parts[:3]] != [b"r=", b"s=", b"i="]:
            raise ServerAuthError("malformed SCRAM message from server")
        nonce, salt_b64, count = (part[2:] for part in parts[:3])
        if (
            not nonce.startswith(self._nonce)
            or len(nonce) == len(self._nonce)
            or nonce.translate(None, _PRINTABLE)
        ):
            raise ServerAuthError("invalid SCRAM nonce from server")
        salt = _decode_server(salt_b64)
        if not salt:
            raise ServerAuthError("invalid SCRAM salt from server")
        if not count.isdigit() or len(count) > 7 or not 1 <= int(count) <= MAX_ITERATIONS:
            raise ServerAuthError("invalid SCRAM iteration count from server", _printable(count))
        self._nonce = nonce
        self._server_first = message
        self._state = _State.READY
        return Challenge(salt, int(count))

    def final(self, client_key: bytes, server_key: bytes) -> bytes:
        """Return client-final-message. The keys are 32 bytes each."""
        self._enter(_State.READY, b"")
        if len(client_key) != KEY_LENGTH or len(server_key) != KEY_LENGTH:
            raise ServerAuthError("malformed SCRAM keys")
        without_proof = b"c=%b,r=%b" % (_b64(b"".join(self._gs2)), self._nonce)
        self._auth_message = b"%b,%b,%b" % (self._bare, self._server_first, without_proof)
        self._server_key = server_key
        stored_key = sha256(client_key).digest()
        proof = _xor(client_key, hmac.digest(stored_key, self._auth_message, "sha256"))
        self._state = _State.WAIT_FINAL
        return b"%b,p=%b" % (without_proof, _b64(proof))

    def verify(self, message: bytes) -> None:
        """Take server-final-message; returns only if the server knows the verifier too."""
        self._enter(_State.WAIT_FINAL, message)
        if message.startswith(b"e="):
            raise ServerAuthError(f"SCRAM error {_printable(message[2:])}")
        if not message.startswith(b"v="):
            raise ServerAuthError("malformed SCRAM message from server")
        signature = _decode_server(message[2:].split(b",", 1)[0])
        expected = hmac.digest(self._server_key, self._auth_message, "sha256")
        if not hmac.compare_digest(signature, expected):
            raise ServerAuthError(INVALID_SERVER_SIGNATURE)
        self._state = _State.DONE

    def _enter(self, expected: _State, message: bytes) -> None:
        """Check order and size; whatever fails from here on leaves the exchange dead."""
        if self._state is not expected:
            raise ServerAuthError("SCRAM message out of order")
        self._state = _State.FAILED
        if len(message) > MAX_SERVER_MESSAGE:
            raise ServerAuthError("SCRAM message from server too long", f"{len(message)} bytes")


def new_nonce() -> bytes:
    """Return 24 random printable characters."""
    return _b64(os.urandom(_NONCE_BYTES))


def _check_extensions(attributes: list[bytes]) -> None:
    """Unknown extensions (all after the first two attributes) are ignored if they look like ``x=value``."""
    for attribute in attributes[2:]:
        if not attribute[:1].isalpha() or attribute[1:2] != b"=":
            raise AuthError(SASL_FAILED, "malformed SCRAM extension")


def _b64(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False)


def _unb64(text: bytes) -> bytes:
    return binascii.a2b_base64(text, strict_mode=True)


def _decode(text: bytes) -> bytes:
    try:
        return _unb64(text)
    except binascii.Error as error:
        raise AuthError(SASL_FAILED, f"malformed base64: {error}") from error


def _decode_server(text: bytes) -> bytes:
    try:
        return _unb64(text)
    except binascii.Error as error:
        raise ServerAuthError("malformed SCRAM message from server", f"base64: {error}") from error


def _xor(a: bytes, b: bytes) -> bytes:
    """Exclusive or of two keys of 32 bytes."""
    return (int.from_bytes(a, "big") ^ int.from_bytes(b, "big")).to_bytes(KEY_LENGTH, "big")


def _printable(text: bytes) -> str:
    """Cut a peer's text to something that a log line and an error field can hold."""
    return "".join(chr(c) if 0x20 <= c < 0x7F else "?" for c in text[:64])
