# What one stream may take of a turn of the loop.
from pgferry.engine.io.stream cimport Reactor, Stream

cdef enum:
    CLOCK_EVERY = 16         # messages between two looks at the clock


cdef inline bint turn_over(Stream s, int *messages) except -1:
    """Count one more message; whether the stream has used up its share of the turn."""
    messages[0] += 1
    if messages[0] & (CLOCK_EVERY - 1):
        return False
    return share_used(s)


cdef bint share_used(Stream s) except -1
cdef int end_turn(Stream s) except -1
cdef int serve_unfinished(Reactor loop) except -1
cdef int spend(Reactor loop, double seconds) noexcept
