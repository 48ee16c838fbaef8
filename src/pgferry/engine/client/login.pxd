# A client from its first byte to its first ReadyForQuery.
from pgferry.engine.client.login_data cimport Login
from pgferry.engine.core.model cimport Client


cdef class ClientLogin(Login):
    pass


cdef int new_login(Client c) except -1
cdef ssize_t login_feed(Client c, const char *p, size_t n) except -1
