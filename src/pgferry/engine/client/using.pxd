# A message that uses a prepared statement: the server is made to have the statement first.
from libc.stdint cimport uint8_t

from pgferry.engine.client.message cimport Message
from pgferry.engine.core.model cimport Client, Server
from pgferry.engine.core.statements cimport ParseSettings, Statement


cdef bint use_unnamed(Client c, Server s) except -1
cdef int use_named(Client c, Server s, Statement st, ParseSettings present, uint8_t kind, Message *m, size_t name_at,
                   size_t name_end) except -1
cdef int aborted(Client c, Server s, Message *m) except -1
cdef int verify(Client c, Server s, Statement st, ParseSettings present, Message *m) except -1
cdef int ready_to_describe(Client c, Server s, verdict) except -1
