"""The event loop and the stream: readiness, unsent bytes, unfinished input. Knows sockets, not PostgreSQL.

Every descriptor is registered once, edge-triggered, for input and hang-up; EPOLLOUT is added only while a
send has left bytes behind. With edges, a stream that is paused (or was cut off by the fairness limit) gets no
second event for bytes that already lie in the kernel, so it remembers them in `readable` and is put on the
loop's ready list when it may go on. A receive that returns less than the room it had has emptied the socket:
the next byte, or the end of the stream, makes a new edge. An end that has been told already (`ending`) makes
no other, so such a stream is read until recv() gives it.

With TLS (see secure and tls) the socket's bytes are records: receive_tls() takes the place of receive(), put() and
deliver() turn what is sent into records first. Handshakes have a list of their own and a share of each turn; so have
clients that log in (see newcomers).

All input goes through one buffer of the loop. A stream keeps bytes of its own only in two cases: input that
ends within a message (held) and output that the kernel did not take (out). An idle connection has neither.

An event carries descriptor and generation, never a pointer, so an event for a stream that was closed earlier
in the same turn is dropped, even when its descriptor has a new owner.
"""

from collections import deque

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from libc.errno cimport EAGAIN, EINTR, ENOSYS, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove

from pgferry.engine.io.unauthenticated cimport defer, serve_newcomers
from pgferry.engine.io.handshakes cimport receive_tls, say_goodbye, shake_hands
from pgferry.engine.io.turn_share cimport serve_unfinished
from pgferry.engine.io.sys cimport (
    EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN,
    EPOLLOUT, EPOLLRDHUP, MSG_DONTWAIT, MSG_NOSIGNAL, close, epoll_create1, epoll_ctl, epoll_event,
    epoll_wait, epoll_wait_ns, iovec, monotonic, msghdr, recv, send, sendmsg,
)

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
    SIP = 8192
    ONE_RECORD = 16384      # plain bytes of a full TLS record
    MOST_FAILURES = 100     # turns in a row in which a service raises an exception, before the process is given up

cdef double REST = 300e-6       # seconds
cdef double SHORT_REST = 150e-6


cdef bint alone() noexcept:
    """Whether this is the only Python thread: nobody waits for the GIL then, and giving it away and taking it back
    would be a fifth of the instructions of a transaction."""
    return PyThreadState_Next(PyInterpreterState_ThreadHead(PyInterpreterState_Get())) == NULL


cdef class Stream:
    """One connected socket. Subclasses give feed() and the on_ functions their meaning."""

    def __cinit__(self, Loop loop, *args, **kwargs):
        self.loop = loop
        self.fd = -1
        self.edge = <uint32_t>EPOLLET

    def __dealloc__(self):
        if self.fd >= 0:
            close(self.fd)
        free(self.out)
        free(self.held)

    cdef int attach(self, int fd, uint32_t events) except -1:
        """Own a non-blocking descriptor and register it for `events` (EPOLLET and EPOLLRDHUP are added).

        It is owned, and closed by detach(), also if this raises OSError or MemoryError.
        """
        cdef epoll_event ev
        cdef Loop loop = self.loop
        while len(loop.slots) <= fd:
            loop.slots.append(None)
        loop.generation += 1
        self.fd = fd
        self.generation = loop.generation
        self.interest = events | EPOLLRDHUP | self.edge
        ev.events = self.interest
        ev.data.u64 = (<uint64_t>self.generation << 32) | <uint64_t>fd
        if epoll_ctl(loop.epfd, EPOLL_CTL_ADD, fd, &ev) < 0:
            raise OSError(errno, "epoll_ctl")
        loop.slots[fd] = self
        return 0

    cdef int watch(self, uint32_t events) except -1:
        """Change the events asked for; re-arms the edges, so an event that holds already comes again."""
        cdef epoll_event ev
        self.muted = not events & EPOLLIN
        events |= EPOLLRDHUP | self.edge
        if self.fd < 0 or self.interest == events:
            return 0
        self.interest = events
        ev.events = events
        ev.data.u64 = (<uint64_t>self.generation << 32) | <uint64_t>self.fd
        if epoll_ctl(self.loop.epfd, EPOLL_CTL_MOD, self.fd, &ev) < 0:
            raise OSError(errno, "epoll_ctl")
        return 0

    cdef int detach(self) except -1:
        """Close the socket and free its buffers. The object may live on; it does nothing any more."""
        cdef int fd = self.fd
        if self.tls is not None:
            say_goodbye(self)
            self.tls = None
        self.closed = True
        self.fd = -1
        if fd >= 0:
            self.loop.slots[fd] = None
            close(fd)       # also takes it out of the epoll set: descriptors are never shared with others
        self.loop.buffered -= self.out_cap + self.held_cap
        self.loop.buffers -= (self.out_cap != 0) + (self.held_cap != 0)
        free(self.out)
        free(self.held)
        self.out = self.held = NULL
        self.out_head = self.out_tail = self.out_cap = 0
        self.held_len = self.held_cap = self.need = 0
        return 0

    def drop_socket(self):
        """Close the descriptor but not the stream, which will be attached to another one; nothing is kept of it."""
        cdef int fd = self.fd
        if fd >= 0:
            self.loop.slots[fd] = None
            close(fd)
        self.fd = -1
        self.tls = None
        self.interest = 0
        self.paused = 0
        self.readable = self.ending = self.muted = self.blocked = self.broken = False
        self.out_head = self.out_tail = 0
        self.drop_held()

    cdef int pause(self, int why) except -1:
        self.paused |= why
        return 0

    cdef int unpause(self, int why) except -1:
        """Take back a reason; with the last one gone the stream goes on in this turn."""
        if self.paused & why:
            self.paused &= ~why
            if self.paused == 0 and not self.closed:
                self.loop.again(self)
        return 0

    cdef int unmute(self) except -1:
        """End of a bulk phase: events for input again (one comes at once when bytes are there)."""
        if self.muted:
            return self.watch(EPOLLIN)
        return 0

    cdef size_t unsent(self) noexcept:
        return self.out_tail - self.out_head

    cdef int put(self, const char *data, size_t n) except -1:
        """Append to the unsent bytes without sending. Raises MemoryError."""
        cdef bytes records
        if self.tls is None or self.closed:
            return self.keep(data, n)
        records = self.tls.seal(data, n, NULL, 0)
        return self.keep(records, len(records))

    cdef int keep(self, const char *data, size_t n) except -1:
        """put(), of bytes that are to reach the socket as they are. Raises MemoryError."""
        cdef size_t cap
        cdef char *p
        if n == 0 or self.closed:
            return 0
        if self.out_tail + n > self.out_cap:
            if self.out_head:
                memmove(self.out, self.out + self.out_head, self.out_tail - self.out_head)
                self.out_tail -= self.out_head
                self.out_head = 0
            if self.out_tail + n > self.out_cap:
                cap = max(self.out_cap * 2, self.loop.chunk)
                while cap < self.out_tail + n:
                    cap *= 2
                p = <char *>realloc(self.out, cap)
                if p == NULL:
                    raise MemoryError()
                self.loop.buffers += self.out_cap == 0
                self.loop.buffered += cap - self.out_cap
                self.out = p
                self.out_cap = cap
        memcpy(self.out + self.out_tail, data, n)
        self.out_tail += n
        return 0

    cdef int flush(self) except -1:
        """Send what is unsent. What is staged for another stream stays as it is."""
        cdef Loop loop = self.loop
        cdef size_t stage_len = loop.stage_len, run_len = loop.run_len
        cdef bint lent = loop.lent
        if self.unsent() and not self.blocked:
            loop.stage_len = loop.run_len = 0
            loop.lent = True
            loop.deliver(self)
            loop.lent = lent
            loop.stage_len, loop.run_len = stage_len, run_len
        return 0

    cdef int hold(self, const char *data, size_t n) except -1:
        """Keep bytes that feed() could not consume yet. Raises MemoryError."""
        if self.held != NULL and self.held <= data < self.held + self.held_cap:
            memmove(self.held, data, n)
        else:
            if n > self.held_cap:
                self.enlarge(n)
            memcpy(self.held, data, n)
        self.held_len = n
        return 0

    cdef int enlarge(self, size_t cap) except -1:
        """Room for so many held bytes. Raises MemoryError."""
        cdef char *p
        cap = max(cap, self.loop.chunk)
        p = <char *>realloc(self.held, cap)
        if p == NULL:
            raise MemoryError()
        self.loop.buffers += self.held_cap == 0
        self.loop.buffered += cap - self.held_cap
        self.held = p
        self.held_cap = cap
        return 0

    cdef int drop_held(self) except -1:
        if self.held_cap:
            self.loop.buffered -= self.held_cap
            self.loop.buffers -= 1
            free(self.held)
            self.held = NULL
        self.held_len = self.held_cap = self.need = 0
        return 0

    cdef int consume(self, char *data, size_t n) except -1:
        """Give bytes to feed() and keep the rest. `data` is the loop's buffer or self.held."""
        cdef ssize_t used
        self.need = 0
        used = self.feed(data, n)
        if self.closed:
            return 0
        if <size_t>used < n:
            self.hold(data + used, n - used)
        elif self.held_cap:
            self.drop_held()
        return 0

    @cython.final
    cdef char *space(self, size_t *room) except NULL:
        """Where the next bytes are to be put, behind the held ones: see taken()."""
        cdef Loop loop = self.loop
        if self.need > loop.rbuf_cap // 2:
            # A message that must be complete and is larger than the common buffer: collect it in its own, which
            # grows with what has really come (the length is only a peer's word).
            if self.held_len == self.held_cap:
                self.enlarge(min(self.need, 2 * self.held_cap))
            room[0] = self.held_cap - self.held_len
            return self.held + self.held_len
        room[0] = loop.rbuf_cap - self.held_len
        return loop.rbuf + self.held_len

    @cython.final
    cdef int taken(self, size_t n) except -1:
        """n bytes have been put into space(): feed what there is, unless more must come first."""
        cdef char *buf = self.loop.rbuf
        n += self.held_len
        if self.need > self.loop.rbuf_cap // 2:
            self.held_len = n
            if n < self.need:
                return 0
            buf = self.held
        elif self.held_len:
            memcpy(buf, self.held, self.held_len)
        self.held_len = 0
        return self.consume(buf, n)

    cdef int receive(self) except -1:
        """Read and feed until the socket is empty, the stream is paused or its share of the turn is used up."""
        cdef Loop loop = self.loop
        cdef int rounds = loop.rounds
        cdef char *at
        cdef size_t room
        cdef ssize_t n
        if self.tls is not None:
            return receive_tls(self)
        while not self.closed and self.paused == 0:
            at = self.space(&room)
            if self.sip:
                room = min(room, <size_t>SIP)
            n = recv(self.fd, at, room, MSG_DONTWAIT)
            if n < 0:
                if errno == EINTR:
                    continue
                self.readable = False
                if self.fd < 0:
                    return self.on_eof() if self.ending else 0      # driven by a test
                if errno == EAGAIN:
                    return self.unmute()
                return self.on_eof()
            if n == 0:
                self.readable = False
                return self.on_eof()
            self.readable = <size_t>n == room or self.ending
            self.taken(n)
            if self.sip:
                self.sip = False
                return loop.again(self)
            if not self.readable:
                return 0
            rounds -= 1
            if rounds == 0 or self.tls is not None:     # TLS: has begun with these bytes
                return loop.again(self)
        return 0

    cdef size_t inject(self, const char *data, size_t n) except? 0:
        """Take bytes as if they had been received, in one piece; returns how many (none while paused)."""
        cdef size_t room
        cdef char *at
        if self.closed or self.paused:
            return 0
        at = self.space(&room)
        n = min(n, room)
        memcpy(at, data, n)
        self.taken(n)
        return n

    cdef int on_event(self, uint32_t events) except -1:
        if events & EPOLLOUT and self.blocked:
            self.blocked = False
            self.flush()
            if self.closed:
                return 0
            if not self.blocked:
                self.watch(EPOLLIN)
                self.on_drained()
                if self.closed:
                    return 0
        if events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR):
            if events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
                self.ending = True
            if self.paused:
                self.readable = True
                if events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR):
                    return self.on_hangup()
            else:
                return self.receive()
        return 0

    cdef int on_ready(self) except -1:
        """Go on: held bytes first, then the socket."""
        cdef size_t n
        if self.closed:
            return 0
        if self.broken:
            return self.on_eof()
        if self.paused:
            return 0
        n = self.held_len
        if n and n >= self.need:
            self.held_len = 0
            self.consume(self.held, n)
            if self.closed or self.paused:
                return 0
        if self.readable or self.muted:
            return self.receive()
        return 0

    cdef ssize_t feed(self, const char *data, size_t n) except -1:
        return n

    cdef int on_eof(self) except -1:
        return self.detach()

    cdef int on_hangup(self) except -1:
        return 0

    cdef int on_drained(self) except -1:
        return 0

    cdef int on_secure(self) except -1:
        return 0

    cdef int on_bug(self) except -1:
        """Serving it has raised an exception: a bug, or no memory. It costs this connection, and its peer."""
        return self.on_eof()


cdef class Service(Stream):
    """A stream that no connection owns and all depend on: a listener, the control channel, results of a thread.

    An exception costs what it was about, and the stream is served again. One that goes on failing cannot be helped in
    this process: that ends, and is started anew.
    """

    cdef int on_bug(self) except -1:
        self.failures += 1
        if self.closed:
            return 0
        if self.failures >= MOST_FAILURES:
            self.loop.stopping = True
            return 0
        return self.loop.again(self)        # edge-triggered: what it has not read yet does not come up by itself

    cdef int on_ready(self) except -1:
        return 0 if self.closed else self.on_event(EPOLLIN)

    cdef int served(self) noexcept:
        """A turn is over without one."""
        self.failures = 0
        return 0


cdef class StreamList:
    """A list of streams in order; a stream is in one list at most, so moving it is taking it out of its home."""

    cdef int append(self, Stream s) except -1:
        """Put s at the end (out of the list it was in)."""
        if s.home is not None:
            s.home.remove(s)
        s.home = self
        s.prev = self.tail
        if self.tail is None:
            self.head = s
        else:
            self.tail.next = s
        self.tail = s
        self.count += 1
        return 0

    cdef int push(self, Stream s) except -1:
        """Put s at the front (out of the list it was in)."""
        if s.home is not None:
            s.home.remove(s)
        s.home = self
        s.next = self.head
        if self.head is None:
            self.tail = s
        else:
            self.head.prev = s
        self.head = s
        self.count += 1
        return 0

    cdef int remove(self, Stream s) except -1:
        if s.home is not self:
            raise AssertionError("stream is not in this list")
        if s.prev is None:
            self.head = s.next
        else:
            s.prev.next = s.next
        if s.next is None:
            self.tail = s.prev
        else:
            s.next.prev = s.prev
        s.prev = s.next = None
        s.home = None
        self.count -= 1
        return 0

    def __len__(self):
        return self.count

    def items(self):
        """The streams, first to last, as a list of its own (so that they may move while it is walked)."""
        cdef list found = []
        cdef Stream s = self.head
        while s is not None:
            found.append(s)
            s = s.next
        return found


cdef class Loop:
    """epoll and the buffers that all connections of a worker share."""

    def __cinit__(self):
        self.epfd = self.pipe[0] = self.pipe[1] = -1
        self.slots = []
        self.ready = []
        self.resting = []
        self.handshakes = deque()
        self.newcomers = deque()
        self.unfinished = deque()
        self.rounds = 5
        self.chunk = 4096
        self.rbuf_cap = RBUF
        self.rbuf = <char *>malloc(RBUF)
        self.stage_cap = 16384
        self.stage = <char *>malloc(self.stage_cap)
        if self.rbuf == NULL or self.stage == NULL:
            raise MemoryError()
        self.epfd = epoll_create1(EPOLL_CLOEXEC)
        if self.epfd < 0:
            raise OSError(errno, "epoll_create1")
        self.now = monotonic()

    def __dealloc__(self):
        cdef int fd
        free(self.rbuf)
        free(self.stage)
        for fd in (self.epfd, self.pipe[0], self.pipe[1]):
            if fd >= 0:
                close(fd)

    cdef int again(self, Stream s) except -1:
        """Run s again within this turn (once, however often asked)."""
        if not s.queued:
            s.queued = True
            self.ready.append(s)
        return 0

    cdef int rest(self, Stream s, bint brief) except -1:
        """Leave a stream unread for a moment; a brief one is enough where it fills what is received into.

        PostgreSQL sends results in pieces of 8 kB, and a relay that keeps up receives and sends each of them by
        itself. Letting a long result gather for up to 0.3 ms between receives makes them ten times larger and costs a
        third of the processor time; the server is not slowed, it writes into the kernel's buffer meanwhile. Its
        events are off for as long as one rest follows the other.
        """
        cdef Py_ssize_t i = len(self.resting)
        if not s.muted:
            s.watch(0)
        s.rest_until = monotonic() + (SHORT_REST if brief else REST)
        s.paused |= PAUSE_BULK
        while i and (<Stream>self.resting[i - 1]).rest_until > s.rest_until:
            i -= 1
        self.resting.insert(i, s)
        return 0

    cdef int wake_rested(self) except -1:
        cdef Stream s
        while self.resting:
            s = <Stream>self.resting[0]
            if s.rest_until > self.now and not s.closed:
                return 0
            del self.resting[0]
            s.readable = True
            s.unpause(PAUSE_BULK)
        return 0

    cdef int wait(self, epoll_event *events, int timeout_ms) except? -2:
        """epoll_wait, not longer than until the first resting stream is due."""
        cdef int n
        cdef double left
        if self.ready or self.handshakes or self.newcomers or self.unfinished:
            timeout_ms = 0
        elif self.resting and not self.coarse:
            left = (<Stream>self.resting[0]).rest_until - monotonic()
            with nogil:
                n = epoll_wait_ns(self.epfd, events, MAX_EVENTS, <long>(left * 1e9) if left > 0 else 0)
            if n >= 0 or errno != ENOSYS:
                return n
            self.coarse = True
        elif self.resting:
            timeout_ms = 1
        if alone():
            return epoll_wait(self.epfd, events, MAX_EVENTS, timeout_ms)
        with nogil:
            n = epoll_wait(self.epfd, events, MAX_EVENTS, timeout_ms)
        return n

    cdef int emit_run(self, const char *data, size_t n) except -1:
        """Add input bytes to what will be delivered; not copied while they continue the run."""
        if self.run_len:
            if self.run + self.run_len == data:
                self.run_len += n
                return 0
            self.settle()
        self.run = data
        self.run_len = n
        return 0

    cdef int settle(self) except -1:
        cdef size_t n = self.run_len
        self.run_len = 0
        return self.grow_stage(self.run, n)

    cdef int grow_stage(self, const char *data, size_t n) except -1:
        cdef size_t cap
        cdef char *p
        if self.stage_len + n > self.stage_cap:
            cap = self.stage_cap * 2
            while cap < self.stage_len + n:
                cap *= 2
            p = <char *>realloc(self.stage, cap)
            if p == NULL:
                raise MemoryError()
            self.stage = p
            self.stage_cap = cap
        memcpy(self.stage + self.stage_len, data, n)
        self.stage_len += n
        return 0

    cdef int emit(self, const char *data, size_t n) except -1:
        """Add bytes of our own making to what will be delivered."""
        if self.run_len:
            self.settle()
        return self.grow_stage(data, n)

    cdef int deliver(self, Stream target) except -1:
        """Send the target's unsent bytes, the stage and the run, in this order; keep what the kernel refuses.

        A peer that is gone makes the target `broken` and runs it again in this turn; nothing is raised.
        """
        cdef iovec iov[3]
        cdef msghdr msg
        cdef int count = 0, at = 0
        cdef ssize_t sent
        cdef size_t out_len = target.out_tail - target.out_head
        cdef bytes records
        if target.closed or target.broken:
            self.stage_len = self.run_len = 0
            return 0
        if target.tls is not None and self.stage_len + self.run_len:
            if self.stage_len and self.run_len and self.stage_len + self.run_len <= ONE_RECORD:
                self.settle()
            records = target.tls.seal(self.stage, self.stage_len, self.run, self.run_len)
            self.stage_len = 0
            self.run = <const char *>records
            self.run_len = len(records)
        if target.blocked or (target.fd < 0 and self.sink is None):
            target.keep(self.stage, self.stage_len)
            target.keep(self.run, self.run_len)
            self.stage_len = self.run_len = 0
            return 0
        if out_len:
            iov[0].iov_base = target.out + target.out_head
            iov[0].iov_len = out_len
            count = 1
        if self.stage_len:
            iov[count].iov_base = self.stage
            iov[count].iov_len = self.stage_len
            count += 1
        if self.run_len:
            iov[count].iov_base = <void *>self.run
            iov[count].iov_len = self.run_len
            count += 1
        if count == 0:
            return 0
        while True:
            if target.fd < 0:
                pieces = [(<char *>iov[at].iov_base)[:iov[at].iov_len] for at in range(count)]
                sent = self.sink(target, b"".join(pieces))
                break
            if count == 1:
                sent = send(target.fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL | MSG_DONTWAIT)
            else:
                msg.msg_name = NULL
                msg.msg_namelen = 0
                msg.msg_control = NULL
                msg.msg_controllen = 0
                msg.msg_flags = 0
                msg.msg_iov = iov
                msg.msg_iovlen = count
                sent = sendmsg(target.fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT)
            if sent >= 0 or errno != EINTR:
                break
        if sent < 0:
            if errno != EAGAIN:
                target.broken = True
                self.stage_len = self.run_len = 0
                return self.again(target)
            sent = 0
        if <size_t>sent >= out_len:
            sent -= out_len
            target.out_head = target.out_tail = 0
            if target.out_cap:
                self.buffered -= target.out_cap
                self.buffers -= 1
                free(target.out)
                target.out = NULL
                target.out_cap = 0
        else:
            target.out_head += sent
            sent = 0
        if <size_t>sent < self.stage_len:
            target.keep(self.stage + sent, self.stage_len - sent)
            sent = 0
        else:
            sent -= self.stage_len
        if <size_t>sent < self.run_len:
            target.keep(self.run + sent, self.run_len - sent)
        self.stage_len = self.run_len = 0
        if self.stage_cap > 1024 * 1024 and not self.lent:
            self.shrink_stage()
        if target.out_tail > target.out_head:
            target.blocked = True
            target.watch(EPOLLIN | EPOLLOUT)
        return 0

    cdef int shrink_stage(self) except -1:
        cdef char *p = <char *>realloc(self.stage, 16384)
        if p != NULL:
            self.stage = p
            self.stage_cap = 16384
        return 0

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
        self.judging = 0
        self.judged_enough = bool(self.unfinished)
        for i in range(n if n > 1 else 0):
            slot = self.slots[<int><uint32_t>events[i].data.u64]
            if slot is not None and (<Stream>slot).first:
                self.serve(&events[i])
                events[i].events = 0
        for i in range(n):
            if events[i].events:
                self.serve(&events[i])
        if self.resting:
            self.wake_rested()
        if self.newcomers:
            serve_newcomers(self)
        if self.handshakes:
            shake_hands(self)
        if self.ready:
            ready = self.ready
            self.ready = []
            for slot in ready:
                s = <Stream>slot
                s.queued = False
                try:
                    s.on_ready()
                except Exception as error:
                    self.failed(s, error)
        if self.unfinished:
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
            if s.newcomer:
                return defer(s, event.events)
            try:
                s.on_event(event.events)
            except Exception as error:
                self.failed(s, error)
        return 0

    def report(self, s, error):
        """Tell of an exception that nobody expected; `s`: the stream that was served, or what else was being done."""
        if self.on_bug is not None:
            try:
                self.on_bug(s, error)
            except Exception:
                return              # no memory for that, either

    cdef int failed(self, Stream s, error) except -1:
        """A bug, or no memory: what that costs is the kind of stream's to say, and never the process."""
        self.report(s, error)
        try:
            s.on_bug()
        except Exception as again:
            self.report(s, again)
            if not s.closed:
                s.detach()
        if not s.closed and not isinstance(s, Service):
            s.detach()
        return 0

    def run_once(self, int timeout_ms):
        """One turn of the loop (for tests and tools)."""
        self.turn(timeout_ms)
