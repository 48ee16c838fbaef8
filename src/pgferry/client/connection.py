"""One blocking connection: TLS as sslmode says, login with trust, clear text, md5 or SCRAM, simple queries."""

from __future__ import annotations

import socket
import ssl
import struct

from pgferry.auth.errors import AuthError
from pgferry.auth.md5 import md5_response, md5_secret
from pgferry.auth.sasl import build_initial_response, choose_mechanism
from pgferry.auth.scram import ClientExchange, derive_keys
from pgferry.client.target import Target
from pgferry.embedded.client import Client, QueryError, Result, connect, startup_packet
from pgferry.embedded.errors import EmbeddedError

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)
_OK, _CLEAR, _MD5, _SASL, _SASL_CONTINUE, _SASL_FINAL = 0, 3, 5, 10, 11, 12


class ConnectionFailed(EmbeddedError):
    """Nobody answers there, or the login was refused."""


class Connection(Client):
    """A logged-in session. `query()` raises QueryError for what the server refuses, else EmbeddedError or OSError.

    `pid` is the process id the other side gave at login (a pooler gives one of its own), `greeting` the
    parameters it reported, `tls` whether the connection is encrypted. `sock` may be taken over by a load.
    """

    def __init__(
        self,
        target: Target,
        *,
        application_name: str = "pgferry",
        timeout: float | None = None,
        **parameters: str,
    ) -> None:
        self.target = target
        self.pid = 0
        self.greeting: dict[str, str] = {}
        self._buffer = b""
        self._exchange: ClientExchange | None = None
        try:
            self._sock = self._open(target)
            self._sock.sendall(
                startup_packet(target.user, target.database, application_name=application_name, **parameters)
            )
            self._until_ready()
        except QueryError as e:
            self._sock.close()
            raise ConnectionFailed(f"{target}: {e}") from e
        except (AuthError, EmbeddedError) as e:
            self._sock.close()
            raise ConnectionFailed(f"{target}: {e}") from e
        except OSError as e:
            raise ConnectionFailed(f"{target}: {e}") from e
        self._sock.settimeout(timeout)

    @property
    def sock(self) -> socket.socket:
        """The socket, with TLS around it if there is any."""
        return self._sock

    @property
    def tls(self) -> bool:
        return isinstance(self._sock, ssl.SSLSocket)

    def rows(self, sql: str) -> list[dict[str, str | None]]:
        """Run a query; its rows by column name."""
        result: Result = self.query(sql)
        return [dict(zip(result.columns, row, strict=True)) for row in result.rows]

    def value(self, sql: str) -> str:
        """Run a query; its first value, "" for NULL or no row."""
        result = self.query(sql)
        return (result.rows[0][0] or "") if result.rows else ""

    def _open(self, target: Target) -> socket.socket:
        sock = connect(target.address, target.timeout)
        if target.is_socket or target.sslmode in ("disable", "allow"):
            return sock
        try:
            sock.sendall(_SSL_REQUEST)
            if sock.recv(1) == b"S":
                return _context(target).wrap_socket(sock, server_hostname=target.host)
            if target.sslmode != "prefer":
                raise OSError("the server offers no TLS, and sslmode asks for it")
        except BaseException:
            sock.close()
            raise
        return sock

    def _message(self) -> tuple[bytes, bytes]:
        """The next message, with what a login needs done on the way."""
        while True:
            kind, body = super()._message()
            if kind == b"R":
                self._login(int.from_bytes(body[:4], "big"), body[4:])
            elif kind == b"K":
                self.pid = int.from_bytes(body[:4], "big")
            elif kind == b"S":
                name, value = body.split(b"\0")[:2]
                self.greeting[name.decode()] = value.decode(errors="replace")
            else:
                return kind, body

    def _login(self, code: int, data: bytes) -> None:
        if code == _OK:
            return
        password = self.target.password
        if password is None:
            raise ConnectionFailed("a password is asked for: put it into the URL, PGPASSWORD or ~/.pgpass")
        if code == _CLEAR:
            self._answer(password.encode() + b"\0")
        elif code == _MD5:
            secret = md5_secret(password, self.target.user)[3:].encode()
            self._answer(md5_response(secret, data) + b"\0")
        elif code == _SASL:
            self._exchange = ClientExchange()
            self._answer(build_initial_response(choose_mechanism(data), self._exchange.first()))
        elif code == _SASL_CONTINUE and self._exchange is not None:
            keys = derive_keys(password, *self._exchange.server_first(data))
            self._answer(self._exchange.final(keys.client_key, keys.server_key))
        elif code == _SASL_FINAL and self._exchange is not None:
            self._exchange.verify(data)
        else:
            raise ConnectionFailed(f"the server asks for a login method that is not supported ({code})")

    def _answer(self, body: bytes) -> None:
        self._sock.sendall(b"p" + struct.pack("!i", len(body) + 4) + body)


def _context(target: Target) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = target.sslmode == "verify-full"
    if target.sslmode.startswith("verify"):
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(
            target.sslrootcert
        ) if target.sslrootcert else context.load_default_certs()
    else:
        context.verify_mode = ssl.CERT_NONE  # as libpq: encrypted, and nobody's identity proven
    return context
