"""Asking PostgreSQL what a session holds, and what follows: the client's state, pins, scrubbing.

ask() stages one swallowed query behind the client's ReadyForQuery; until it is answered the server stays with its
client, whose next statements go behind it. Every name in it is written with its schema: it runs in the session as
the client has set it up.
"""

from libc.stdint cimport uint16_t, uint32_t

from pgferry.engine.judge cimport count, doubt_lone, is_reported, touches
from pgferry.engine.listening cimport take_channels
from pgferry.engine.messages cimport quote_literal
from pgferry.engine.model cimport MODE_STATEMENT, P_PROBE, P_RESET, SV_TESTED, Client, Database, Engine, Pool, Server
from pgferry.engine.pooling cimport close_client, close_server, own_query
from pgferry.engine.state cimport intern_state, size_of, with_setting
from pgferry.engine.sys cimport be16, be32
from pgferry.engine.touch cimport CURSORS, FOREVER, LARGE, LISTEN, LOCKS, PREPARED, SETTINGS, TEMP, UNNAMED
from pgferry.session.replay import REPLAY

cdef enum:
    CLEARS_SETTINGS = 1     # bits of session.clears
    CLEARS_ROLE = 2
    CLEARS_AUTHORIZATION = 4
    CLEARS_LISTEN = 8
    CLEARS_PREPARED = 16
    CLEARS_NAMED = 32

PIN_NAMES = ((TEMP, "temporary objects"), (LOCKS, "advisory locks"), (CURSORS, "holdable cursors"),
             (FOREVER, "state that cannot be asked for"), (UNNAMED, "a setting of unknown name"),
             (LARGE, "more than 1 MB of settings or prepared statements"))
LARGE_STATE = 1 << 20       # bytes
ROLE = b"role"
AUTHORIZATION = b"session_authorization"
# Belong to a transaction, or are no settings.
NOT_KEPT = frozenset((b"transaction_isolation", b"transaction_read_only", b"transaction_deferrable", b"is_superuser",
                      b"seed", b"server_version", b"lc_collate", b"lc_ctype"))

NAMED = (b"SELECT 's', n, pg_catalog.current_setting(n, true) FROM (VALUES (%b)) v(n)")
ANY_NAME = (b"SELECT 'a', name, setting FROM pg_catalog.pg_show_all_settings() "
            b"WHERE source OPERATOR(pg_catalog.=) 'session'")
IN_PREPARED = (b"SELECT 'p', name, statement FROM pg_catalog.pg_prepared_statement() WHERE from_sql")
IN_LISTEN = b"SELECT 'n', c, NULL FROM pg_catalog.pg_listening_channels() l(c)"
# Everything in a schema depends on it, and pg_depend has an index for that.
IN_TEMP = (b"(SELECT 't', NULL, NULL FROM pg_catalog.pg_depend WHERE refclassid OPERATOR(pg_catalog.=) "
           b"2615::pg_catalog.oid AND refobjid OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() LIMIT 1)")
IN_LOCKS = (b"(SELECT 'l', NULL, NULL FROM pg_catalog.pg_lock_status() WHERE locktype OPERATOR(pg_catalog.=) "
            b"'advisory' AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() LIMIT 1)")
IN_CURSORS = b"(SELECT 'h', NULL, NULL FROM pg_catalog.pg_cursor() WHERE is_holdable LIMIT 1)"
PARTS = ((PREPARED, IN_PREPARED), (LISTEN, IN_LISTEN), (TEMP, IN_TEMP), (LOCKS, IN_LOCKS), (CURSORS, IN_CURSORS))


cdef bint ask(Client c, Server s) except -1:
    """Ask what the statements since the last probe may have changed. False: nothing there is to ask about."""
    cdef bytes text
    cdef Engine engine = c.engine
    if "probe" in engine.omit:
        s.touched = 0
        s.names = None
        s.any_name = False
        return False
    s.asked, s.asked_names, s.asked_any = s.touched, s.names, s.any_name
    c.asked_listens, c.sent_listens = c.sent_listens, None
    s.touched = 0
    s.names = None
    s.any_name = False
    text = question(c, s)
    s.rows = []
    if not text:
        answered_probe(s)
        return False
    count(c, "probes", c.reason or "")
    own_query(s, text, P_PROBE)
    s.flush()
    return True


cdef bytes question(Client c, Server s):
    """The probe, and with it in s.asked_names the names it asks for."""
    cdef list parts = []
    cdef Database db = c.db
    if s.asked & SETTINGS:
        if s.asked_names is None:
            s.asked_names = set()
        if s.asked_any:
            parts.append(ANY_NAME)
            s.asked_names.update((ROLE, AUTHORIZATION))
            s.asked_names.update([name for name in c.kept.settings if b"." in name])
            if db.knowledge is not None:
                s.asked_names.update(db.knowledge.custom)
        if AUTHORIZATION in s.asked_names:
            s.asked_names.add(ROLE)
        if s.asked_names:
            parts.append(NAMED % b"),(".join([quote_literal(name) for name in s.asked_names]))
    for bit, part in PARTS:
        if s.asked & <uint32_t>bit:
            parts.append(part)
    return b" UNION ALL ".join(parts)


cdef int keep_row(Server s, const char *p, size_t n) except -1:
    """Remember a DataRow of the answer: p[:n] from its number of columns on."""
    cdef uint16_t columns, _i
    cdef size_t pos = 2, size
    cdef list row = []
    if n < 2:
        return 0
    columns = be16(p)
    for _i in range(columns):
        if n < pos + 4:
            return 0
        size = be32(p + pos)
        pos += 4
        if size == 0xFFFFFFFF:
            row.append(None)
            continue
        if n < pos + size:
            return 0
        row.append(p[pos:pos + size])
        pos += size
    if s.rows is not None:
        s.rows.append(tuple(row))
    return 0


cdef int answered_probe(Server s) except -1:
    """The probe is answered: this is what the client's session holds."""
    cdef Client c = s.client
    cdef uint32_t touched = s.asked, found = 0
    cdef list rows = s.rows
    cdef bint any_name = s.asked_any
    cdef frozenset channels
    s.rows = None
    s.asked = 0
    if c is None:
        return 0
    if rows is None:
        return too_large(c, s, touched)
    for row in rows:
        if len(row) != 3:
            return close_server(s, "the answer to a probe makes no sense")
    channels = c.kept.channels
    if touched & LISTEN:
        channels = frozenset([row[1] for row in rows if row[0] == b"n"])
        take_channels(c, channels)
    if touched & PREPARED:
        take_statements(c, s, {row[1]: row[2] for row in rows if row[0] == b"p"})
    if touched & SETTINGS or channels != c.kept.channels:
        found |= take_settings(c, s, rows, any_name, channels)
    for row in rows:
        if row[0] == b"t":
            found |= TEMP
        elif row[0] == b"l":
            found |= LOCKS
        elif row[0] == b"h":
            found |= CURSORS
    found |= touched & (FOREVER | UNNAMED)
    found |= c.pins & (FOREVER | UNNAMED | ~touched)
    return pin(c, s, found)


cdef int take_statements(Client c, Server s, dict found) except -1:
    """The server has these SQL-level prepared statements now: which are the client's?"""
    cdef dict before = s.sql or {}
    cdef dict own = c.sql or {}
    cdef dict kept = {}
    cdef object text
    s.sql = found or None
    for name in {*found, *own}:
        text = found.get(name)
        if text == before.get(name):
            text = own.get(name)        # unchanged: what another client left here, or nothing, says nothing of its own
        if text is not None:
            kept[name] = text
    c.sql = kept or None
    return 0


cdef int too_large(Client c, Server s, uint32_t touched) except -1:
    """The answer to a probe was too large to be kept: the server stays with the client, the rest is asked for again."""
    if touched & (SETTINGS | PREPARED):
        s.touched |= touched & ~<uint32_t>(SETTINGS | PREPARED)
        return pin(c, s, c.pins | LARGE)
    s.touched |= touched            # for the scrub
    return close_client(c, "session state too large", f"too much session state, by {c.reason}", "53400")


cdef uint32_t take_settings(Client c, Server s, list rows, bint any_name, frozenset channels) except? 0:
    """The client's new State from the rows of a probe. Returns LARGE when it is too large to be moved, else 0."""
    cdef Engine engine = c.engine
    cdef dict settings = {} if any_name else dict(c.kept.settings)
    cdef bytes value
    cdef uint32_t large = 0
    for row in rows:
        kind, name, value = row
        if kind != b"s" and kind != b"a":
            continue
        name = name.lower()
        if name in NOT_KEPT or is_reported(c.pool, name):
            continue
        if value is None or (name == ROLE and value == b"none"):
            settings.pop(name, None)
        elif name == AUTHORIZATION and value == c.pool.user.name.encode("utf-8", "surrogateescape"):
            settings.pop(name, None)
        elif value == b"" and b"." in name and name not in c.kept.settings and any_name:
            continue            # another client's, reset: to this one it never was
        else:
            settings[name] = value
    if size_of(settings, channels) > LARGE_STATE:
        settings, large = c.kept.settings, <uint32_t>LARGE
    c.kept = s.kept = intern_state(engine, settings, channels)
    return large


cdef int settle_lone(Client c, Server s, char status) except -1:
    """ReadyForQuery behind a lone SET, RESET or the like: it is in effect, or the server has to be asked."""
    cdef object verdict = s.lone
    if status != b"I" or not s.lone_done:
        return doubt_lone(s)
    s.lone = None
    if verdict.plain is None:
        return cleared(c, s, verdict)
    name, text = verdict.plain
    if name in NOT_KEPT or is_reported(c.pool, name):
        return 0
    if c.kept.size + len(name) + len(text) > <size_t>LARGE_STATE:
        return touches(s, verdict, verdict.touch)
    c.kept = s.kept = with_setting(c.engine, c.kept, name, REPLAY + text)
    return 0


cdef int cleared(Client c, Server s, object verdict) except -1:
    """A text has succeeded that does nothing but clear (session.clears); bring_base() sets the start values anew."""
    cdef uint32_t bits = verdict.clears
    cdef dict settings = dict(c.kept.settings)
    cdef frozenset channels = c.kept.channels
    if "base" in c.engine.omit or ROLE in c.start.settings or AUTHORIZATION in c.start.settings:
        return touches(s, verdict, verdict.touch)
    if bits & CLEARS_SETTINGS:
        for name in list(settings):
            if name != ROLE and name != AUTHORIZATION:
                set_back(c, settings, name)
        settings.update(c.start.settings)
    if bits & CLEARS_NAMED:
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
        c.sql = s.sql = None
    c.kept = s.kept = intern_state(c.engine, settings, channels)
    return 0


cdef int set_back(Client c, dict settings, bytes name) except -1:
    """RESET of one setting: what the client started with, else what the server has of its own."""
    value = c.start.settings.get(name)
    if value is None:
        settings.pop(name, None)
    else:
        settings[name] = value
    return 0


# --- pins -------------------------------------------------------------------------------------------------------

cdef int pin(Client c, Server s, uint32_t found) except -1:
    """Hold the client to its server as long as the session has what cannot move. May close the client."""
    cdef Pool pool = c.pool
    for bit, name in ((TEMP, "temp"), (LOCKS, "locks"), (CURSORS, "cursors")):
        if name in c.engine.omit:
            found &= ~<uint32_t>bit
    if found == c.pins:
        return 0
    if found == 0:
        return unpin(c)
    if c.pins == 0:
        if pool.mode == MODE_STATEMENT or not pool.pins.take(pool.max_pinned):
            c.pins = found
            why = "statement pooling mode" if pool.mode == MODE_STATEMENT else f"max_pinned = {pool.max_pinned}"
            text = f"session state would pin one more server connection ({why}): {pin_reasons(c)}, by {c.reason}"
            c.pins = 0
            s.touched = found           # for the scrub
            count(c, "pins_refused", c.reason or "")
            return close_client(c, "max_pinned", text, "53400")
        c.pinned_at = c.loop.now
        c.pinned_xacts = 0
        c.pin_logged = False
    for bit, name in PIN_NAMES:
        if found & ~c.pins & <uint32_t>bit:
            count(c, "pins", name)
    c.pins = found
    return 0


cdef int unpin(Client c) except -1:
    if c.pins:
        c.pins = 0
        c.pool.pins.give()
    return 0


cdef str pin_reasons(Client c):
    """Why the client is pinned, for people."""
    return ", ".join([name for bit, name in PIN_NAMES if c.pins & <uint32_t>bit])


# --- scrubbing --------------------------------------------------------------------------------------------------

cdef int scrub(Server s) except -1:
    """Its client has left with state in the session: wipe it before anybody else comes."""
    s.rows = None
    s.asked = 0                 # whose probe that was is gone
    s.state = SV_TESTED
    s.since = s.loop.now
    s.pool.tested.append(s)
    s.scrubbing = True
    own_query(s, b"DISCARD ALL", P_RESET)
    return s.flush()


cdef int scrubbed(Server s) except -1:
    """DISCARD ALL has succeeded."""
    s.scrubbing = False
    s.touched = 0
    s.names = None
    s.any_name = False
    s.lone = None
    s.sql = None
    s.foreign = False
    s.last_user = None
    s.kept = s.pool.engine.no_state
    return 0
