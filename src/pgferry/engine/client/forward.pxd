# What becomes of one message of a client: passed on, dropped, held, or the end of the client.
from libc.stdint cimport uint8_t

from pgferry.engine.client.message cimport Message
from pgferry.engine.core.enums cimport DONE, WAIT
from pgferry.engine.core.model cimport Client, Server


cdef inline int forward(Client c, Message *m) except -1:
    """Pass the message on as it is, however much of it is there."""
    c.loop.out.emit_run(m.p, m.have)
    c.pass_on(m.total - m.have)
    return DONE


cdef inline int skip(Client c, Message *m) except -1:
    """Drop the message, however much of it is there."""
    c.pass_over(m.total - m.have)
    return DONE


cdef inline int expect(Client c, Server s, uint8_t kind, uint8_t flags, Message *m) except -1:
    """Pass the message on and note in the plan that it will be answered."""
    s.expect(kind, flags, 0)
    return forward(c, m)


cdef inline int wait_for(Client c, size_t bytes_needed) except -1:
    """The message is looked at again when so many bytes of it are there."""
    c.needs(bytes_needed)
    return WAIT


cdef int stall(Client c) except -1
cdef int broken(Client c, str what) except -1
cdef int renamed(Client c, Message *m, size_t name_at, size_t name_end, bytes wire_name) except -1
