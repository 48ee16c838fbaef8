"""Wiping a server's session with DISCARD ALL."""

from pgferry.engine.core.model cimport P_RESET, SV_TESTED, Server
from pgferry.engine.session.unsure cimport forget_unsure


cdef int scrub(Server s) except -1:
    """Its client has left with state in the session: wipe it before anybody else comes."""
    s.probe.rows = None
    s.probe.asked_effects = 0                 # whose probe that was is gone
    s.state = SV_TESTED
    s.since = s.loop.now
    s.pool.endpoint.tested.append(s)
    s.last.scrubbing = True
    forget_unsure(s)
    s.query(b"DISCARD ALL", P_RESET)
    return s.flush()


cdef int scrubbed(Server s) except -1:
    """DISCARD ALL has succeeded."""
    s.last.scrubbing = False
    s.probe.pending_effects = 0
    s.probe.names = None
    s.probe.any_name = False
    s.current.standalone_set = None
    s.sql = None
    s.last.sequence_cache_dirty = False
    s.last.last_user = None
    s.probe.unlisted = False
    s.probe.tries = 0
    s.session_state = s.pool.engine.no_state
    return 0
