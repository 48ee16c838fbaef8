# Streams that have not logged in yet: served in their turn, so that many of them hold up nobody's queries.
from libc.stdint cimport uint32_t

from pgferry.engine.io.stream cimport Reactor, Stream

cdef enum:
    SHARE_US = 500                  # of each turn, for logins and for TLS handshakes; one step of each at least

cdef double share_end() noexcept
cdef int defer(Stream s, uint32_t events) except -1
cdef int serve_unauthenticated(Reactor loop) except -1
