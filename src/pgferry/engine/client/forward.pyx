"""What becomes of one message of a client: passed on, dropped, held, or the end of the client.

Each returns the bytes consumed, 0 when the message has to wait. What is passed on is collected in the loop's stage.
The functions that nearly every message needs are in the .pxd.
"""

from libc.stdint cimport uint32_t

from pgferry.engine.core.model cimport Client
from pgferry.engine.io.stream cimport PAUSE_STALL
from pgferry.engine.io.sys cimport put32


cdef size_t stall(Client c) except? 0:
    """Hold the client until the batches before are answered."""
    c.pause(PAUSE_STALL)
    return 0


cdef size_t broken(Client c, str what) except? 0:
    c.close(f"broken {what} packet", f"broken {what} packet")
    return 0


cdef size_t renamed(Client c, const char *p, size_t n, size_t total, size_t name_at, size_t name_end,
                    bytes wire_name) except? 0:
    """Pass the message on with the name in p[name_at:name_end + 1] (NUL included) replaced."""
    cdef char head[5]
    cdef const char *name = wire_name
    cdef size_t name_len = len(wire_name)
    cdef size_t k = min(n, total)
    head[0] = p[0]
    put32(head + 1, <uint32_t>(total - 1 - (name_end + 1 - name_at) + name_len))
    c.loop.out.emit(head, 5)
    if name_at > 5:
        c.loop.out.emit(p + 5, name_at - 5)
    c.loop.out.emit(name, name_len)
    if k > name_end + 1:
        c.loop.out.emit_run(p + name_end + 1, k - name_end - 1)
    c.pass_on(total - k)
    return k
