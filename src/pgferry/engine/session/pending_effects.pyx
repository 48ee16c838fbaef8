"""What a server is to be asked about before anybody else gets it: bits, and names of settings."""

from libc.stdint cimport uint32_t

from pgferry.engine.core.effects cimport ASKABLE, LOCAL, PREPARED, SETTINGS, UNREADABLE
from pgferry.engine.core.model cimport Server

ANY = b""           # in Client.preparing


cdef int note_names(Server s, object names) except -1:
    if names is None:
        s.probe.any_name = True
    elif names:
        if s.probe.names is None:
            s.probe.names = set()
        s.probe.names.update(names)
    return 0


cdef int touches(Server s, object verdict, uint32_t touch) except -1:
    """The server will be asked for these bits."""
    if touch & UNREADABLE:
        touch |= ASKABLE
        s.probe.any_name = s.current.fence = s.current.notifying = True
    s.probe.touched |= touch & ~<uint32_t>LOCAL
    if touch & PREPARED and s.current.local is not None and s.client is not None and not verdict.prepares:
        if s.client.tracker.preparing is None:
            s.client.tracker.preparing = {}
        s.client.tracker.preparing[ANY] = {(None, None)}
    if touch & SETTINGS:
        note_names(s, verdict.names)
        note_names(s, verdict.hints)
    return 0


cdef int doubt_lone(Server s) except -1:
    """The lone statement is not alone, or has not succeeded as a whole: the server will be asked."""
    verdict = s.current.lone
    s.current.lone = None
    return touches(s, verdict, verdict.touch)
