"""A pool at work: what is asked of it, and which code does it."""

from pgferry.engine.core.model cimport Pool
from pgferry.engine.pool.checkout cimport link_waiting
from pgferry.engine.pool.connecting cimport open_server, start_wanted


cdef class ServerPool(Pool):
    """The servers of one (database, user) pair and the clients that share them."""

    cdef int want_servers(self) except -1:
        return start_wanted(self)

    cdef bint start_server(self, bint only_free) except -1:
        return open_server(self, only_free)

    cdef int serve_waiting(self) except -1:
        return link_waiting(self)
