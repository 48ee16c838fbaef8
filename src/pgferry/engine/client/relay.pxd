# What becomes of a logged-in client's bytes.
from pgferry.engine.core.model cimport Client

cdef ssize_t client_feed(Client c, const char *p, size_t n) except -1
cdef ssize_t tunnel_feed(Client c, const char *p, size_t n) except -1
