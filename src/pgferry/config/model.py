"""The configuration as structs: what the rest of pgferry reads, and what is sent to the workers."""

from __future__ import annotations

from typing import Any

import msgspec

from pgferry.config.problems import Problem
from pgferry.config.rules import HbaRule, IdentLine, LdapOptions
from pgferry.config.settings import default_value
from pgferry.tls.files import TlsFiles


def _default(name: str) -> Any:
    return default_value(name)


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Every global setting; the defaults come from the settings table. Times are seconds."""

    # Process and log
    workers: int = _default("workers")
    logfile: str = _default("logfile")
    pidfile: str = _default("pidfile")
    user: str | None = _default("user")
    job_name: str = _default("job_name")
    conffile: str | None = _default("conffile")
    syslog: bool = _default("syslog")
    syslog_ident: str = _default("syslog_ident")
    syslog_facility: str = _default("syslog_facility")
    log_connections: bool = _default("log_connections")
    log_disconnections: bool = _default("log_disconnections")
    log_pooler_errors: bool = _default("log_pooler_errors")
    log_stats: bool = _default("log_stats")
    stats_period: int = _default("stats_period")
    verbose: int = _default("verbose")

    # Listening, sockets, buffers
    listen_addr: tuple[str, ...] = _default("listen_addr")
    listen_port: int = _default("listen_port")
    listen_backlog: int = _default("listen_backlog")
    unix_socket_dir: str = _default("unix_socket_dir")
    unix_socket_mode: int = _default("unix_socket_mode")
    unix_socket_group: str = _default("unix_socket_group")
    so_reuseport: bool = _default("so_reuseport")
    peer_id: int = _default("peer_id")
    tcp_defer_accept: bool = _default("tcp_defer_accept")
    tcp_keepalive: bool = _default("tcp_keepalive")
    tcp_keepcnt: int = _default("tcp_keepcnt")
    tcp_keepidle: int = _default("tcp_keepidle")
    tcp_keepintvl: int = _default("tcp_keepintvl")
    tcp_user_timeout: int = _default("tcp_user_timeout")
    tcp_socket_buffer: int = _default("tcp_socket_buffer")
    pkt_buf: int = _default("pkt_buf")
    max_packet_size: int = _default("max_packet_size")
    sbuf_loopcnt: int = _default("sbuf_loopcnt")

    # Pools and limits
    pool_mode: str = _default("pool_mode")
    default_pool_size: int = _default("default_pool_size")
    min_pool_size: int = _default("min_pool_size")
    reserve_pool_size: int = _default("reserve_pool_size")
    reserve_pool_timeout: float = _default("reserve_pool_timeout")
    max_client_conn: int = _default("max_client_conn")
    max_db_connections: int = _default("max_db_connections")
    max_db_client_connections: int = _default("max_db_client_connections")
    max_user_connections: int = _default("max_user_connections")
    max_user_client_connections: int = _default("max_user_client_connections")
    server_round_robin: bool = _default("server_round_robin")

    # Upkeep of server connections
    server_reset_query: str = _default("server_reset_query")
    server_reset_query_always: bool = _default("server_reset_query_always")
    server_check_query: str = _default("server_check_query")
    server_check_delay: float = _default("server_check_delay")
    server_fast_close: bool = _default("server_fast_close")
    server_lifetime: float = _default("server_lifetime")
    server_idle_timeout: float = _default("server_idle_timeout")
    server_connect_timeout: float = _default("server_connect_timeout")
    server_login_retry: float = _default("server_login_retry")
    autodb_idle_timeout: float = _default("autodb_idle_timeout")
    pool_idle_timeout: float = _default("pool_idle_timeout")

    # Timeouts
    query_timeout: float = _default("query_timeout")
    query_wait_timeout: float = _default("query_wait_timeout")
    query_wait_notify: int = _default("query_wait_notify")
    cancel_wait_timeout: float = _default("cancel_wait_timeout")
    client_idle_timeout: float = _default("client_idle_timeout")
    client_login_timeout: float = _default("client_login_timeout")
    idle_transaction_timeout: float = _default("idle_transaction_timeout")
    transaction_timeout: float = _default("transaction_timeout")
    drain_timeout: float = _default("drain_timeout")
    suspend_timeout: float = _default("suspend_timeout")

    # Session state
    session_state: str = _default("session_state")
    scrub: str = _default("scrub")
    unknown_state: str = _default("unknown_state")
    harmless_functions: tuple[str, ...] = _default("harmless_functions")
    max_pinned: int = _default("max_pinned")
    pin_timeout: float = _default("pin_timeout")
    pin_log_threshold: float = _default("pin_log_threshold")

    # Metrics and observation
    http_listen: str = _default("http_listen")
    metrics_path: str = _default("metrics_path")
    dashboard: bool = _default("dashboard")
    dashboard_trust: bool = _default("dashboard_trust")
    otlp_endpoint: str = _default("otlp_endpoint")
    otlp_interval: float = _default("otlp_interval")
    transaction_log_threshold: float = _default("transaction_log_threshold")
    statement_text_length: int = _default("statement_text_length")

    # Protocol
    track_extra_parameters: tuple[str, ...] = _default("track_extra_parameters")
    ignore_startup_parameters: tuple[str, ...] = _default("ignore_startup_parameters")
    disable_pqexec: bool = _default("disable_pqexec")
    application_name_add_host: bool = _default("application_name_add_host")
    max_prepared_statements: int = _default("max_prepared_statements")
    scram_iterations: int = _default("scram_iterations")
    login_notify_message: str = _default("login_notify_message")

    # Login and console
    auth_type: str = _default("auth_type")
    auth_file: str | None = _default("auth_file")
    auth_hba_file: str = _default("auth_hba_file")
    auth_ident_file: str | None = _default("auth_ident_file")
    auth_user: str | None = _default("auth_user")
    auth_query: str = _default("auth_query")
    auth_dbname: str | None = _default("auth_dbname")
    auth_ldap_options: str | None = _default("auth_ldap_options")
    admin_users: tuple[str, ...] = _default("admin_users")
    stats_users: tuple[str, ...] = _default("stats_users")

    # Name lookup
    dns_max_ttl: float = _default("dns_max_ttl")
    dns_nxdomain_ttl: float = _default("dns_nxdomain_ttl")
    dns_zone_check_period: float = _default("dns_zone_check_period")
    resolv_conf: str = _default("resolv_conf")

    # TLS
    client_tls_sslmode: str = _default("client_tls_sslmode")
    client_tls_key_file: str = _default("client_tls_key_file")
    client_tls_cert_file: str = _default("client_tls_cert_file")
    client_tls_ca_file: str = _default("client_tls_ca_file")
    client_tls_crl_file: str = _default("client_tls_crl_file")
    client_tls_protocols: str = _default("client_tls_protocols")
    client_tls_ciphers: str = _default("client_tls_ciphers")
    client_tls13_ciphers: str | None = _default("client_tls13_ciphers")
    client_tls_dheparams: str = _default("client_tls_dheparams")
    client_tls_ecdhcurve: str = _default("client_tls_ecdhcurve")
    server_tls_sslmode: str = _default("server_tls_sslmode")
    server_tls_ca_file: str = _default("server_tls_ca_file")
    server_tls_crl_file: str = _default("server_tls_crl_file")
    server_tls_key_file: str = _default("server_tls_key_file")
    server_tls_cert_file: str = _default("server_tls_cert_file")
    server_tls_protocols: str = _default("server_tls_protocols")
    server_tls_ciphers: str = _default("server_tls_ciphers")
    server_tls13_ciphers: str | None = _default("server_tls13_ciphers")
    server_tls_sslnegotiation: str = _default("server_tls_sslnegotiation")


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
