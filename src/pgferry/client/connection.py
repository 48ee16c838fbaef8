"""One blocking connection: TLS as sslmode says, login with trust, clear text, md5 or SCRAM, simple queries."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from pgferry.auth.errors import AuthError
from pgferry.auth.md5 import md5_response, md5_secret
from pgferry.auth.scram import MECHANISM, ClientExchange, derive_keys
from pgferry.client.errors import ClientError, ConnectionFailed, QueryError
from pgferry.client.target import Address, Target
from pgferry.protocol import backend, frontend
from pgferry.protocol.codec import Message
from pgferry.protocol.errors import ProtocolError
from pgferry.protocol.reader import MessageReader
from pgferry.protocol.startup import SSLRequest, startup

_RECEIVED_AT_ONCE = 65536


@dataclass(slots=True)
class Result:
    """Column names and rows (text, None for NULL) of the last statement that returned rows."""

    columns: list[str] = field(default_factory=list)
    rows: list[tuple[str | None, ...]] = field(default_factory=list)


def connect(address: Address, timeout: float) -> socket.socket:
    """A connected stream socket; timeout in seconds, kept for what is done with it. Raises OSError."""
    if isinstance(address, tuple):
        sock = socket.create_connection(address, timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout)
        sock.connect(address)
    except OSError:
        sock.close()
        raise
    return sock


class Connection:
    """A logged-in session. `query()` raises QueryError for what the server refuses, else ClientError or OSError.

    `pid` is the process id the other side gave at login (a pooler gives one of its own), `greeting` the
    parameters it reported, `tls` whether the connection is encrypted, `password_asked` whether the login needed a
    password. `sock` may be taken over by a load; given to the constructor, it is an open connection to log in on.
    """

    def __init__(
        self,
        target: Target,
        *,
        application_name: str = "pgferry",
        timeout: float | None = None,
        options: str = "",
        sock: socket.socket | None = None,
    ) -> None:
        self.target = target
        self.pid = 0
        self.greeting: dict[str, str] = {}
        self.password_asked = False
        self._messages = MessageReader()
        self._exchange: ClientExchange | None = None
        try:
            self.sock = _open(target) if sock is None else sock
        except OSError as e:
            raise ConnectionFailed(target, e) from e
        try:
            parameters = {"application_name": application_name} | ({"options": options} if options else {})
            self._send(startup(user=target.user, database=target.database, **parameters))
            self._until_ready()
        except (AuthError, ClientError, OSError, ValueError) as e:
            self.sock.close()
            raise ConnectionFailed(target, e) from e
        except BaseException:
            self.sock.close()
            raise
        self.sock.settimeout(timeout)

    @property
    def tls(self) -> bool:
        return isinstance(self.sock, ssl.SSLSocket)

    def query(self, sql: str) -> Result:
        """Run one text of statements; the last one's rows."""
        self._send(frontend.Query(sql))
        return self._until_ready()

    def rows(self, sql: str) -> list[dict[str, str | None]]:
        """Run a query; its rows by column name."""
        result = self.query(sql)
        return [dict(zip(result.columns, row, strict=True)) for row in result.rows]

    def value(self, sql: str) -> str:
        """Run a query; its first value, "" for NULL or no row."""
        result = self.query(sql)
        return (result.rows[0][0] or "") if result.rows else ""

    def close(self) -> None:
        """Say goodbye and close."""
        try:
            self._send(frontend.Terminate())
        except OSError:
            pass  # the server was faster
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, e: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, message: Message) -> None:
        self.sock.sendall(message.build())

    def _receive(self) -> Message:
        try:
            while (found := self._messages.take()) is None:
                data = self.sock.recv(_RECEIVED_AT_ONCE)
                if not data:
                    raise ClientError("The server closed the connection.")
                self._messages.feed(data)
            return backend.parse(*found)
        except ProtocolError as e:
            raise ClientError(f"The server does not speak PostgreSQL's protocol: {e}") from e

    def _until_ready(self) -> Result:
        result, error = Result(), None
        while True:
            match self._receive():
                case backend.DataRow(values=values):
                    result.rows.append(
                        tuple(None if v is None else v.decode("utf-8", "replace") for v in values)
                    )
                case backend.RowDescription(columns=columns):
                    result = Result([column.name for column in columns])
                case backend.ReadyForQuery():
                    if error is not None:
                        raise error
                    return result
                case backend.ErrorResponse() as answer:
                    error = QueryError(answer)
                    if answer.severity in ("FATAL", "PANIC"):
                        raise error
                case backend.ParameterStatus(name=name, value=value):
                    self.greeting[name] = value
                case backend.BackendKeyData(process_id=number):
                    self.pid = number
                case message if message.TYPE == backend.AuthenticationOk.TYPE:
                    self._log_in(message)

    def _log_in(self, message: Message) -> None:
        """Give the server what it asks for before it lets us in."""
        if isinstance(message, backend.AuthenticationOk):
            return
        self.password_asked = True
        password = self.target.password
        if password is None:
            raise ClientError("a password is asked for: put it into the URL, PGPASSWORD or ~/.pgpass")
        match message, self._exchange:
            case backend.AuthenticationCleartextPassword(), _:
                self._send(frontend.password(password.encode()))
            case backend.AuthenticationMD5Password(salt=salt), _:
                secret = md5_secret(password, self.target.user).removeprefix("md5").encode()
                self._send(frontend.password(md5_response(secret, salt)))
            case backend.AuthenticationSASL(mechanisms=offered), _ if MECHANISM.decode() in offered:
                self._exchange = ClientExchange()
                self._send(frontend.sasl_initial(MECHANISM.decode(), self._exchange.first()))
            case backend.AuthenticationSASLContinue(data=data), ClientExchange() as exchange:
                keys = derive_keys(password, *exchange.server_first(data))
                self._send(frontend.AuthenticationAnswer(exchange.final(keys.client_key, keys.server_key)))
            case backend.AuthenticationSASLFinal(data=data), ClientExchange() as exchange:
                exchange.verify(data)
            case _:
                code = int.from_bytes(message.payload()[:4], "big")
                raise ClientError(f"the server asks for a login method that is not supported ({code})")


def _open(target: Target) -> socket.socket:
    sock = connect(target.address, target.timeout)
    if target.is_socket or target.sslmode in ("disable", "allow"):
        return sock
    try:
        sock.sendall(SSLRequest().build())
        if sock.recv(1) == b"S":
            return _context(target).wrap_socket(sock, server_hostname=target.host)
        if target.sslmode != "prefer":
            raise OSError("the server offers no TLS, and sslmode asks for it")
    except BaseException:
        sock.close()
        raise
    return sock


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
