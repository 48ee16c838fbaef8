# The end with drain_timeout: each client leaves between two of its transactions.
from pgferry.engine.core.model cimport Client

cdef enum:
    # Values of engine.shutdown
    DRAINING = 3
    URGENT = 4          # half of drain_timeout is over

cdef int refuse_next(Client c) except -1
