# The worker's log lines.
from pgferry.engine.io.text cimport Text


cdef class Log:
    cdef Text text          # lines not yet written, and the one begun
    cdef size_t begun       # where that starts
    cdef str level          # of the line begun
    cdef size_t left        # bytes that the pipe did not take the last time
    cdef int fd
    cdef long second
    cdef bytes stamp        # of `second`, up to the dot before the milliseconds
    cdef bytes tail         # time zone and process id
    cdef int dropped
    cdef public int verbose
    cdef bint urgent            # a warning or worse is among them, or too many
    cdef public bint waiting    # lines wait to be written (worker_loop.run)

    cdef bint wants(self, str level) except -1
    cdef Text begin(self, str level)
    cdef leave(self)
    cdef int end(self) except -1
    cpdef int write(self, str level, str text) except -1
