"""Keys of the entries in [databases], [users] and [peers]."""

from __future__ import annotations

from pgferry.config.kinds import ENTRY_SECONDS, TEXT, TEXT_LIST, entry_integer, enum
from pgferry.config.setting import Setting
from pgferry.config.table_access import NEGOTIATION, SSLMODE
from pgferry.config.table_pooling import POOL_MODE
from pgferry.config.table_state import SCRUB, SESSION_STATE, UNKNOWN_STATE

_COUNT = entry_integer()
_PORT = entry_integer(1, 65535)

DATABASE: tuple[Setting, ...] = (
    Setting(
        name="dbname",
        default=None,
        kind=TEXT,
        text="Database to connect to on the server; the entry's name if unset.",
    ),
    Setting(
        name="host",
        field="hosts",
        default=None,
        kind=TEXT_LIST,
        text="Host name, IPv4 or IPv6 address, `/directory` or `@name` of a unix socket, or several with "
        "commas; the unix socket in unix_socket_dir if unset.",
    ),
    Setting(name="port", default="5432", kind=_PORT, text="Port of the server, also for unix sockets."),
    Setting(
        name="user",
        default=None,
        kind=TEXT,
        text="Log in to the server as this user, whoever the client is; the whole entry is then one pool.",
    ),
    Setting(
        name="password",
        default=None,
        kind=TEXT,
        text="Password of that user; if unset, its secret in auth_file.",
    ),
    Setting(name="auth_user", default=None, kind=TEXT, text="auth_user for this database."),
    Setting(
        name="auth_query",
        default=None,
        kind=TEXT,
        text="auth_query for this database.",
    ),
    Setting(
        name="auth_dbname",
        default=None,
        kind=TEXT,
        text="auth_dbname for this database.",
    ),
    Setting(
        name="pool_size",
        default=None,
        kind=_COUNT,
        inherit_below=0,
        text="Most server connections of each pool of this database; default_pool_size if unset, 0 is "
        "unlimited.",
    ),
    Setting(
        name="min_pool_size",
        default=None,
        kind=_COUNT,
        inherit_below=0,
        text="Server connections kept open in each pool; the global min_pool_size if unset.",
    ),
    Setting(
        name="reserve_pool_size",
        default=None,
        kind=_COUNT,
        inherit_below=0,
        aliases=("reserve_pool",),
        text="Extra server connections for each pool; the global reserve_pool_size if unset.",
    ),
    Setting(
        name="pool_mode",
        default=None,
        kind=POOL_MODE,
        text="When servers of this database go back to their pool; the global pool_mode if unset.",
    ),
    Setting(
        name="max_db_connections",
        default=None,
        kind=_COUNT,
        inherit_below=1,
        text="Most server connections of this database over all users; the global limit if unset or 0.",
    ),
    Setting(
        name="max_db_client_connections",
        default=None,
        kind=_COUNT,
        inherit_below=1,
        text="Most client connections of this database; the global limit if unset or 0.",
    ),
    Setting(
        name="server_lifetime",
        default=None,
        kind=ENTRY_SECONDS,
        unit="s",
        inherit_below=1,
        text="Age at which an unused server is closed; the global server_lifetime if unset or 0.",
    ),
    Setting(
        name="query_wait_timeout",
        default=None,
        kind=ENTRY_SECONDS,
        unit="s",
        inherit_below=0,
        text="How long clients wait for a server; the global query_wait_timeout if unset, 0 waits forever.",
    ),
    Setting(
        name="session_state",
        default=None,
        kind=SESSION_STATE,
        own=True,
        text="What is done about session state in this database; the global session_state if unset.",
    ),
    Setting(
        name="scrub",
        default=None,
        kind=SCRUB,
        own=True,
        text="Between whom servers of this database are wiped; the global scrub if unset.",
    ),
    Setting(
        name="unknown_state",
        default=None,
        kind=UNKNOWN_STATE,
        own=True,
        text="What is done about what nobody can know of a session in this database; the global unknown_state "
        "if unset.",
    ),
    Setting(
        name="max_pinned",
        default=None,
        kind=_COUNT,
        inherit_below=0,
        own=True,
        text="Most pinned servers of each pool of this database; the global max_pinned if unset, 0 is no limit.",
    ),
    Setting(
        name="pin_timeout",
        default=None,
        kind=ENTRY_SECONDS,
        unit="s",
        inherit_below=0,
        own=True,
        text="Longest age of a pin in this database; the global pin_timeout if unset, 0 is off.",
    ),
    Setting(
        name="transaction_log_threshold",
        default=None,
        kind=ENTRY_SECONDS,
        unit="s",
        inherit_below=0,
        own=True,
        text="Transactions of this database that are open for longer are logged; the global "
        "transaction_log_threshold if unset, 0 is off.",
    ),
    Setting(
        name="load_balance_hosts",
        default=None,
        kind=enum("round-robin", "disable"),
        text="Choice among several hosts: the next one for each new connection (the default), or with "
        "`disable` the same one until it fails. Either way one that cannot be reached is passed over.",
    ),
    Setting(
        name="sslmode",
        default=None,
        kind=SSLMODE,
        own=True,
        text="TLS towards this database's servers; server_tls_sslmode if unset.",
    ),
    Setting(
        name="sslnegotiation",
        default=None,
        kind=NEGOTIATION,
        own=True,
        text="How that TLS begins; server_tls_sslnegotiation if unset.",
    ),
    Setting(
        name="connect_query",
        default=None,
        kind=TEXT,
        text="Query sent to each new server before its first use; an error in it is logged and ignored."
        " The settings, the role and the prepared statements that it leaves are part of what each client starts with.",
    ),
    Setting(
        name="client_encoding",
        default=None,
        kind=TEXT,
        text="client_encoding that a server connection starts with.",
    ),
    Setting(
        name="datestyle", default=None, kind=TEXT, text="DateStyle that a server connection starts with."
    ),
    Setting(name="timezone", default=None, kind=TEXT, text="TimeZone that a server connection starts with."),
    Setting(
        name="application_name",
        default=None,
        kind=TEXT,
        text="application_name that a server connection starts with.",
    ),
)

USER: tuple[Setting, ...] = (
    Setting(
        name="pool_mode",
        default=None,
        kind=POOL_MODE,
        text="When servers of this user go back to their pool; before the mode of the database.",
    ),
    Setting(
        name="pool_size",
        default=None,
        kind=_COUNT,
        inherit_below=0,
        text="Most server connections of each pool of this user; before the size of the database.",
    ),
    Setting(
        name="reserve_pool_size",
        default=None,
        kind=_COUNT,
        inherit_below=0,
        text="Extra server connections for each pool of this user; before the size of the database.",
    ),
    Setting(
        name="max_user_connections",
        default=None,
        kind=_COUNT,
        inherit_below=1,
        text="Most server connections of this user over all databases; the global limit if unset or 0.",
    ),
    Setting(
        name="max_user_client_connections",
        default=None,
        kind=_COUNT,
        inherit_below=1,
        text="Most client connections of this user; the global limit if unset or 0.",
    ),
    Setting(
        name="query_timeout",
        default=None,
        kind=ENTRY_SECONDS,
        unit="s",
        inherit_below=1,
        text="Longest query of this user; the global query_timeout if unset or 0.",
    ),
    Setting(
        name="query_wait_timeout",
        default=None,
        kind=ENTRY_SECONDS,
        unit="s",
        inherit_below=0,
        text="How long clients of this user wait for a server; before the database's value, 0 waits forever.",
    ),
    Setting(
        name="idle_transaction_timeout",
        default=None,
        kind=ENTRY_SECONDS,
        unit="s",
        inherit_below=1,
        text="Longest pause in a transaction of this user; the global value if unset or 0.",
    ),
    Setting(
        name="transaction_timeout",
        default=None,
        kind=ENTRY_SECONDS,
        unit="s",
        inherit_below=1,
        text="Longest transaction of this user; the global value if unset or 0.",
    ),
    Setting(
        name="client_idle_timeout",
        default=None,
        kind=ENTRY_SECONDS,
        unit="s",
        inherit_below=1,
        text="Longest silence of a client of this user; the global value if unset or 0.",
    ),
    Setting(
        name="session_state",
        default=None,
        kind=SESSION_STATE,
        own=True,
        text="What is done about session state of this user; before the policy of the database.",
    ),
    Setting(
        name="unknown_state",
        default=None,
        kind=UNKNOWN_STATE,
        own=True,
        text="What is done about what nobody can know of a session of this user; before the database's.",
    ),
)

PEER: tuple[Setting, ...] = (
    Setting(
        name="host",
        default=None,
        kind=TEXT,
        text="Host or unix socket directory of the other pooler; required.",
    ),
    Setting(name="port", default="6432", kind=_PORT, text="Port of the other pooler."),
    Setting(
        name="pool_size",
        default=None,
        kind=_COUNT,
        inherit_below=0,
        text="Most cancel requests forwarded at the same time; default_pool_size if unset.",
    ),
)
