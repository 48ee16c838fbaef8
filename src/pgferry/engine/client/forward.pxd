# What becomes of one message of a client: passed on, dropped, held, or the end of the client.
from libc.stdint cimport uint8_t

from pgferry.engine.core.model cimport Client, Server


cdef inline size_t forward(Client c, const char *p, size_t n, size_t total) except? 0:
    """Pass the message on as it is, however much of it is there."""
    cdef size_t k = min(n, total)
    c.loop.out.emit_run(p, k)
    c.pass_on(total - k)
    return k


cdef inline size_t skip(Client c, size_t n, size_t total) except? 0:
    """Drop the message, however much of it is there."""
    cdef size_t k = min(n, total)
    c.pass_over(total - k)
    return k


cdef inline size_t expect(Client c, Server s, uint8_t kind, uint8_t flags, const char *p, size_t n,
                          size_t total) except? 0:
    """Pass the message on and note in the plan that it will be answered."""
    s.expect(kind, flags, 0)
    return forward(c, p, n, total)


cdef inline size_t wait_for(Client c, size_t bytes_needed) except? 0:
    return c.needs(bytes_needed)


cdef size_t stall(Client c) except? 0
cdef size_t broken(Client c, str what) except? 0
cdef size_t renamed(Client c, const char *p, size_t n, size_t total, size_t name_at, size_t name_end,
                    bytes wire_name) except? 0
