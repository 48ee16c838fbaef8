"""What the login of a client asks of the worker: users that auth_file does not know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from pgferry.auth import hba
from pgferry.auth.errors import Refused
from pgferry.auth.query import CONFIG_ERROR, BadAnswer, Found, text_to_send, understand
from pgferry.auth.secrets import SecretKind
from pgferry.config.model import Config
from pgferry.config.rules import HbaRule, LdapOptions
from pgferry.engine.client.login_data import Login
from pgferry.engine.core.database import Database, User
from pgferry.engine.core.model import Engine
from pgferry.engine.services.auth_query import look_up, lookup_pool
from pgferry.frames import Message
from pgferry.tls.certificate import Certificate
from pgferry.worker.control import Control

LookedUp = Callable[[Found | None, str | None], None]
"""Gets the user, or None for nobody; and what a client is told when nobody could be asked."""

Verified = Callable[[str], None]
"""Gets why the user may not log in; empty: it may."""

_MAX_UNVERIFIED_DATABASES = 4000
"""Names that made an entry from `*` for somebody who had proved nothing, and that PostgreSQL never answered for."""
_LOG_SECONDS = 1.0


class WorkerServices(Protocol):
    """The worker, as far as logins need it."""

    config: Config
    engine: Engine
    control: Control

    def user(self, name: str) -> User:
        """The user of this name."""

    def auto_database(self, name: str) -> Database | None:
        """An entry made from `*`."""


class ClientAuthService:
    """One per worker. `last_kind` is the kind of secret that auth_query found last."""

    def __init__(self, services: WorkerServices) -> None:
        self._services = services
        self.last_kind = SecretKind.NONE
        self._unverified_databases: set[str] = set()
        self._next_line = 0.0

    def look_up(self, login: Login, done: LookedUp) -> bool:
        """Ask auth_query about the user of a client that logs in. False when there is no auth_user.

        Raises Refused when the database that would be asked is disabled.
        """
        config = self._services.config
        settings = config.settings
        database, user = login.database, login.username
        entry = config.database(database)
        auth_user = (entry.auth_user if entry is not None else None) or settings.auth_user
        if auth_user is None:
            return False
        own = entry.auth_dbname if entry is not None else None
        name = own or settings.auth_dbname or (database if entry is not None else None)
        if name is None:
            done(None, None)  # there is no such database; said to those who know a password only
            return True
        db = self._services.engine.databases.get(name) or self._new_database(name)
        if db is None:
            self._warn(f"auth_query for {database}/{user}: there is no database {name}")
            done(None, CONFIG_ERROR)
            return True
        if db.disabled:
            raise Refused(f'authentication database "{name}" is disabled')

        def answered(rows: list[list[bytes | None]] | None, error: str | None) -> None:
            try:
                if rows is None:
                    raise BadAnswer(error or "no answer")
                found = understand(rows)
            except BadAnswer as problem:
                self._warn(f"auth_query for {database}/{user} in {name} as {auth_user}: {problem}")
                done(None, CONFIG_ERROR)
                return
            self._unverified_databases.discard(name)
            if found is not None and found.secret.kind is not SecretKind.NONE:
                self.last_kind = found.secret.kind
            done(found, None)

        query = (entry.auth_query if entry is not None else None) or settings.auth_query
        pool = lookup_pool(self._services.engine, db, self._services.user(auth_user))
        look_up(pool, text_to_send(query), user.encode("utf-8", "surrogateescape"), login, answered)
        return True

    def rule(self, login: hba.Login) -> HbaRule:
        """The HBA rule that decides about this login. Raises Refused."""
        found = hba.find_rule(self._services.config.hba, login)
        if found is None:
            raise Refused(hba.NO_RULE)
        if found.method == "reject":
            raise Refused(hba.REJECTED)
        return found

    def check_peer(self, uid: int, map_name: str, user: str, done: Callable[[bool], None]) -> None:
        """Whether the account at the other end of a unix socket may be this user."""
        lines = self._services.config.ident.get(map_name, ()) if map_name else None

        def answered(answer: Message) -> None:
            if not answer.get("ok"):
                self._warn(f"peer: {answer.get('error')}")
            done(bool(answer.get("ok")) and hba.may_be(lines, str(answer["name"]), user))

        self._services.control.request("system_user", answered, uid=uid)

    def verify(
        self, method: str, options: LdapOptions | None, user: str, password: bytes, host: str, done: Verified
    ) -> None:
        """Have the supervisor ask LDAP or PAM."""

        def answered(answer: Message) -> None:
            done(str(answer["why"] if answer.get("ok") else answer.get("error")))

        self._services.control.request(
            "verify",
            answered,
            method=method,
            ldap=msgspec.to_builtins(options),
            user=user.encode("utf-8", "surrogateescape"),
            password=password,
            host=host,
        )

    def check_certificate(self, certificate: Certificate, map_name: str, user: str) -> bool:
        """Whether who has shown this (valid) certificate may be this user."""
        if not map_name:
            return certificate.fits(user)
        lines = self._services.config.ident.get(map_name, ())
        return any(hba.may_be(lines, name, user) for name in certificate.names())

    def _new_database(self, name: str) -> Database | None:
        """An entry made from `*` for somebody who has proved nothing yet: there is a limit to those."""
        if name not in self._unverified_databases:
            if len(self._unverified_databases) >= _MAX_UNVERIFIED_DATABASES:
                self._warn(f"too many names of databases were tried: {name} is not asked; set auth_dbname")
                return None
            self._unverified_databases.add(name)
        return self._services.auto_database(name)

    def _warn(self, text: str) -> None:
        """A line of the log, at most one in a second: anybody can cause them."""
        now = self._services.engine.loop.now
        if now >= self._next_line:
            self._next_line = now + _LOG_SECONDS
            self._services.engine.log.write("WARNING", text)
