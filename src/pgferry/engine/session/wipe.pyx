"""Wiping a server's session with DISCARD ALL."""

from pgferry.engine.core.enums cimport P_RESET, SV_TESTED
from pgferry.engine.core.model cimport Server
from pgferry.engine.session.unsure cimport forget_unsure


cdef int scrub(Server s) except -1:
    """Its client has left with state in the session: wipe it before anybody else comes."""
    s.probe.rows = None
    s.probe.asked_effects = 0                 # whose probe that was is gone
    s.enter(SV_TESTED)
    s.last.scrub_begins()
    forget_unsure(s)
    s.query(b"DISCARD ALL", P_RESET)
    return s.flush()


cdef int scrubbed(Server s) except -1:
    """DISCARD ALL has succeeded."""
    s.last.scrubbed()
    s.probe.pending_effects = 0
    s.probe.names = None
    s.probe.any_name = False
    s.current.standalone_set = None
    s.sql_is(None)
    s.probe.unlisted = False
    s.probe.tries = 0
    return s.holds(s.pool.engine.no_state)
