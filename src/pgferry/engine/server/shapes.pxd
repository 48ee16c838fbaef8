# The parameter types and columns of prepared statements as clients were told them.
from pgferry.engine.core.model cimport Server
from pgferry.engine.core.plan cimport Entry

cdef int compare_shape(Server s, Entry *front, const char *p, size_t n, size_t total) except -1
