# Pins: what holds a client to its server.
from libc.stdint cimport uint32_t

from pgferry.engine.core.model cimport Client, Server

cdef int pin(Client c, Server s, uint32_t found) except -1
cdef int unpin(Client c) except -1
cdef int unhold(Client c) except -1
cdef str pin_reasons(Client c)
