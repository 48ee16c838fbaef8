"""What connect_query leaves in a session: every client of the pool starts with it.

connect_query runs once on each new server connection. The settings, the role and the prepared statements that it
leaves belong to every client of the pool, whatever was done to a server since: they are asked for behind it, and are
part of the state that clients start with, in front of what their own startup packets ask for. Tracked parameters need
no question, PostgreSQL reports them (Pool.base_vars; Pool.reset_vars are those that RESET leads to).
"""

from binascii import unhexlify

from pgferry.engine.core.enums cimport POOL_CLIENTS, P_START, STATE_IGNORE
from pgferry.engine.core.model cimport Engine, Pool, Server
from pgferry.engine.core.session_state cimport State
from pgferry.engine.session.parse_settings cimport settings_of
from pgferry.engine.wire.messages cimport as_hex
from pgferry.engine.session.probe import NOT_KEPT
from pgferry.session.classify import classify

QUESTION = (
    b"SELECT 's'," + as_hex(b"name") + b"," + as_hex(b"setting")
    + b" FROM pg_catalog.pg_show_all_settings() WHERE source OPERATOR(pg_catalog.=) 'session' UNION ALL SELECT 's',"
    + as_hex(b"n") + b"," + as_hex(b"pg_catalog.current_setting(n,true)")
    + b" FROM (VALUES %b) v(n) UNION ALL SELECT 'p',"
    + as_hex(b"name") + b"," + as_hex(b"statement") + b" FROM pg_catalog.pg_prepared_statement() WHERE from_sql"
)
PERSON = (b"role", b"session_authorization")     # not in pg_settings as settings that one has set


cdef bint ask_start(Server s, bytes connect_query) except -1:
    """connect_query is over: ask what it has left, where state is tracked. False: there is nothing to ask."""
    cdef list names = list(PERSON)
    if s.pool.settings.session_state == STATE_IGNORE or s.replication or s.pool.kind != POOL_CLIENTS:
        return False
    verdict = classify(connect_query)
    if verdict is not None:
        names += [name for name in (*(verdict.names or ()), *verdict.hints)
                  if b"." in name and name.isascii() and b"'" not in name and b"\\" not in name]
    s.probe.want_rows()
    s.query(QUESTION % b",".join([b"('" + name + b"')" for name in dict.fromkeys(names)]), P_START)
    s.flush()
    return True


cdef bint start_answered(Server s, dict failed) except -1:
    """PostgreSQL has told what connect_query has left; `failed`: the fields of its error, or None.

    False: the server is closed.
    """
    cdef Pool pool = s.pool
    cdef dict settings = {}, statements = {}
    cdef list rows = s.probe.take_rows()
    if failed is not None or not all([len(row) == 3 and None not in row[:2] for row in rows]):
        pool.hold_off()          # as after any login that fails
        pool.endpoint.connect_failed()
        s.close("what connect_query has set could not be asked for")
        return False
    try:
        rows = [(kind, unhexlify(name), None if value is None else unhexlify(value)) for kind, name, value in rows]
    except ValueError:
        s.close("what connect_query has set makes no sense")
        return False
    for kind, name, value in rows:
        if kind == b"p":
            statements[name] = value or b""
        elif value is not None and counts(s, name.lower(), value):
            settings[name.lower()] = value
    # In the midst of connect_query others may have been in force; a client could not tell them from these either.
    under = settings_of(pool, s.vars, settings)
    pool.endpoint.start_is(settings, {name: (text, under) for name, text in statements.items()})
    s.holds(pool.engine.states.intern(settings, frozenset()))
    s.sql_is(pool.endpoint.start_sql)
    return True


cdef bint counts(Server s, bytes name, bytes value) except -1:
    """Whether it is a setting that clients start with, and not one that the session has of its own."""
    if name in NOT_KEPT or s.pool.engine.is_reported_in(s.vars, name) or (b"." in name and not value):
        return False
    if name == b"role":
        return value != b"none"
    return name != b"session_authorization" or value != s.pool.user.name.encode("utf-8", "surrogateescape")


cdef State start_of(Pool pool, dict settings):
    """The state that a client starts with whose startup packet has these settings (None: no others)."""
    cdef Engine engine = pool.engine
    if not pool.endpoint.start_settings or pool.settings.session_state == STATE_IGNORE:
        return engine.states.intern(settings, frozenset()) if settings else engine.no_state
    return engine.states.intern({**pool.endpoint.start_settings, **(settings or {})}, frozenset())
