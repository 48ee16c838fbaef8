"""Portals whose Execute changes what pgferry knows of the session: the text has a RESET, DISCARD or DEALLOCATE.

What that is comes from the text, which the Bind names. A portal may be executed in a later batch of its transaction,
and behind others that were bound later.
"""

from libc.string cimport memchr

from pgferry.engine.client.forward cimport broken, expect, wait_for
from pgferry.engine.client.message cimport Message
from pgferry.engine.core.enums cimport DONE
from pgferry.engine.core.model cimport Client, Server
from pgferry.engine.core.plan cimport F_DROPS, K_EXECUTE
from pgferry.engine.session.ensure cimport note_deallocated
from pgferry.engine.session.permit cimport replay_start_values

cdef enum:
    MOST_PORTALS = 10000    # of such portals bound and not executed: PostgreSQL holds some 8 kB for each


cdef int bound(Client c, Message *m) except -1:
    """The Bind has been passed on: keep what it has found, for the Execute of its portal."""
    return DONE if c.names.bound_portal(m.p + 5, MOST_PORTALS) else broken(c, "Bind")


cdef int on_execute(Client c, Server s, Message *m) except -1:
    cdef int outcome
    if c.names.portals is None or c.session:
        return expect(c, s, K_EXECUTE, 0, m)
    if m.have < m.total:
        return wait_for(c, m.total)
    if memchr(m.p + 5, 0, m.total - 5) == NULL:
        return broken(c, "Execute")
    c.names.take_portal(m.p + 5)
    outcome = expect(c, s, K_EXECUTE, F_DROPS if c.names.dropping else 0, m)
    if note_deallocated(c, s):
        c.loop.out.emit(b"H\0\0\0\4", 5)      # the client waits for the answer
    c.names.drops_all(False)
    replay_start_values(c, s, True)
    return outcome
