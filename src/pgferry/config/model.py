"""The configuration as structs: what the rest of pgferry reads, and what is sent to the workers."""

from __future__ import annotations

import msgspec

from pgferry.config.global_settings import Settings
from pgferry.config.problems import Problem
from pgferry.config.rules import HbaRule, IdentLine, LdapOptions
from pgferry.tls.files import TlsFiles


def _masked_repr(struct: msgspec.Struct, secret: str) -> str:
    """Return a repr with the field `secret` shown only as set or not set."""
    shown = []
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        shown.append(f"{name}=<hidden>" if name == secret and value else f"{name}={value!r}")
    return f"{type(struct).__name__}({', '.join(shown)})"


class Database(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of [databases]. None means "as the global setting"; times are seconds.

    dbname is empty only in the `*` template, where it stands for the requested name. No hosts means the unix
    socket in unix_socket_dir.
    """

    name: str
    dbname: str
    hosts: tuple[str, ...] = ()
    port: int = 5432
    user: str | None = None
    password: str | None = None
    auth_user: str | None = None
    auth_query: str | None = None
    auth_dbname: str | None = None
    pool_size: int | None = None
    min_pool_size: int | None = None
    reserve_pool_size: int | None = None
    pool_mode: str | None = None
    max_db_connections: int | None = None
    max_db_client_connections: int | None = None
    server_lifetime: float | None = None
    query_wait_timeout: float | None = None
    session_state: str | None = None
    scrub: str | None = None
    unknown_state: str | None = None
    max_pinned: int | None = None
    pin_timeout: float | None = None
    transaction_log_threshold: float | None = None
    load_balance_hosts: str | None = None
    sslmode: str | None = None
    sslnegotiation: str | None = None
    connect_query: str | None = None
    client_encoding: str | None = None
    datestyle: str | None = None
    timezone: str | None = None
    application_name: str | None = None

    def __repr__(self) -> str:
        return _masked_repr(self, "password")

    def same_servers(self, other: Database) -> bool:
        """Whether connections made for `other` may go on serving this entry."""
        return all(getattr(self, name) == getattr(other, name) for name in _SHAPES_CONNECTIONS)


# A change of one of these at RELOAD replaces the entry's server connections; a password matters only later.
_SHAPES_CONNECTIONS = (
    "dbname",
    "hosts",
    "port",
    "user",
    "auth_query",
    "auth_dbname",
    "load_balance_hosts",
    "sslmode",
    "sslnegotiation",
    "connect_query",
    "client_encoding",
    "datestyle",
    "timezone",
    "application_name",
)


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A user of auth_file or [users]. None means "as the database or the global setting"; times are seconds.

    secret is the stored secret, empty when the file gives none; None when the user is not in auth_file.
    """

    name: str
    secret: str | None = None
    pool_mode: str | None = None
    pool_size: int | None = None
    reserve_pool_size: int | None = None
    max_user_connections: int | None = None
    max_user_client_connections: int | None = None
    query_timeout: float | None = None
    query_wait_timeout: float | None = None
    idle_transaction_timeout: float | None = None
    transaction_timeout: float | None = None
    client_idle_timeout: float | None = None
    session_state: str | None = None
    unknown_state: str | None = None

    def __repr__(self) -> str:
        return _masked_repr(self, "secret")


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of [peers]: another pooler that shares an address with this one."""

    id: int
    host: str
    port: int = 6432
    pool_size: int | None = None


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A complete, valid configuration. path is the file it came from, empty when it came from a URL.

    autodb is the `*` entry. hba and ident are empty unless auth_type is hba, ldap is None unless it is ldap.
    warnings are findings that did not stop the load; the caller logs them.
    """

    path: str = ""
    settings: Settings = Settings()
    databases: dict[str, Database] = {}
    autodb: Database | None = None
    users: dict[str, User] = {}
    peers: dict[int, Peer] = {}
    hba: tuple[HbaRule, ...] = ()
    ident: dict[str, tuple[IdentLine, ...]] = {}
    ldap: LdapOptions | None = None
    tls: TlsFiles = TlsFiles()
    warnings: list[Problem] = []

    def database(self, name: str) -> Database | None:
        """Return the entry for a requested database name: its own, one made from `*`, or None."""
        found = self.databases.get(name)
        if found is None and self.autodb is not None and name:
            found = msgspec.structs.replace(self.autodb, name=name, dbname=self.autodb.dbname or name)
        return found
