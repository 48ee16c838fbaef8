"""Wiping a server's session with DISCARD ALL."""

from pgferry.engine.core.model cimport P_RESET, SV_TESTED, Server
from pgferry.engine.session.unsure cimport forget_unsure


cdef int scrub(Server s) except -1:
    """Its client has left with state in the session: wipe it before anybody else comes."""
    s.rows = None
    s.asked = 0                 # whose probe that was is gone
    s.state = SV_TESTED
    s.since = s.loop.now
    s.pool.tested.append(s)
    s.scrubbing = True
    forget_unsure(s)
    s.query(b"DISCARD ALL", P_RESET)
    return s.flush()


cdef int scrubbed(Server s) except -1:
    """DISCARD ALL has succeeded."""
    s.scrubbing = False
    s.touched = 0
    s.names = None
    s.any_name = False
    s.lone = None
    s.sql = None
    s.foreign = False
    s.last_user = None
    s.unlisted = False
    s.tries = 0
    s.kept = s.pool.engine.no_state
    return 0
