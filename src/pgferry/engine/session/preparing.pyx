"""Having a server know a protocol-level statement: its Parse in front of the message that uses it, and room for it."""

from libc.stdint cimport uint32_t, uint64_t

from pgferry.engine.core.enums cimport P_ENSURE
from pgferry.engine.core.model cimport Client, Server
from pgferry.engine.core.plan cimport F_SERVER_OP, F_SWALLOW, K_CLOSE, K_PARSE
from pgferry.engine.core.statements cimport ParseSettings, Statement
from pgferry.engine.io.sys cimport put32
from pgferry.engine.session.parse_settings cimport is_settled, settings_switch, strains
from pgferry.engine.session.staging cimport end_own, stage_in_batch


cdef bint is_here(Client c, Server s, Statement st) except -1:
    """Whether the server has the statement as it was parsed for this client. What another client's settings may have
    given another meaning is closed.
    """
    cdef bint strained
    if not s.prepared.touch(st.number):
        return False
    if s.prepared.strained is None and st.settings is c.tracker.parse_settings and is_settled(c, s):
        return True
    strained = strains(c, s, st.settings)
    if s.prepared.fits(st.number, c.id, strained):
        return True
    close_on(c, s, st.number)
    s.prepared.renew(st.number, c.id, strained)
    return False


cdef int prepare_on(Client c, Server s, Statement st, ParseSettings present) except -1:
    """Stage the Parse of a statement that the server lacks, under the settings it was parsed under; the answer is
    swallowed. `present`: those that are in force now.
    """
    cdef const char *name = st.wire_name
    cdef const char *body = st.body
    cdef char head[5]
    cdef list there, back
    make_room(c, s)
    there, back = settings_switch(c, s, present, st.settings, st.body)
    for command in there:
        stage_in_batch(s, command, 0, None)
    head[0] = b"P"
    put32(head + 1, <uint32_t>(4 + len(st.wire_name) + len(st.body)))
    s.put(head, 5)
    s.put(name, len(st.wire_name))
    s.put(body, len(st.body))
    s.prepared.add(st.number)
    s.expect(K_PARSE, F_SWALLOW | F_SERVER_OP, st.number)
    for command in back:
        stage_in_batch(s, command, 0, None)
    if there and not s.plan.begun:
        end_own(s, P_ENSURE)
    c.pool.stats.count_server_parse()
    return 0


cdef int make_room(Client c, Server s) except -1:
    """Close the statements used longest ago until one more fits (max_prepared_statements)."""
    cdef uint32_t limit = max(c.engine.settings.max_prepared_statements, 1)
    while s.prepared.count >= limit:
        close_on(c, s, s.prepared.oldest())
    return 0


cdef int close_on(Client c, Server s, uint64_t number) except -1:
    """Stage the Close of a statement that the server has; its answer is swallowed."""
    cdef bytes message = close_statement(b"PGFERRY_%d\0" % number)
    s.put(<const char *>message, len(message))
    s.expect(K_CLOSE, F_SWALLOW | F_SERVER_OP, number)
    s.prepared.leaves(number)
    return 0


cdef bytes close_statement(bytes wire_name):
    """A Close message for a statement."""
    cdef char size[4]
    put32(size, <uint32_t>(5 + len(wire_name)))
    return b"C" + size[:4] + b"S" + wire_name
