"""What the classifier says about a statement's text: the state it may change, end or need."""

import enum

import msgspec


class Touch(enum.IntFlag):
    """State of a session that a text may add or change."""

    SETTINGS = 1  # settings, role, session authorization
    PREPARED = 2  # prepared statements made by SQL's PREPARE
    LISTEN = 4  # listening channels
    TEMP = 8  # objects in the temporary schema
    LOCKS = 16  # advisory locks of the session
    CURSORS = 32  # holdable cursors
    FOREVER = 64  # what can be neither asked for nor undone: LOAD, setseed, dblink_connect, temporary slots
    UNNAMED = 128  # a setting whose name the text does not tell: set_config with a computed name
    UNREADABLE = 256  # code that cannot be read: custom settings of names that nobody knows may have been set
    LOCAL = 512  # settings until the end of the transaction: they matter to what is parsed in it


class Need(enum.IntFlag):
    """What must be right on the server before a text runs."""

    PREPARED = 1  # EXECUTE, PREPARE, DEALLOCATE, pg_prepared_statements
    SEQUENCES = 2  # currval, lastval


# Needs stand above the Touch bits where both are kept in one number.
NEED_SHIFT = 16
# Stand above both: it sends notifications; it may make or change what other texts call or set off (Verdict.defines); it
# makes a table, which defines what the code does that its definition names.
NOTIFIES = 1 << 24
DEFINES = 1 << 25
MAKES = 1 << 26

# Everything that can be asked for: what SQL that nobody can read beforehand may have done. FOREVER is not in it,
# since a server pinned for good after each dynamic statement would cost more than it is worth.
ANYTHING = (
    Touch.SETTINGS | Touch.PREPARED | Touch.LISTEN | Touch.TEMP | Touch.LOCKS | Touch.CURSORS | Touch.UNNAMED
)

# What pins a server, and so is asked for again when it may have ended.
PINNING = Touch.TEMP | Touch.LOCKS | Touch.CURSORS

# Kinds of Verdict.rewrites: places that name a prepared statement, which has another name on the server.
REWRITE_EXECUTE = 1
REWRITE_DEALLOCATE = 2
REWRITE_RELATION_WITH_ALIAS = 3
REWRITE_RELATION = 4
REWRITE_PREPARE = 5

# Bits of Verdict.discards.
DEALLOCATE_ALL = 1
DISCARD_ALL = 2
DISCARD_SEQUENCES = 4
DISCARD_TEMP = 8


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a text may do to a session.

    The defaults are those of a text that nobody has understood: whoever says nothing of a text has said the worst.
    """

    touch: int = int(ANYTHING)  # Touch bits it may add or change
    ends: int = int(PINNING)  # Touch bits it may end: DROP, pg_advisory_unlock, CLOSE, DISCARD
    needs: int = int(Need.PREPARED | Need.SEQUENCES)
    names: tuple[bytes, ...] | None = None  # lower-case names of settings it may change; None: any
    hints: tuple[bytes, ...] = ()  # with names None: names the text shows; pg_settings lists no custom ones
    params: tuple[int, ...] = ()  # numbers of $n that are the whole name argument of a set_config
    resets: tuple[bytes, ...] | None = ()  # settings it sets back to the start value; None: all
    # Where a text of several statements sets settings back: (end of that statement, its number, names or None: all).
    resets_at: tuple[tuple[int, int, tuple[bytes, ...] | None], ...] = ()
    listens: tuple[bytes, ...] = ()  # channels of plain LISTEN statements
    notifies: bool = True  # NOTIFY or pg_notify
    prepares: tuple[bytes, ...] = ()  # names of SQL PREPARE
    rewrites: tuple[tuple[int, int, int, bytes], ...] = ()  # (start, end, kind, name), kinds above
    discards: int = 0  # bits above
    clears: int = 0  # bits of session.clears: what is gone after the text, which does nothing else
    ends_transaction: bool = True  # COMMIT, END, ROLLBACK, ABORT or PREPARE TRANSACTION is in it
    plain: tuple[bytes, bytes] | None = None  # one plain SET alone: (name, text that repeats it)
    defines: bool = True  # it may make or change functions, triggers, views: what other texts call or set off
    reason: str = "text that cannot be read"  # for logs, pins and refusals


HARMLESS = Verdict(
    touch=0, ends=0, needs=0, names=(), notifies=False, ends_transaction=False, defines=False, reason=""
)
"""The one verdict on what neither touches a session nor needs anything of it; compared by identity."""
