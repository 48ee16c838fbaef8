# What each message of a server means, by what was asked.
from pgferry.engine.core.model cimport Server
from pgferry.engine.core.plan cimport K_DESCRIBE_S, Entry


cdef inline bint is_described(Entry *front) noexcept:
    """Whether the answer tells the columns of a statement with a name."""
    return front != NULL and front.kind == K_DESCRIBE_S and front.number != 0


cdef int dispatch(Server s, Entry *front, char kind, const char *p, size_t n, size_t total) except? -1
cdef int lost(Server s, str what) except? -1
