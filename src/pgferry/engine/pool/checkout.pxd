# Which server a client gets.
from pgferry.engine.core.model cimport Client, Pool, Server
from pgferry.engine.core.pool_parts cimport Endpoint

cdef Endpoint route(Client c, object verdict)
cdef int acquire_server(Client c, Endpoint endpoint) except -1
cdef int link(Client c, Server s) except -1
cdef int link_waiting(Pool pool) except -1
