"""What a server needs in front of its next client's first message: tracked parameters, session state.

A client that comes back to a crowded pool finds other clients' values at every server, and needs the same Query each
time: the last one is kept (Restore), and taken again when the same values differ.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from pgferry.engine.core.enums cimport CL_ACTIVE, CL_IDLE, P_VARS
from pgferry.engine.core.model cimport Client, Engine, Server
from pgferry.engine.core.plan cimport F_SWALLOW, K_QUERY
from pgferry.engine.core.session_state cimport (
    PLAIN, Restore, State, assignment, is_uncertain, restore_for, transition_from_unknown, transition_key,
    transition_sql,
)
from pgferry.engine.io.stream cimport PAUSE_PEER, PAUSE_STALL, PAUSE_WAIT
from pgferry.engine.session.start_values cimport reported_text
from pgferry.engine.wire.messages cimport quote_literal

cdef enum:
    MOST_REMEMBERED = 65536     # bytes of the Queries that a client remembers
    RETRIES = 2         # so many servers more than the pool has may refuse a restore, one after the other

cdef uint64_t ALL = 0xFFFFFFFFFFFFFFFF     # a mask

# Not the client's fault: a time limit of the former client, a cancel request that came late, a lock, a full disk.
PASSING = frozenset(("57014", "55P03", "40001", "40P01", "53000", "53100", "53200", "57P01", "57P02", "57P03"))


cdef int replay_state(Client c, Server s, bint anew) except -1:
    """Queue what brings the server to the client's tracked parameters (COMPAT 4.2) and session state.

    Session state is set in a transaction: if it fails, that one stays open and failed, and nothing that the client
    has sent behind it is carried out (see permit.may_go). `anew`: others may have left settings whose names nobody
    knows, so everything is set back first.
    """
    cdef uint64_t mask = 0
    cdef bint exact = True
    cdef Restore r = c.tracker.restore
    cdef State state = None
    cdef int64_t start = 0
    if c.vars is not s.vars:
        exact = compare(c.vars, s.vars, &mask)
        if exact and mask == 0:
            c.vars_are(s.vars)
    if anew:
        r = make_restore(c, s, ALL, False, c.tracker.session_state, 0, True)
        send(c, s, r, True)
    elif c.tracker.session_state is not s.session_state:
        state = c.tracker.session_state
        start = transition_key(s.session_state, state)
    if not anew and (mask or state is not None):
        if r is None or not r.fits(c.vars, mask, exact, state, start, c.pool.endpoint.reset_vars):
            r = make_restore(c, s, mask, exact, state, start, False)
        send(c, s, r, False)
    if s.last.sequence_cache_dirty and c.may_read_sequences():
        s.last.sequences_are_dirty(False)
        s.query(b"DISCARD SEQUENCES", P_VARS)
    if s.plan.size() and (c.tracker.vars_unchecked or c.tracker.start_unchecked
                          or (s.replay.replaying_to is not None and r.uncertain)):
        # Nothing of the client may run before PostgreSQL has accepted what its startup packet asked for.
        c.tracker.begin_proving()
        c.pause(PAUSE_WAIT)
        s.flush()
    return 0


cdef bint compare(tuple wanted, tuple present, uint64_t *mask) except -1:
    """Note in `mask` which parameters have another value; returns whether all others are equal.

    None is a parameter that a server does not report: it is left alone.
    """
    cdef Py_ssize_t i, n = min(len(wanted), len(present))
    cdef bint exact = len(wanted) == len(present)
    mask[0] = 0
    for i in range(n):
        if wanted[i] is present[i]:
            continue
        if wanted[i] is None or present[i] is None:
            exact = False
        elif wanted[i] != present[i]:
            mask[0] |= <uint64_t>1 << min(i, PLAIN)
    return exact


cdef Restore make_restore(Client c, Server s, uint64_t mask, bint exact, State state, int64_t start, bint anew):
    """The Query for these differences; the client remembers it. `anew`: there is nothing to compare with."""
    cdef Restore r = restore_for(c.vars, mask, exact, state, start, c.pool.endpoint.reset_vars)
    cdef bytes text = set_vars(c, s, mask, r)
    cdef bytes sql = b""
    cdef bint stateful
    if state is not None and anew:
        sql = transition_from_unknown(s.session_state, state, c.engine.omit)
    elif state is not None:
        sql = transition_sql(s.session_state, state, c.engine.omit)
    stateful = bool(sql)
    sql = sql + text if anew else text + sql        # RESET ALL comes first
    r.write(sql, stateful, stateful or (c.tracks_state and matters(c.engine, mask)))
    if sql and not anew and len(sql) <= MOST_REMEMBERED:
        c.tracker.remember(r)
    return r


cdef bint matters(Engine engine, uint64_t mask) except -1:
    """Whether statements can mean something else with other values of these parameters."""
    cdef object index = engine.parameters.index.get("application_name")
    return mask & ~(<uint64_t>1 << <uint64_t>min(index, PLAIN)) if index is not None else mask != 0


cdef bytes set_vars(Client c, Server s, uint64_t mask, Restore r):
    """The SETs of the tracked parameters in `mask`; each is added to the Restore.

    Where client_encoding changes, the same bytes are not the same value any more.
    """
    cdef list parts = []
    cdef Engine engine = c.engine
    cdef object encoding = engine.parameters.index.get("client_encoding")
    cdef bint recoded = encoding is not None and mask >> <uint64_t>min(encoding, PLAIN) & 1
    for i, (value, present) in enumerate(zip(c.vars, s.vars)):
        if value is None or present is None:
            continue
        if not (mask >> <uint64_t>min(i, PLAIN) & 1 and (i < PLAIN or mask == ALL or value != present)):
            if not recoded or value.isascii():
                continue
        name = engine.parameters.names[i].lower()
        if not value.isascii():
            parts.append(b"SELECT pg_catalog.set_config(%b,%b,false) IS NULL;" % (
                quote_literal(name.encode()), reported_text(engine, c.vars, i, s.login_parameters.version)))
        elif name == "search_path":
            parts.append(assignment(b"search_path", value))
        else:
            parts.append(b'SET "%b"=%b;' % (engine.parameters.names[i].encode(), quote_literal(value)))
        own = c.pool.endpoint.reset_vars[i]
        if name == "datestyle" and b"," not in value and own is not None and own.isascii():
            # Half of it comes from the value before: that is to be the server's own.
            parts.insert(len(parts) - 1, b'SET "DateStyle"=%b;' % quote_literal(own))
        r.add(i, value, not value.isascii() and name != "application_name")
    return b"".join(parts)


cdef int send(Client c, Server s, Restore r, bint anew) except -1:
    s.replay.begin(r, anew)
    if r.stateful:
        c.pool.count_restore()
    if r.message is not None:
        return s.query_message(r.message, P_VARS)
    if s.replay.replaying_to is not None:
        # nothing to do, so nothing to wait for
        s.holds(s.replay.finish())
    return 0


# --- answers ----------------------------------------------------------------------------------------------------

cdef int settle_reported(Server s) except -1:
    """Let Server.vars say what has been reported."""
    cdef Restore r = s.replay.restore
    cdef list values
    if r.exact and s.replay.reported == r.mask:
        s.vars_are(r.vars)
    elif s.replay.reported:
        values = list(s.vars)
        for i, value in enumerate(r.vars[:PLAIN]):
            if s.replay.reported >> <uint64_t>i & 1:
                values[i] = value
        s.vars_are(s.pool.engine.same_vars(tuple(values)))
    s.replay.end_reports()
    return 0


cdef int on_replay_done(Server s, Client c, dict failed) except -1:
    """A Query of a restore is answered: with the last one the client's parameters and state are set.

    What the server holds is noted only now. `failed`: the fields of an error.
    """
    cdef Restore r = s.replay.restore
    cdef State state
    cdef list pending
    if c is None:
        return s.close("client went away while its parameters were set")
    if failed is not None or s.xact != b"I":
        return on_replay_failed(s, c, failed or {})
    if r is not None:
        settle_reported(s)
    pending = s.replay.take_vars()
    if pending is not None:
        if r is None or r.recoded:
            take_recoded(s, pending)
        if r is None or s.vars is not r.vars or not r.learned:
            for i, value in pending:
                s.pool.endpoint.learn_canonical(i, value, s.vars[i])
            if r is not None:
                r.report(s.vars)
    if s.plan.size() and s.plan.front().kind == K_QUERY and s.plan.front().flags & F_SWALLOW:
        if s.plan.front().number == P_VARS:
            return 0                    # DISCARD SEQUENCES is still to come
    if s.replay.anew:
        s.probe.all_reset()
    state = s.replay.finish()
    if state is not None:
        s.holds(state)
    c.tracker.end_proving(c.vars, s.vars)
    c.vars_are(s.vars)
    return c.unpause(PAUSE_WAIT)


cdef int take_recoded(Server s, list pending) except -1:
    """PostgreSQL does not report a value again that is the same in another encoding: it is as the client wrote it."""
    cdef list values = list(s.vars)
    for i, value in pending:
        if not value.isascii() and s.pool.engine.parameters.names[i].lower() != "application_name":
            values[i] = value
    return s.vars_are(s.pool.engine.same_vars(tuple(values)))


cdef int on_replay_failed(Server s, Client c, dict failed) except -1:
    """PostgreSQL has refused the client's parameters or state: it must not go on without them."""
    cdef bint start = c is None or c.tracker.start_unchecked or c.tracker.vars_unchecked
    cdef bint passing
    code = failed.get("C", "08P01")
    passing = c is not None and (code in PASSING or (code == "22023" and is_uncertain(c.tracker.session_state)))
    if passing and try_elsewhere(s, c, "session state could not be restored"):
        return 0
    text = failed.get("M", "invalid server parameter")
    if c is None:
        return s.close("client went away while its parameters were set")
    c.unlink(s)
    if not start:
        text = f"session state could not be restored: {text}"
        c.pool.count("replay_failures", code)       # the text may hold a client's values
    s.close("invalid server parameter")
    return c.close("invalid server parameter", text, code)


cdef bint try_elsewhere(Server s, Client c, str reason) except -1:
    """A restore has failed, or its server is lost: a client of which nothing was sent behind it gets another server.

    This one is closed then. False: it is too late for that, or it has failed too often.
    """
    cdef uint32_t i
    if c.state != CL_ACTIVE or c.turns_here or c.passing or c.tracker.retries >= c.pool.server_count() + RETRIES:
        return False
    for i in range(s.plan.size()):
        if not (s.plan.at(i).kind == K_QUERY and s.plan.at(i).flags & F_SWALLOW and s.plan.at(i).number == P_VARS):
            return False
    c.tracker.try_elsewhere()
    c.pool.count("replays_elsewhere", reason)
    c.unlink(s)
    c.enter(CL_IDLE)
    s.close(reason)
    c.unpause(PAUSE_WAIT | PAUSE_STALL | PAUSE_PEER)
    return True
