# Which server a client gets.
from pgferry.engine.core.model cimport Client, Pool, Server

cdef bint acquire_server(Client c) except -1
cdef int link(Client c, Server s) except -1
cdef int link_waiting(Pool pool) except -1
