# The worker's log lines.
cdef class Log:
    cdef readonly list lines
    cdef bytes unsent
    cdef int fd
    cdef long second
    cdef str stamp          # of `second`, up to the dot before the milliseconds
    cdef str tail           # time zone and process id
    cdef int dropped
    cdef public int verbose
    cdef bint urgent            # a warning or worse is among them
    cdef public bint waiting    # lines wait to be written (plumbing.run)

    cpdef int write(self, str level, str text) except -1
