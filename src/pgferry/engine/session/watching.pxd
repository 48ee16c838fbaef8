# What an operator is told about clients that hold a server, and why connections end.
from pgferry.engine.core.model cimport Client, Engine

cdef int remember_text(Client c, char kind, const char *p, size_t n) except -1
cdef int slow_transaction(Client c, double took) except -1
cdef int still_open(Client c, double now) except -1
cdef int count_end(Engine engine, str kind, str reason) except -1
