"""What a server needs in front of its next client's first message: tracked parameters, session state.

A client that comes back to a crowded pool finds other clients' values at every server, and needs the same Query each
time: the last one is kept (Restore), and taken again when the same values differ.
"""

from pgferry.engine.judge cimport count
from pgferry.engine.loop cimport PAUSE_WAIT
from pgferry.engine.messages cimport quote_literal, simple_query
from pgferry.engine.model cimport P_VARS, Engine
from pgferry.engine.plan cimport F_SWALLOW, K_QUERY
from pgferry.engine.pooling cimport close_client, close_server, may_read_sequences, own_message, own_query
from pgferry.engine.state cimport assignment, in_transaction, origin, way

cdef enum:
    MOST_REMEMBERED = 65536     # bytes of the Queries that a client remembers
    PLAIN = 63          # tracked parameters that have a bit of their own in a mask; the last bit is for all others


cdef int bring(Client c, Server s) except -1:
    """Queue what brings the server to the client's tracked parameters (COMPAT 4.2) and session state.

    Session state is set in a transaction: if it fails, that one stays open and failed, and nothing that the client
    has sent behind it is carried out (see permit.may_go).
    """
    cdef uint64_t mask = 0
    cdef bint exact = True
    cdef Restore r = c.restore
    cdef State kept = None
    cdef int64_t start = 0
    if c.vars is not s.vars:
        exact = compare(c.vars, s.vars, &mask)
        if exact and mask == 0:
            c.vars = s.vars
    if c.kept is not s.kept:
        kept = c.kept
        start = origin(s.kept, kept)
    if mask or kept is not None:
        if (r is None or r.vars is not c.vars or r.mask != mask or r.kept is not kept or r.origin != start
                or r.exact != exact or r.base is not c.pool.base_vars or mask >> PLAIN):
            r = make_restore(c, s, mask, exact, kept, start)
        send(c, s, r)
    if s.foreign and may_read_sequences(c):
        s.foreign = False
        own_query(s, b"DISCARD SEQUENCES", P_VARS)
    if s.plan.size() and (c.vars_unchecked or c.kept_unchecked):
        # Nothing of the client may run before PostgreSQL has accepted what its startup packet asked for.
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


cdef Restore make_restore(Client c, Server s, uint64_t mask, bint exact, State kept, int64_t start):
    """The Queries for these differences; the client remembers them."""
    cdef Restore r = Restore.__new__(Restore)
    cdef bytes text, sql = b""
    r.vars = c.vars
    r.mask = mask
    r.exact = exact
    r.base = c.pool.base_vars
    r.kept = kept
    r.origin = start
    r.pending = []
    text = set_vars(c, s, mask, r.pending)
    if kept is not None:
        sql = way(s.kept, kept, c.engine.omit)
    if text and sql and sql.isascii():
        r.first = simple_query(in_transaction(text + sql))
    else:
        # The client's encoding has to be in force when the rest is read.
        r.first = simple_query(text) if text else None
        r.second = simple_query(in_transaction(sql)) if sql else None
    r.stateful = bool(sql)
    if len(r.first or b"") + len(r.second or b"") <= MOST_REMEMBERED and (r.first is not None or r.second is not None):
        c.restore = r
    return r


cdef bytes set_vars(Client c, Server s, uint64_t mask, list pending):
    """The SETs of the tracked parameters in `mask`; (index, value) of each goes to `pending`."""
    cdef list parts = []
    cdef Engine engine = c.engine
    for i, (value, present) in enumerate(zip(c.vars, s.vars)):
        if mask >> <uint64_t>min(i, PLAIN) & 1 and (i < PLAIN or (None not in (value, present) and value != present)):
            name = engine.tracked[i]
            if name.lower() == "search_path":
                parts.append(assignment(b"search_path", value))
            else:
                parts.append(b'SET "%b"=%b;' % (name.encode(), quote_literal(value)))
            if name.lower() == "datestyle" and b"," not in value:
                # Half of it comes from the value before: that is to be the server's own.
                parts.insert(len(parts) - 1, b'SET "DateStyle"=%b;' % quote_literal(c.pool.reset_vars[i]))
            pending.append((i, value))
    return b"".join(parts)


cdef int send(Client c, Server s, Restore r) except -1:
    if r.kept is not None:
        s.kept = r.kept                 # if this fails the server is closed
    s.restore = r if r.mask else None
    s.reported = 0
    s.pending_vars = r.pending or None
    if r.stateful:
        c.pool.restores += 1
        s.restoring = True
    if r.first is not None:
        own_message(s, r.first, P_VARS)
    if r.second is not None:
        own_message(s, r.second, P_VARS)
    return 0


# --- answers ----------------------------------------------------------------------------------------------------

cdef bint is_expected(Server s, Py_ssize_t index, bytes value) except -1:
    """Whether PostgreSQL reports what it was just sent; Server.vars then takes it with settle_reported()."""
    cdef Restore r = s.restore
    if index >= PLAIN or not r.mask >> <uint64_t>index & 1 or r.vars[index] != value:
        return False
    s.reported |= <uint64_t>1 << index
    return True


cdef int settle_reported(Server s) except -1:
    """Let Server.vars say what has been reported."""
    cdef Restore r = s.restore
    cdef list values
    if r.exact and s.reported == r.mask:
        s.vars = r.vars
    elif s.reported:
        values = list(s.vars)
        for i, value in enumerate(r.vars[:PLAIN]):
            if s.reported >> <uint64_t>i & 1:
                values[i] = value
        s.vars = s.pool.engine.same_vars(tuple(values))
    s.restore = None
    return 0


cdef int brought(Server s, Client c) except -1:
    """The client's parameters and state are set, or not."""
    cdef Restore r = s.restore
    if c is None:
        return close_server(s, "client went away while its parameters were set")
    if s.error is not None:
        return not_brought(s, c)
    if r is not None:
        settle_reported(s)
    if s.pending_vars is not None:
        if r is None or s.vars is not r.vars or not r.learned:
            for i, value in s.pending_vars:
                s.pool.learn(i, value, s.vars[i])
            if r is not None:
                r.learned = s.vars is r.vars
        s.pending_vars = None
    if s.plan.size() and s.plan.front().kind == K_QUERY and s.plan.front().flags & F_SWALLOW:
        if s.plan.front().number == P_VARS:
            return 0                    # the second half is still to come
    s.restoring = False
    if c.start_vars is c.vars:
        c.start_vars = s.vars           # as PostgreSQL writes them
    c.vars = s.vars
    c.vars_unchecked = c.kept_unchecked = False
    return c.unpause(PAUSE_WAIT)


cdef int not_brought(Server s, Client c) except -1:
    """PostgreSQL has refused the client's parameters or state: it must not go on without them."""
    cdef bint start = c is None or c.kept_unchecked or c.vars_unchecked
    fields = s.error
    text = fields.get("M", "invalid server parameter")
    if c is None:
        return close_server(s, "client went away while its parameters were set")
    s.client = None
    c.server = None
    if not start:
        text = f"session state could not be restored: {text}"
        count(c, "replay_failures", fields.get("C", ""))    # the text may hold a client's values
    close_server(s, "invalid server parameter")
    return close_client(c, "invalid server parameter", text, fields.get("C", "08P01"))
