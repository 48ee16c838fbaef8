"""Wiping a server's session with DISCARD ALL."""

from pgferry.engine.core.enums cimport P_RESET, SV_TESTED
from pgferry.engine.core.model cimport Server
from pgferry.engine.session.unsure cimport forget_unsure


cdef int scrub(Server s) except -1:
    """Its client has left with state in the session: wipe it before anybody else comes."""
    s.probe.abandon()
    s.enter(SV_TESTED)
    s.last.scrub_begins()
    forget_unsure(s)
    s.query(b"DISCARD ALL", P_RESET)
    return s.flush()


cdef int scrubbed(Server s) except -1:
    """DISCARD ALL has succeeded."""
    s.last.scrubbed()
    s.probe.wiped()
    s.current.take_standalone()
    s.sql_is(None)
    return s.holds(s.pool.engine.no_state)
