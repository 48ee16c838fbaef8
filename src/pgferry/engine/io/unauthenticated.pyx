"""Streams that have not logged in yet: served in their turn, so that many of them hold up nobody's queries.

A step of a login (the startup packet, a step of SCRAM) costs ten times as much as a packet of a query, and after a
restart thousands come at once. Their events wait in a list of the loop, first come, first served; what there is of it
is served behind all other events of a turn, and for at most SHARE_US. TLS handshakes have the same share (see
handshakes).
"""

from libc.stdint cimport uint32_t

from pgferry.engine.io.stream cimport Reactor, Stream
from pgferry.engine.io.sys cimport monotonic


cdef double share_end() noexcept:
    """When the share that begins now is used up (monotonic)."""
    return monotonic() + SHARE_US * 1e-6


cdef int defer(Stream s, uint32_t events) except -1:
    """Keep the event for the stream's turn."""
    if s.defer(events):
        s.loop.unauthenticated.append(s)
    return 0


cdef int serve_unauthenticated(Reactor loop) except -1:
    """A turn's share of the logins."""
    cdef Stream s
    cdef uint32_t events
    cdef Py_ssize_t served = 0
    cdef double until = share_end()
    while served < len(loop.unauthenticated):
        s = <Stream>loop.unauthenticated[served]
        served += 1
        events = s.take_deferred()
        if s.closed:
            continue
        try:
            s.on_event(events)
        except Exception as error:
            loop.failed(s, error)
        if monotonic() >= until:
            break
    del loop.unauthenticated[:served]
    return 0
