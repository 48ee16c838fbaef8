"""What a server is to be asked about before anybody else gets it: bits, and names of settings."""

from libc.stdint cimport uint32_t

from pgferry.engine.core.effects cimport ASKABLE, LOCAL, PREPARED, SETTINGS, UNREADABLE
from pgferry.engine.core.model cimport Server


cdef int add_effects(Server s, object verdict, uint32_t touch) except -1:
    """The server will be asked for these bits."""
    if touch & UNREADABLE:
        touch |= ASKABLE
        s.probe.add_any_name(ASKABLE)
        s.current.may_notify()
    s.probe.add(touch & ~<uint32_t>LOCAL)
    if touch & PREPARED and s.current.local is not None and s.client is not None and not verdict.prepares:
        s.client.tracker.may_prepare_any()
    if touch & SETTINGS:
        s.probe.add_names(verdict.names)
        s.probe.add_names(verdict.hints)
    return 0


cdef int demote_standalone(Server s) except -1:
    """The lone statement is not alone, or has not succeeded as a whole: the server will be asked."""
    verdict = s.current.take_standalone()
    return add_effects(s, verdict, verdict.touch)


cdef int complete_standalone(Server s, bint in_query, const char *tag) except -1:
    """A CommandComplete has come, of a Query or an Execute: of the standalone statement or of one beside it."""
    if s.current.standalone_done and not in_query and "lone" in s.pool.engine.omit:
        return 0
    return 0 if s.current.complete(in_query, tag) else demote_standalone(s)
