# Cancel requests of clients, carried to the server that runs their query and to no other.
from pgferry.engine.model cimport Engine, Pool

cdef int start_waiting(Pool pool) except -1
cdef int check_timeouts(Engine engine) except -1
