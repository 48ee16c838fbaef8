"""What becomes of one message of a client: passed on, dropped, held, or the end of the client.

Each returns an Outcome. What is passed on is collected in the loop's output stage. The functions that nearly every
message needs are in the .pxd.
"""

from libc.stdint cimport uint32_t

from pgferry.engine.client.message cimport Message
from pgferry.engine.core.enums cimport DONE, ENDED, WAIT
from pgferry.engine.core.model cimport Client
from pgferry.engine.io.stream cimport PAUSE_STALL
from pgferry.engine.io.sys cimport put32


cdef int stall(Client c) except -1:
    """Hold the client until the batches before are answered."""
    c.pause(PAUSE_STALL)
    return WAIT


cdef int broken(Client c, str what) except -1:
    c.close(f"broken {what} packet", f"broken {what} packet")
    return ENDED


cdef int renamed(Client c, Message *m, size_t name_at, size_t name_end, bytes wire_name) except -1:
    """Pass the message on with the name in p[name_at:name_end + 1] (NUL included) replaced."""
    cdef char head[5]
    cdef const char *name = wire_name
    cdef size_t name_len = len(wire_name)
    head[0] = m.p[0]
    put32(head + 1, <uint32_t>(m.total - 1 - (name_end + 1 - name_at) + name_len))
    c.loop.out.emit(head, 5)
    if name_at > 5:
        c.loop.out.emit(m.p + 5, name_at - 5)
    c.loop.out.emit(name, name_len)
    if m.have > name_end + 1:
        c.loop.out.emit_run(m.p + name_end + 1, m.have - name_end - 1)
    c.pass_on(m.total - m.have)
    return DONE
