"""Global settings of pooling: sizes, limits, server upkeep, timeouts and protocol behaviour."""

from __future__ import annotations

from pgferry.config.kinds import BOOL, TEXT, TEXT_LIST, TIME, enum, integer
from pgferry.config.setting import Setting

POOL_MODE = enum("session", "transaction", "statement")

_POOL = "Pools and limits"
_UPKEEP = "Upkeep of server connections"
_TIMEOUTS = "Timeouts"
_PROTOCOL = "Protocol"

# Limits read any number below 1 as "none", as PgBouncer does.
_LIMIT = integer(None)

POOL: tuple[Setting, ...] = (
    Setting(
        name="pool_mode",
        default="session",
        kind=POOL_MODE,
        group=_POOL,
        text="When a server goes back to its pool: when the client leaves, when its transaction ends, or "
        "after every statement; a mode of the user or the database has precedence.",
    ),
    Setting(
        name="default_pool_size",
        default="20",
        kind=integer(0),
        group=_POOL,
        text="Most server connections for each pair of database and user that has no own pool_size; "
        "0 is unlimited.",
    ),
    Setting(
        name="min_pool_size",
        default="0",
        kind=integer(0),
        group=_POOL,
        text="Server connections kept open in a pool that has clients or a forced user, never more than its "
        "pool size.",
    ),
    Setting(
        name="reserve_pool_size",
        default="0",
        kind=integer(0),
        group=_POOL,
        text="Extra server connections that a pool may open once a client has waited reserve_pool_timeout.",
    ),
    Setting(
        name="reserve_pool_timeout",
        default="5",
        kind=TIME,
        unit="s",
        group=_POOL,
        text="Waiting time of the oldest client that opens the reserve; 0 never opens it.",
    ),
    Setting(
        name="max_client_conn",
        default="100",
        kind=integer(0),
        group=_POOL,
        text="Most client connections altogether; the admin console is exempt.",
    ),
    Setting(
        name="max_db_connections",
        default="0",
        kind=_LIMIT,
        group=_POOL,
        text="Most server connections per database over all its users; idle ones of other users make room. "
        "0 is no limit.",
    ),
    Setting(
        name="max_db_client_connections",
        default="0",
        kind=_LIMIT,
        group=_POOL,
        text="Most client connections per database; 0 is no limit.",
    ),
    Setting(
        name="max_user_connections",
        default="0",
        kind=_LIMIT,
        group=_POOL,
        text="Most server connections per user over all databases; 0 is no limit.",
    ),
    Setting(
        name="max_user_client_connections",
        default="0",
        kind=_LIMIT,
        group=_POOL,
        text="Most client connections per user over all databases; 0 is no limit.",
    ),
    Setting(
        name="server_round_robin",
        default="0",
        kind=BOOL,
        group=_POOL,
        text="Take idle servers in turn instead of the last used one first.",
    ),
)

UPKEEP: tuple[Setting, ...] = (
    Setting(
        name="server_reset_query",
        default="DISCARD ALL",
        kind=TEXT,
        group=_UPKEEP,
        text="Query that cleans a server when a session ends (session mode only, unless "
        "server_reset_query_always); empty sends none.",
    ),
    Setting(
        name="server_reset_query_always",
        default="0",
        kind=BOOL,
        group=_UPKEEP,
        text="Send server_reset_query in transaction and statement mode too, after every release.",
    ),
    Setting(
        name="server_check_query",
        default="<empty>",
        kind=TEXT,
        group=_UPKEEP,
        text="Query that shows that an idle server still answers; `<empty>` is an empty query, nothing means "
        "no check.",
    ),
    Setting(
        name="server_check_delay",
        default="30",
        kind=TIME,
        unit="s",
        group=_UPKEEP,
        text="A server idle for a shorter time is used again without a check; 0 always checks.",
    ),
    Setting(
        name="server_fast_close",
        default="0",
        kind=BOOL,
        group=_UPKEEP,
        text="In session mode close a server that is to be replaced as soon as it is outside a transaction, "
        "together with its client.",
    ),
    Setting(
        name="server_lifetime",
        default="3600",
        kind=TIME,
        unit="s",
        group=_UPKEEP,
        text="An unused server older than this is closed, spread over time; 0 uses each server once only.",
    ),
    Setting(
        name="server_idle_timeout",
        default="600",
        kind=TIME,
        unit="s",
        group=_UPKEEP,
        text="A server idle for longer is closed, but not below min_pool_size; 0 is never.",
    ),
    Setting(
        name="server_connect_timeout",
        default="15",
        kind=TIME,
        unit="s",
        group=_UPKEEP,
        text="Time for connecting and logging in to a server; then the attempt is given up.",
    ),
    Setting(
        name="server_login_retry",
        default="15",
        kind=TIME,
        unit="s",
        group=_UPKEEP,
        text="Pause after a failed connection to a server; clients get the last error meanwhile.",
    ),
    Setting(
        name="autodb_idle_timeout",
        default="3600",
        kind=TIME,
        unit="s",
        group=_UPKEEP,
        text="A database made from the `*` entry and unused for longer is forgotten with its statistics.",
    ),
    Setting(
        name="pool_idle_timeout",
        default="0",
        kind=TIME,
        unit="s",
        group=_UPKEEP,
        text="A pool without clients and servers for longer is forgotten; 0 is never.",
    ),
)

TIMEOUTS: tuple[Setting, ...] = (
    Setting(
        name="query_timeout",
        default="0",
        kind=TIME,
        unit="s",
        group=_TIMEOUTS,
        text="A query that runs longer is ended by closing its server and its client; a client that waits "
        "this long for a server is dropped too. 0 is off.",
    ),
    Setting(
        name="query_wait_timeout",
        default="120",
        kind=TIME,
        unit="s",
        group=_TIMEOUTS,
        text="A client that waits longer for a server is dropped; 0 waits forever.",
    ),
    Setting(
        name="query_wait_notify",
        default="5",
        kind=integer(0),
        unit="s",
        group=_TIMEOUTS,
        text="A client that waits longer is told so once with a notice; 0 is off.",
    ),
    Setting(
        name="cancel_wait_timeout",
        default="10",
        kind=TIME,
        unit="s",
        group=_TIMEOUTS,
        text="A cancel request that could not be passed on for longer is dropped; 0 is never.",
    ),
    Setting(
        name="client_idle_timeout",
        default="0",
        kind=TIME,
        unit="s",
        group=_TIMEOUTS,
        text="A client without a server that sends nothing for longer is dropped; 0 is off.",
    ),
    Setting(
        name="client_login_timeout",
        default="60",
        kind=TIME,
        unit="s",
        group=_TIMEOUTS,
        text="A client that has not finished its login in this time is dropped; 0 is off.",
    ),
    Setting(
        name="idle_transaction_timeout",
        default="0",
        kind=TIME,
        unit="s",
        group=_TIMEOUTS,
        text="A client that does nothing in an open transaction for longer is dropped; 0 is off.",
    ),
    Setting(
        name="transaction_timeout",
        default="0",
        kind=TIME,
        unit="s",
        group=_TIMEOUTS,
        text="A transaction that takes longer, busy or not, is ended with its client; 0 is off.",
    ),
    Setting(
        name="drain_timeout",
        default="0",
        kind=TIME,
        unit="s",
        group=_TIMEOUTS,
        own=True,
        text="With a value above 0, SIGTERM, SIGINT and SHUTDOWN close each client at the moment it is between "
        "transactions, and everybody after this time; 0 is PgBouncer's behaviour.",
    ),
    Setting(
        name="suspend_timeout",
        default="10",
        kind=TIME,
        unit="s",
        group=_TIMEOUTS,
        pending="the SUSPEND command does not exist, and -R waits for transactions as long as they take",
        text="How long SUSPEND waits for buffers to empty before it drops connections.",
    ),
)

PROTOCOL: tuple[Setting, ...] = (
    Setting(
        name="track_extra_parameters",
        default="IntervalStyle",
        kind=TEXT_LIST,
        group=_PROTOCOL,
        reload=False,
        text="Further parameters, of those the server reports, whose value is kept for each client.",
    ),
    Setting(
        name="ignore_startup_parameters",
        default="",
        kind=TEXT_LIST,
        group=_PROTOCOL,
        text="Startup parameters of clients that are accepted and dropped; `options` accepts unknown -c "
        "items.",
    ),
    Setting(
        name="disable_pqexec",
        default="0",
        kind=BOOL,
        group=_PROTOCOL,
        reload=False,
        text="Refuse the simple query protocol, and with it several statements in one text.",
    ),
    Setting(
        name="application_name_add_host",
        default="0",
        kind=BOOL,
        group=_PROTOCOL,
        text="Add the client's address and port to its application_name at login.",
    ),
    Setting(
        name="max_prepared_statements",
        default="200",
        kind=integer(0),
        group=_PROTOCOL,
        text="Named prepared statements kept on each server in transaction and statement mode; with 0 it is one at "
        "a time, and with session_state = ignore none: names go to servers as they are.",
    ),
    Setting(
        name="scram_iterations",
        default="4096",
        kind=integer(1),
        group=_PROTOCOL,
        text="Iterations when a SCRAM verifier is made from a plain-text secret.",
    ),
    Setting(
        name="login_notify_message",
        default="",
        kind=TEXT,
        group=_PROTOCOL,
        text="Notice sent to every client at the end of its login; empty sends none.",
    ),
)
