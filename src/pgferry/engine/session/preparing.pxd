# Having a server know a protocol-level statement.
from libc.stdint cimport uint64_t

from pgferry.engine.core.model cimport Client, Server
from pgferry.engine.core.statements cimport ParseSettings, Statement

cdef bint is_here(Client c, Server s, Statement st) except -1
cdef int prepare_on(Client c, Server s, Statement st, ParseSettings present) except -1
cdef int make_room(Client c, Server s) except -1
cdef int close_on(Client c, Server s, uint64_t number) except -1
cdef bytes close_statement(bytes wire_name)
