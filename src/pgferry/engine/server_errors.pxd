# ErrorResponse of a server: whose it is, and what is not answered any more.
from libc.stdint cimport uint32_t

from pgferry.engine.model cimport Server
from pgferry.engine.plan cimport ENSURES, F_SERVER_OP, F_SWALLOW, K_CLOSE, K_EXECUTE, Entry

cdef int on_error(Server s, Entry *front, const char *p, size_t n, size_t total) except? -1


cdef inline bint ends_command_of_ensure(Entry *entry) noexcept:
    return ((entry.kind == K_EXECUTE or entry.kind == K_CLOSE) and entry.number == ENSURES
            and entry.flags & (F_SWALLOW | F_SERVER_OP) == F_SWALLOW)
