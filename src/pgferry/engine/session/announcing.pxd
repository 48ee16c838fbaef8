# Telling the listening connections which client uses a server.
from pgferry.engine.core.model cimport Client, Server

cdef int announce(Client c, Server s, bint extended) except -1
cdef bint is_due(Client c, Server s) except -1
cdef int announced(Server s, bint succeeded) except -1
