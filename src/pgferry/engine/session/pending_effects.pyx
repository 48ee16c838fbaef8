"""What a server is to be asked about before anybody else gets it: bits, and names of settings."""

from libc.stdint cimport uint8_t, uint32_t

from pgferry.engine.core.effects cimport ASKABLE, LOCAL, PREPARED, SETTINGS, UNREADABLE
from pgferry.engine.core.model cimport Server
from pgferry.engine.wire.backend cimport ends_transaction, is_standalone

cdef enum:
    STANDALONE_QUERIED = 1    # Server.standalone_done: in a Query, all of which the verdict is on
    STANDALONE_EXECUTED = 2   # in a batch

ANY = b""           # in Client.preparing


cdef int note_names(Server s, object names) except -1:
    if names is None:
        s.probe.any_name = True
    elif names:
        if s.probe.names is None:
            s.probe.names = set()
        s.probe.names.update(names)
    return 0


cdef int add_effects(Server s, object verdict, uint32_t touch) except -1:
    """The server will be asked for these bits."""
    if touch & UNREADABLE:
        touch |= ASKABLE
        s.probe.any_name = s.current.notify_barrier = s.current.notifying = True
    s.probe.pending_effects |= touch & ~<uint32_t>LOCAL
    if touch & PREPARED and s.current.local is not None and s.client is not None and not verdict.prepares:
        if s.client.tracker.preparing is None:
            s.client.tracker.preparing = {}
        s.client.tracker.preparing[ANY] = {(None, None)}
    if touch & SETTINGS:
        note_names(s, verdict.names)
        note_names(s, verdict.hints)
    return 0


cdef int demote_standalone(Server s) except -1:
    """The lone statement is not alone, or has not succeeded as a whole: the server will be asked."""
    verdict = s.current.standalone_set
    s.current.standalone_set = None
    return add_effects(s, verdict, verdict.touch)


cdef int complete_standalone(Server s, bint in_query, const char *tag) except -1:
    """A CommandComplete has come, of a Query or an Execute: of the standalone statement or of one beside it."""
    cdef uint8_t done = s.current.standalone_done
    if done and not in_query and "lone" in s.pool.engine.omit:
        return 0
    if ends_transaction(tag) or done & STANDALONE_EXECUTED or (done and not in_query):
        # Not alone: what else is in the batch may have rolled it back, as CALL and DO can.
        return demote_standalone(s)
    if in_query:
        s.current.standalone_done = STANDALONE_QUERIED
    elif is_standalone(tag):
        s.current.standalone_done = STANDALONE_EXECUTED
    else:
        return demote_standalone(s)
    return 0
