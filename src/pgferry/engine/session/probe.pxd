# Asking PostgreSQL what a session holds, and what follows for the client's state.
from pgferry.engine.core.model cimport Client, Server

cdef bint ask(Client c, Server s) except -1
cdef int answered_probe(Server s) except -1
cdef bint probe_again(Client c, Server s, dict failed) except -1
cdef int settle_standalone(Client c, Server s, char status) except -1
cdef bint limits_again(Server s, dict failed) except -1
