# ErrorResponse of a server: whose it is, and what is not answered any more.
from pgferry.engine.core.model cimport Server
from pgferry.engine.core.plan cimport Entry

cdef int on_error(Server s, Entry *front, const char *p, size_t n, size_t total) except? -1
