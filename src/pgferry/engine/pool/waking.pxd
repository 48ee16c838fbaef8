# Telling other workers that a place under a limit is free.
from pgferry.engine.core.model cimport Pool


cdef int place_is_free(Pool pool) except -1
