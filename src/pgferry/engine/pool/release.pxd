# The way of a server back from its client.
from pgferry.engine.core.model cimport Server

cdef int release_server(Server s) except -1
cdef int offer_server(Server s) except -1
cdef int finish_own_query(Server s, int purpose, dict failed) except -1
cdef int test(Server s, bytes text, int purpose) except -1
