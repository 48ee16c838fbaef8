"""Asking PostgreSQL what a session holds, and what follows: the client's state, pins, scrubbing.

ask() stages one swallowed query behind the client's ReadyForQuery; until it is answered the server stays with its
client, whose next statements go behind it. It runs in the session as the client has set it up: every name in it is
written with its schema, names and values come as hexadecimal digits of their bytes in the database's encoding, and
where a time limit may strike, it sets that aside for itself.
"""

from binascii import unhexlify

from libc.stdint cimport uint32_t

from pgferry.engine.core.effects cimport (
    CURSORS, FOREVER, LARGE, LISTEN, LOCKS, PREPARED, SETTINGS, TEMP, UNNAMED, UNREADABLE,
)
from pgferry.engine.core.enums cimport P_LIMITS, P_PROBE
from pgferry.engine.core.model cimport Client, Engine, Server
from pgferry.engine.core.session_state cimport size_of, taken_off
from pgferry.engine.core.statements cimport ParseSettings
from pgferry.engine.session.catalog cimport is_given_up
from pgferry.engine.session.notifications cimport take_channels
from pgferry.engine.session.parse_settings cimport MAY_CHANGE, settled_settings
from pgferry.engine.session.pending_effects cimport add_effects, demote_standalone
from pgferry.engine.session.pins cimport pin
from pgferry.engine.session.settling cimport settle_unsure
from pgferry.engine.wire.messages cimport as_hex, sql_text
from pgferry.session.replay import REPLAY
from pgferry.session.settings import EXCLUSIVE, LIMITS

cdef enum:
    CLEARS_SETTINGS = 1     # bits of session.clears
    CLEARS_ROLE = 2
    CLEARS_AUTHORIZATION = 4
    CLEARS_LISTEN = 8
    CLEARS_PREPARED = 16
    CLEARS_NAMED = 32

LARGE_STATE = 1 << 20       # bytes
ANY = b""               # in SessionTracker.preparing
ROLE = b"role"
AUTHORIZATION = b"session_authorization"
# Belong to a transaction, or are no settings.
NOT_KEPT = frozenset((b"transaction_isolation", b"transaction_read_only", b"transaction_deferrable", b"is_superuser",
                      b"seed", b"server_version", b"lc_collate", b"lc_ctype"))

# The name by its place in Probe.asked_order.
NAMED = b"SELECT 's', i, %b FROM (VALUES %%b) v(i,n)" % as_hex(b"pg_catalog.current_setting(n,true)")
ANY_NAME = (b"SELECT 'a', %b, %b FROM pg_catalog.pg_show_all_settings() WHERE source OPERATOR(pg_catalog.=) 'session'"
            % (as_hex(b"name"), as_hex(b"setting")))
IN_PREPARED = (b"SELECT 'p', %b, %b FROM pg_catalog.pg_prepared_statement() WHERE from_sql"
               % (as_hex(b"name"), as_hex(b"statement")))
IN_LISTEN = b"SELECT 'n', %b, NULL FROM pg_catalog.pg_listening_channels() l(c)" % as_hex(b"c")
# Everything in a schema depends on it, and pg_depend has an index for that.
IN_TEMP = (b"(SELECT 't', NULL, NULL FROM pg_catalog.pg_depend WHERE refclassid OPERATOR(pg_catalog.=) "
           b"2615::pg_catalog.oid AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() LIMIT 1)")
IN_LOCKS = (b"(SELECT 'l', NULL, NULL FROM pg_catalog.pg_lock_status() WHERE locktype OPERATOR(pg_catalog.=) "
            b"'advisory' AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() LIMIT 1)")
IN_CURSORS = b"(SELECT 'h', NULL, NULL FROM pg_catalog.pg_cursor() WHERE is_holdable LIMIT 1)"
PARTS = ((PREPARED, IN_PREPARED), (LISTEN, IN_LISTEN), (TEMP, IN_TEMP), (LOCKS, IN_LOCKS), (CURSORS, IN_CURSORS))


# In front of a probe that a time limit of the client's own has cut short; without BEGIN it ends with the probe.
GUARDS = ((b"statement_timeout", 0), (b"lock_timeout", 0), (b"transaction_timeout", 17))
WAIT_FOR_NOBODY = b"SET TRANSACTION ISOLATION LEVEL READ COMMITTED;"     # a DEFERRABLE one may wait


cdef bint ask(Client c, Server s) except -1:
    """Ask what the statements since the last probe may have changed. False: nothing there is to ask about."""
    cdef bytes text
    cdef Engine engine = c.engine
    cdef uint32_t later = 0
    if s.unsure.unsure and c.db.catalog.unread and not is_given_up(c.db, c.loop.now):
        later = s.probe.pending_effects & ~<uint32_t>LISTEN       # all else is asked when the catalog is known
    elif s.unsure.unsure:
        settle_unsure(c, s)
    if "probe" in engine.omit:
        s.probe.forget_pending()
        return False
    if s.probe.pending_effects & UNREADABLE and c.pool.settings.pin_unknown:
        s.probe.add(UNNAMED)
    elif s.probe.pending_effects & UNREADABLE:
        s.probe.expect_unlisted()
    c.subscription.begin_asking()
    s.probe.begin_asking(later)
    if not later:
        c.tracker.begin_asking()
        s.unsure.forget_known()
    text = question(c, s)
    if not text:
        s.probe.expect_nothing()
        answered_probe(s)
        return False
    s.probe.want_rows()
    c.pool.count("probes", c.reason or "")
    s.query(text, P_PROBE)
    s.flush()
    return True


cdef bytes question(Client c, Server s):
    """The probe, and with it in s.probe.asked_order the names it asks for."""
    cdef list parts = []
    cdef bytes before = b""
    cdef Py_ssize_t limits
    if s.probe.asked_effects & SETTINGS:
        if s.probe.asked_any_name:
            parts.append(ANY_NAME)
        limits = s.probe.order_names(custom_names(c) if s.probe.asked_any_name else ())
        if limits:
            before = named(s.probe.asked_order, 0, limits) + b";"       # before they are set aside
        if len(s.probe.asked_order) > limits:
            parts.append(named(s.probe.asked_order, limits, len(s.probe.asked_order)))
    for bit, part in PARTS:
        if s.probe.asked_effects & <uint32_t>bit:
            parts.append(part)
    if not s.probe.guarded or not (parts or before):
        return b" UNION ALL ".join(parts)
    guards = b"".join([b"SET LOCAL " + name + b"=0;" for name, version in GUARDS
                       if s.login_parameters.version >= version])
    return WAIT_FOR_NOBODY + before + guards + b" UNION ALL ".join(parts)


cdef list custom_names(Client c):
    """Names that PostgreSQL does not list, as far as they are known."""
    cdef list found = [name for name in c.tracker.session_state.settings if b"." in name]
    if c.db.catalog.knowledge is not None:
        found += c.db.catalog.knowledge.custom
    return found


cdef bytes named(list names, Py_ssize_t start, Py_ssize_t end):
    """The question for these settings."""
    return NAMED % b",".join([b"('%d',%b)" % (i, sql_text(names[i])) for i in range(start, end)])


cdef bint probe_again(Client c, Server s, dict failed) except -1:
    """A probe has failed: whether it is worth another try, in which time limits are set aside.

    Cut short by the client's own statement_timeout, or by a cancel request of its that came late.
    """
    if not s.probe.ask_again(failed):
        return False
    c.subscription.ask_again()
    c.tracker.ask_again()
    return True


cdef int answered_probe(Server s) except -1:
    """The probe is answered: this is what the client's session holds."""
    cdef Client c = s.client
    cdef uint32_t asked = s.probe.asked_effects, found = 0
    cdef list order = s.probe.asked_order
    cdef list rows = s.probe.end_asking()
    cdef dict preparing
    cdef bint any_name = s.probe.asked_any_name and asked & <uint32_t>SETTINGS
    cdef frozenset channels
    if c is None:
        return 0
    preparing = c.tracker.end_asking()
    if rows is None:
        return too_large(c, s, asked)
    try:
        if s.probe.rows_told != len(rows):
            raise ValueError("rows are missing")
        rows = [decoded(order, row) for row in rows]
    except (ValueError, IndexError, TypeError):
        return s.close("the answer to a probe makes no sense")
    channels = c.tracker.session_state.channels
    if asked & LISTEN:
        channels = frozenset([row[1] for row in rows if row[0] == b"n"])
        take_channels(c, channels)
    if asked & PREPARED:
        take_statements(c, s, {row[1]: row[2] for row in rows if row[0] == b"p"}, preparing, asked)
        if c.tracker.sql is not None and not all([name.isascii()
                                                  and value[1] is not None for name, value in c.tracker.sql.items()]):
            found |= PREPARED
    if asked & SETTINGS or channels != c.tracker.session_state.channels:
        found |= take_settings(c, s, rows, any_name, channels)
    for row in rows:
        if row[0] == b"t":
            found |= TEMP
        elif row[0] == b"l":
            found |= LOCKS
        elif row[0] == b"h":
            found |= CURSORS
    found |= asked & (FOREVER | UNNAMED)
    found |= c.pin.pins & (FOREVER | UNNAMED | ~asked)
    return pin(c, s, found)


cdef tuple decoded(list order, tuple row):
    """A row of the answer with its name and value as they are. ValueError, IndexError, TypeError: it makes no sense.

    `order`: the names of settings that were asked for.
    """
    kind, name, value = row
    if kind == b"s":
        name = order[int(name)]
    elif kind == b"a" or kind == b"p" or kind == b"n":
        name = unhexlify(name)
    if value is not None or kind == b"p":
        value = unhexlify(value)
    return (kind, name, value)


cdef int take_statements(Client c, Server s, dict found, dict preparing, uint32_t asked) except -1:
    """The server has these SQL-level prepared statements now (name -> text): which are the client's?"""
    cdef dict before = s.sql or {}
    cdef dict own = c.tracker.sql or {}
    cdef dict kept = {}, there = {}
    cdef tuple former, value
    for name in {*found, *own}:
        text = found.get(name)
        former = before.get(name)
        if text is not None and (
                former is None or former[0] != text or (name in preparing and own.get(name) == former)):
            there[name] = kept[name] = (text, prepared_under(c, name, text, former, preparing, asked))
            continue
        # Unchanged: what another client left here, or nothing, says nothing of its own.
        if text is not None:
            there[name] = former
        value = own.get(name) if (text is None) == (former is None) else None
        if value is not None:
            kept[name] = value
    s.sql_is(there)
    c.tracker.learn_prepared(kept or None)
    return 0


cdef ParseSettings prepared_under(Client c, bytes name, bytes text, tuple former, dict preparing, uint32_t asked):
    """The ParseSettings that a statement of the client was prepared under; None: nobody knows."""
    cdef set settings = {each for _text, each in preparing.get(name, ())}
    if not settings:        # by a function, or a text that another executes by name
        settings.add(None if asked & <uint32_t>MAY_CHANGE or ANY in preparing else settled_settings(c))
    if former is not None and former[0] == text:
        settings.add(former[1])         # it may be that one still
    return settings.pop() if len(settings) == 1 else None


cdef int too_large(Client c, Server s, uint32_t asked) except -1:
    """The answer to a probe was too large to be kept: the server stays with the client, the rest is asked for again."""
    if asked & (SETTINGS | PREPARED):
        s.probe.add(asked & ~<uint32_t>(SETTINGS | PREPARED))
        return pin(c, s, c.pin.pins | LARGE)
    s.probe.add(asked)            # for the scrub
    return c.close("session state too large", f"too much session state, by {c.reason}", "53400")


cdef uint32_t take_settings(Client c, Server s, list rows, bint any_name, frozenset channels) except? 0:
    """The client's new State from the rows of a probe. Returns LARGE when it is too large to be moved, else 0."""
    cdef Engine engine = c.engine
    cdef dict settings = {} if any_name else dict(c.tracker.session_state.settings)
    cdef bytes value
    cdef uint32_t large = 0
    for row in rows:
        kind, name, value = row
        if kind != b"s" and kind != b"a":
            continue
        if kind == b"a" and s.probe.guarded and name in LIMITS:
            continue                # set aside for the probe, and asked for before that
        name = name.lower()
        if name in NOT_KEPT or c.pool.reports(name):
            continue
        if value is None or (name == ROLE and value == b"none"):
            settings.pop(name, None)
        elif name == AUTHORIZATION and value == c.pool.user.name.encode("utf-8", "surrogateescape"):
            settings.pop(name, None)
        elif value == b"" and b"." in name and name not in c.tracker.session_state.settings and any_name:
            continue            # another client's, reset: to this one it never was
        else:
            settings[name] = value
    if size_of(settings, channels) > LARGE_STATE:
        settings, large = c.tracker.session_state.settings, <uint32_t>LARGE
    s.holds(engine.states.intern(settings, channels))
    c.tracker.learn_state(s.session_state)
    return large


cdef int settle_standalone(Client c, Server s, char status) except -1:
    """ReadyForQuery behind a lone SET, RESET or the like: it is in effect, or the server has to be asked."""
    cdef object verdict
    if status != b"I" or not s.current.standalone_done:
        return demote_standalone(s)
    verdict = s.current.take_standalone()
    if verdict.plain is None:
        return cleared(c, s, verdict)
    name, text = verdict.plain
    if name in NOT_KEPT or c.pool.reports(name):
        return 0
    if c.tracker.session_state.size + len(name) + len(text) > <size_t>LARGE_STATE:
        return add_effects(s, verdict, verdict.touch)
    if not text.isascii() or b"\\" in text or name in EXCLUSIVE:
        return add_effects(s, verdict, verdict.touch)   # read otherwise in another encoding, or it depends on others
    s.holds(c.engine.states.with_setting(c.tracker.session_state, name, REPLAY + text))
    c.tracker.learn_state(s.session_state)
    return 0


cdef int cleared(Client c, Server s, object verdict) except -1:
    """A text has succeeded that does nothing but clear (session.clears); replay_start_values()
    sets the start values anew.
    """
    cdef uint32_t bits = verdict.clears
    cdef dict settings = dict(c.tracker.session_state.settings)
    cdef frozenset channels = c.tracker.session_state.channels
    if "base" in c.engine.omit or ROLE in c.tracker.start.settings or AUTHORIZATION in c.tracker.start.settings:
        return add_effects(s, verdict, verdict.touch)
    if bits & CLEARS_SETTINGS:
        for name in list(settings):
            if name != ROLE and name != AUTHORIZATION:
                set_back(c, settings, name)
        settings.update(c.tracker.start.settings)
    if bits & CLEARS_NAMED and verdict.resets is not None:
        for name in verdict.resets:
            set_back(c, settings, name)
    if bits & (CLEARS_ROLE | CLEARS_AUTHORIZATION):
        settings.pop(ROLE, None)
    if bits & CLEARS_AUTHORIZATION:
        settings.pop(AUTHORIZATION, None)
    if bits & CLEARS_LISTEN:
        channels = frozenset()
        take_channels(c, channels)
    if bits & CLEARS_PREPARED:
        s.sql_is(None)
        c.tracker.learn_prepared(None)
    s.holds(c.engine.states.intern(settings, channels))
    c.tracker.learn_state(s.session_state)
    return 0


cdef int set_back(Client c, dict settings, bytes name) except -1:
    """RESET of one setting: what the client started with, else what the server has of its own."""
    value = c.tracker.start.settings.get(name)
    if value is None:
        settings.pop(name, None)
    else:
        settings[name] = value
    return 0


cdef bint limits_again(Server s, dict failed) except -1:
    """The client's time limits have been taken off, or one of them has struck once more: True, that is tried again."""
    if failed is None:
        s.holds(s.session_state.rest)
        s.probe.end_tries()
        return False
    if not s.probe.may_try_again(failed):
        return False
    s.query(taken_off(s.session_state), P_LIMITS)
    s.flush()
    return True
