"""Global settings of session state: what is done about it between transactions, and the limits of pins."""

from __future__ import annotations

from pgferry.config.kinds import TEXT_LIST, TIME, enum, integer
from pgferry.config.setting import Setting

SESSION_STATE = enum("track", "refuse", "ignore")
SCRUB = enum("on_user_change", "always", "when_needed")
UNKNOWN_STATE = enum("reset", "pin")

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
        name="unknown_state",
        default="reset",
        kind=UNKNOWN_STATE,
        group=_STATE,
        own=True,
        text="What is done after a statement that calls a function in a language that pgferry cannot read "
        "(PL/Python, PL/Perl, ...), which may have set custom settings of any name: `reset` keeps all that "
        "PostgreSQL tells of the session, and empties settings of names that nobody knows (RESET ALL) before "
        "another client gets the server; `pin` keeps the server for this client until it leaves.",
    ),
    Setting(
        name="harmless_functions",
        default="",
        kind=TEXT_LIST,
        group=_STATE,
        own=True,
        text="Functions in languages that pgferry cannot read that leave nothing behind in a session, by name or as "
        "`schema.name`, separated by commas: the operator vouches for them. Functions that can be read are read.",
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
