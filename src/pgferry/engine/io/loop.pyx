"""The event loop: waits for readiness, and says in which order streams are served.

An event carries descriptor and generation, never a pointer, so an event for a stream that was closed earlier
in the same turn is dropped, even when its descriptor has a new owner. Handshakes of TLS have a list of their own and a
share of each turn; so have clients that log in (see unauthenticated), and streams that did not get ready in earlier
turns (see turn_share).
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EINTR, ENOSYS, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc

from pgferry.engine.io.handshakes cimport shake_hands
from pgferry.engine.io.stream cimport Reactor, Stream
from pgferry.engine.io.sys cimport (
    EPOLL_CLOEXEC, close, epoll_create1, epoll_event, epoll_wait, epoll_wait_ns, monotonic,
)
from pgferry.engine.io.turn_share cimport serve_unfinished
from pgferry.engine.io.unauthenticated cimport defer, serve_unauthenticated

cdef extern from "Python.h":
    ctypedef struct PyThreadState:
        pass
    ctypedef struct PyInterpreterState:
        pass
    PyInterpreterState *PyInterpreterState_Get()
    PyThreadState *PyInterpreterState_ThreadHead(PyInterpreterState *interpreter)
    PyThreadState *PyThreadState_Next(PyThreadState *state)

cdef enum:
    RBUF = 256 * 1024       # large enough that bulk results cost few system calls, small enough for the cache
    MAX_EVENTS = 256

cdef double THROTTLE = 300e-6       # seconds
cdef double SHORT_THROTTLE = 150e-6


cdef bint alone() noexcept:
    """Whether this is the only Python thread: nobody waits for the GIL then, and giving it away and taking it back
    would be a fifth of the instructions of a transaction."""
    return PyThreadState_Next(PyInterpreterState_ThreadHead(PyInterpreterState_Get())) == NULL


cdef class Loop(Reactor):
    """epoll, and whose turn it is."""

    def __cinit__(self):
        self.epfd = self.pipe[0] = self.pipe[1] = -1
        self.throttled = []
        self.rbuf_cap = RBUF
        self.rbuf = <char *>malloc(RBUF)
        if self.rbuf == NULL:
            raise MemoryError()
        self.epfd = epoll_create1(EPOLL_CLOEXEC)
        if self.epfd < 0:
            raise OSError(errno, "epoll_create1")
        self.now = monotonic()

    def __dealloc__(self):
        cdef int fd
        free(self.rbuf)
        for fd in (self.epfd, self.pipe[0], self.pipe[1]):
            if fd >= 0:
                close(fd)

    cdef int throttle(self, Stream s, bint brief) except -1:
        """Leave a stream unread for a moment; a brief one is enough where it fills what is received into.

        PostgreSQL sends results in pieces of 8 kB, and a relay that keeps up receives and sends each of them by
        itself. Letting a long result gather for up to 0.3 ms between receives makes them ten times larger and costs a
        third of the processor time; the server is not slowed, it writes into the kernel's buffer meanwhile. Its
        events are off for as long as one rest follows the other.
        """
        cdef Py_ssize_t i = len(self.throttled)
        if not s.epollin_off:
            s.watch(0)
        s.rest(monotonic() + (SHORT_THROTTLE if brief else THROTTLE))
        while i and (<Stream>self.throttled[i - 1]).throttled_until > s.throttled_until:
            i -= 1
        self.throttled.insert(i, s)
        return 0

    cdef int end_throttling(self) except -1:
        cdef Stream s
        while self.throttled:
            s = <Stream>self.throttled[0]
            if s.throttled_until > self.now and not s.closed:
                return 0
            del self.throttled[0]
            s.end_rest()
        return 0

    cdef int wait(self, epoll_event *events, int timeout_ms) except? -2:
        """epoll_wait, not longer than until the first throttled stream is due."""
        cdef int n
        cdef double left
        if self.ready or self.handshakes or self.unauthenticated or self.share.unfinished:
            timeout_ms = 0
        elif self.throttled and not self.coarse:
            left = (<Stream>self.throttled[0]).throttled_until - monotonic()
            with nogil:
                n = epoll_wait_ns(self.epfd, events, MAX_EVENTS, <long>(left * 1e9) if left > 0 else 0)
            if n >= 0 or errno != ENOSYS:
                return n
            self.coarse = True
        elif self.throttled:
            timeout_ms = 1
        if alone():
            return epoll_wait(self.epfd, events, MAX_EVENTS, timeout_ms)
        with nogil:
            n = epoll_wait(self.epfd, events, MAX_EVENTS, timeout_ms)
        return n

    cdef int turn(self, int timeout_ms) except -1:
        """Wait for events at most timeout_ms, serve them, then the ready list."""
        cdef epoll_event events[MAX_EVENTS]
        cdef int n, i
        cdef Stream s
        cdef list ready
        cdef object slot
        n = self.wait(events, timeout_ms)
        if n < 0:
            if errno != EINTR:
                raise OSError(errno, "epoll_wait")
            PyErr_CheckSignals()
            n = 0
        self.now = monotonic()
        self.turns += 1
        self.share.begin_part(bool(self.share.unfinished))
        for i in range(n if n > 1 else 0):
            slot = self.slots[<int><uint32_t>events[i].data.u64]
            if slot is not None and (<Stream>slot).priority:
                self.serve(&events[i])
                events[i].events = 0
        for i in range(n):
            if events[i].events:
                self.serve(&events[i])
        if self.throttled:
            self.end_throttling()
        if self.unauthenticated:
            serve_unauthenticated(self)
        if self.handshakes:
            shake_hands(self)
        if self.ready:
            ready = self.ready
            self.ready = []
            for slot in ready:
                s = <Stream>slot
                s.taken_from_ready()
                try:
                    s.on_ready()
                except Exception as error:
                    self.failed(s, error)
        if self.share.unfinished:
            serve_unfinished(self)
        return 0

    cdef int serve(self, epoll_event *event) except -1:
        """Give an event to its stream, unless that is closed and the descriptor another one's."""
        cdef uint64_t data = event.data.u64
        cdef object slot = self.slots[<int><uint32_t>data]
        cdef Stream s
        if slot is None:
            return 0
        s = <Stream>slot
        if s.generation == <uint32_t>(data >> 32):
            if s.unauthenticated:
                return defer(s, event.events)
            try:
                s.on_event(event.events)
            except Exception as error:
                self.failed(s, error)
        return 0

    def run_once(self, int timeout_ms):
        """One turn of the loop (for tests and tools)."""
        self.turn(timeout_ms)
