# The event loop: waits for readiness, and says in which order streams are served.
from pgferry.engine.io.stream cimport Reactor
from pgferry.engine.io.sys cimport epoll_event


cdef class Loop(Reactor):
    cdef list throttled             # streams with PAUSE_BULK, earliest end first
    cdef bint coarse                # the kernel cannot wait for less than a millisecond

    cdef int end_throttling(self) except -1
    cdef int wait(self, epoll_event *events, int timeout_ms) except? -2
    cdef int turn(self, int timeout_ms) except -1
    cdef int serve(self, epoll_event *event) except -1
