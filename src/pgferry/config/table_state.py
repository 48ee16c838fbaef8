"""Global settings of session state: what is done about it between transactions, and the limits of pins."""

from __future__ import annotations

from pgferry.config.kinds import TIME, enum, integer
from pgferry.config.setting import Setting

SESSION_STATE = enum("track", "refuse", "ignore")
SCRUB = enum("on_user_change", "always", "when_needed")

_STATE = "Session state"

STATE: tuple[Setting, ...] = (
    Setting(
        name="session_state",
        default="track",
        kind=SESSION_STATE,
        group=_STATE,
        own=True,
        text="What is done in transaction and statement mode about what a session keeps between transactions "
        "(settings, role, SQL-level prepared statements, LISTEN, temporary tables, ...): `track` keeps it for "
        "the client, `refuse` answers such statements with an error, `ignore` leaves it on the server as "
        "PgBouncer does; a policy of the user or the database has precedence.",
    ),
    Setting(
        name="scrub",
        default="on_user_change",
        kind=SCRUB,
        group=_STATE,
        own=True,
        text="Between whom a server connection is wiped with DISCARD ALL, whatever is known of its session: "
        "`on_user_change` between clients of different login users (which share servers where the database "
        "has a `user` of its own), `always` between any two clients, `when_needed` only when a client has "
        "left state behind that nobody else may find.",
    ),
    Setting(
        name="max_pinned",
        default="0",
        kind=integer(0),
        group=_STATE,
        own=True,
        text="Most servers of a pool that may be pinned to clients at a time; a client whose state would pin "
        "one more is closed with an error. 0 is no limit.",
    ),
    Setting(
        name="pin_timeout",
        default="0",
        kind=TIME,
        unit="s",
        group=_STATE,
        own=True,
        text="Longest age of a pin: a client that is idle outside a transaction with an older one is closed "
        "with an error; 0 is off.",
    ),
    Setting(
        name="pin_log_threshold",
        default="60",
        kind=TIME,
        unit="s",
        group=_STATE,
        own=True,
        text="A pin that gets older than this is logged once, with its reasons; 0 is off.",
    ),
)
