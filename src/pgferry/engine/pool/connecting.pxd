# New servers: when one is wanted, and which limits allow it.
from pgferry.engine.core.model cimport Pool

cdef enum:
    PARALLEL_LOGINS = 4      # connection attempts of one pool at a time

cdef int start_wanted(Pool pool) except -1
cdef bint open_server(Pool pool, bint only_free) except -1
cdef bint take_places(Pool pool, bint only_free) except -1
