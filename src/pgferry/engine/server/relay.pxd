# What becomes of a logged-in server's bytes.
from pgferry.engine.core.model cimport Server

cdef ssize_t server_feed(Server s, const char *p, size_t n) except -1
