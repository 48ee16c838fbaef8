"""A message that uses a prepared statement: the server is made to have the statement first."""

from libc.stdint cimport uint8_t, uint32_t

from pgferry.engine.client.forward cimport renamed, skip, stall
from pgferry.engine.client.message cimport Message
from pgferry.engine.core.effects cimport NEED_PREPARED
from pgferry.engine.core.enums cimport P_ENSURE
from pgferry.engine.core.model cimport Client, Server
from pgferry.engine.core.plan cimport F_SWALLOW, F_UNNAMED, K_CLOSE, K_DESCRIBE_S, K_PARSE
from pgferry.engine.core.statements cimport ParseSettings, Statement
from pgferry.engine.io.sys cimport put32
from pgferry.engine.session.classify cimport classify_statement, classify_unnamed
from pgferry.engine.session.ensure cimport ensure_named, ensure_prepared
from pgferry.engine.session.parse_settings cimport known_settings, settings_now, settings_switch
from pgferry.engine.session.preparing cimport close_statement, prepare_on
from pgferry.engine.session.staging cimport end_own, framed, send_refused, stage_in_batch
from pgferry.engine.wire.messages cimport plan_changed

cdef enum:
    UNKNOWN = 0            # no Statement has this number: a server's answer to it is "does not exist"


cdef inline bint unnamed_differs(Client c, Server s) noexcept:
    return c.names.unnamed is None or s.unnamed is not c.names.unnamed


cdef bint use_unnamed(Client c, Server s) except -1:
    """Ready the unnamed statement for the next message; False when the client must be held first."""
    cdef ParseSettings present = None
    if c.names.unnamed_here and not unnamed_differs(c, s):
        return True
    if not c.names.unnamed_here and s.plan.unnamed:
        return False
    if not unnamed_differs(c, s):
        return True
    if c.names.unnamed is not None:
        present = settings_now(c, s)
        if present is None:
            return False
    ensure_unnamed(c, s, present)
    return True


cdef int ensure_unnamed(Client c, Server s, ParseSettings present) except -1:
    """Make the server's unnamed statement the client's own, in front of a message that uses it."""
    cdef bytes body, message
    cdef list there, back
    cdef char head[6]
    if c.names.unnamed is None:
        # Whatever the server has is somebody else's: with it gone, PostgreSQL gives the right error.
        message = close_statement(b"\0")
        s.put(<const char *>message, len(message))
        s.expect(K_CLOSE, F_SWALLOW | F_UNNAMED, 0)
        s.unnamed_is(None)
    else:
        if c.tracks_state:
            ready_to_describe(c, s, classify_unnamed(c))   # the columns of EXECUTE are looked up by its Parse
        body = c.names.unnamed
        there, back = settings_switch(c, s, present, c.names.unnamed_settings, body)
        for command in there:
            stage_in_batch(s, command, 0, None)
        head[0] = b"P"
        put32(head + 1, <uint32_t>(5 + len(body)))
        head[5] = 0
        s.put(head, 6)
        s.put(<const char *>body, len(body))
        s.expect(K_PARSE, F_SWALLOW | F_UNNAMED, 0)
        for command in back:
            stage_in_batch(s, command, 0, None)
        if there and not s.plan.begun:
            end_own(s, P_ENSURE)
        s.unnamed_is(c.names.unnamed)
    c.names.has_unnamed_here()
    return 0


cdef int use_named(Client c, Server s, Statement st, ParseSettings present, uint8_t kind, Message *m, size_t name_at,
                   size_t name_end) except -1:
    """Pass on a message that names a statement, which is made to exist on the server first; `present`: the settings now
    in force, if it is not there.
    """
    if st is None:
        # Under its own name it could be a statement that somebody has made with PREPARE.
        s.expect(kind, 0, UNKNOWN)
        return renamed(c, m, name_at, name_end, b"PGFERRY_0_" + m.p[name_at:name_end] + b"\0")
    if st.changed:
        send_refused(c, s, True, plan_changed())
        return skip(c, m)
    if not s.prepared.touch(st.number):     # or no more, since others were brought
        prepare_on(c, s, st, known_settings(c, s) if present is None else present)
    s.expect(kind, 0, st.number)
    return renamed(c, m, name_at, name_end, st.wire_name)


cdef int aborted(Client c, Server s, Message *m) except -1:
    """The message needs what cannot be brought into a transaction that has failed: let PostgreSQL say so."""
    cdef bytes message = framed(b"P", b"PGFERRY_OWN\0SELECT 1\0\0\0")
    s.put(<const char *>message, len(message))
    s.expect(K_PARSE, 0, 0)
    s.current.note()
    return skip(c, m)


cdef int verify(Client c, Server s, Statement st, ParseSettings present, Message *m) except -1:
    """Prepare a statement that the client was told the columns of, on a server that lacks it, and hold the client
    until it is known that they are the same still: PostgreSQL itself only sees it where the statement was before.
    """
    cdef bytes message
    cdef char size[4]
    if c.tracks_state:
        ready_to_describe(c, s, classify_statement(c, st))
    if s.injected.failures is not None and st.wire_name[:-1] in s.injected.failures:
        send_refused(c, s, True, s.injected.failures[st.wire_name[:-1]])
        return skip(c, m)
    prepare_on(c, s, st, present)
    put32(size, <uint32_t>(5 + len(st.wire_name)))
    message = b"D" + size[:4] + b"S" + st.wire_name + (b"H\0\0\0\4" if s.plan.begun else b"")
    s.put(<const char *>message, len(message))
    s.expect(K_DESCRIBE_S, F_SWALLOW, st.number)
    if not s.plan.begun:
        end_own(s, P_ENSURE)
    s.injected.begin_verifying()
    return stall(c)


cdef int ready_to_describe(Client c, Server s, verdict) except -1:
    """EXECUTE is described by the statement it executes."""
    if verdict is not None and verdict.needs & NEED_PREPARED:
        ensure_prepared(c, s, True)
        ensure_named(c, s, verdict)
    return 0
