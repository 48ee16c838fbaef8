# What becomes of a logged-in client's bytes.
from pgferry.engine.model cimport Client, Server
from pgferry.engine.prepared cimport Statement

cdef ssize_t client_feed(Client c, const char *p, size_t n) except -1
cdef ssize_t tunnel_feed(Client c, const char *p, size_t n) except -1
cdef int prepare_on(Client c, Server s, Statement st) except -1
cdef int send_refused(Client c, Server s, bint parse) except -1
