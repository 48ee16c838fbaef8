# A client from its first byte to its first ReadyForQuery.
from pgferry.engine.model cimport Client

cdef ssize_t login_feed(Client c, const char *p, size_t n) except -1
