# Cancel requests of clients, carried to the server that runs their query and to no other; or to a peer.
from libc.stdint cimport uint32_t

from pgferry.engine.core.model cimport Engine, Pool
from pgferry.engine.io.stream cimport Stream


cdef class Request(Stream):
    # One request: waiting for its turn (fd -1), then a connection that ends when the request is carried out.
    cdef readonly object done        # called when it is over
    cdef readonly double asked       # monotonic
    cdef bint connecting
    cdef bint sent

    cdef int connect_to(self, family, address) except -1
    cdef bytes key_to_send(self)
    cdef bint wanted(self) except -1
    cdef int connected(self) except -1
    cdef int send(self) except -1
    cdef int failed(self, str why) except -1
    cdef int finish(self) except -1
    cdef int late(self) except -1


cdef int start_waiting(Pool pool) except -1
cdef int check_timeouts(Engine engine) except -1
