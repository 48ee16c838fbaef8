# A pool at work.
from pgferry.engine.core.model cimport Pool


cdef class ServerPool(Pool):
    pass
