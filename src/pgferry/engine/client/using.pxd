# A message that uses a prepared statement: the server is made to have the statement first.
from libc.stdint cimport uint8_t

from pgferry.engine.core.model cimport Client, Server
from pgferry.engine.core.statements cimport ParseSettings, Statement


cdef bint use_unnamed(Client c, Server s) except -1
cdef size_t use_named(Client c, Server s, Statement st, ParseSettings present, uint8_t kind, const char *p, size_t n,
                      size_t total, size_t name_at, size_t name_end) except? 0
cdef size_t aborted(Client c, Server s, size_t n, size_t total) except? 0
cdef size_t verify(Client c, Server s, Statement st, ParseSettings present, size_t n, size_t total) except? 0
cdef int ready_to_describe(Client c, Server s, verdict) except -1
