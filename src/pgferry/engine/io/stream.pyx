"""One connected socket: readiness, unsent bytes, unfinished input. Knows sockets, not PostgreSQL.

Every descriptor is registered once, edge-triggered, for input and hang-up; EPOLLOUT is added only while a
send has left bytes behind. With edges, a stream that is paused (or was cut off by the fairness limit) gets no
second event for bytes that already lie in the kernel, so it remembers them in `readable` and is put on the
loop's ready list when it may go on. A receive that returns less than the room it had has emptied the socket:
the next byte, or the end of the stream, makes a new edge. An end that has been told already (`ending`) makes
no other, so such a stream is read until recv() gives it.

With TLS (see tls and handshakes) the socket's bytes are records: receive_records() takes the place of receive(), put()
and flush() turn what is sent into records first.

All input goes through one buffer of the loop. A stream keeps bytes of its own only in two cases: input that
ends within a message (held) and output that the kernel did not take (unsent). An idle connection has neither.
"""


cimport cython
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcpy

from pgferry.engine.io.buffer cimport Memory, enlarge, free_in, free_out, hold, keep_unsent, sent
from pgferry.engine.io.output cimport LARGE_STAGE, Output
from pgferry.engine.io.sys cimport (
    EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP, EPOLL_CTL_ADD, EPOLL_CTL_MOD, MSG_DONTWAIT,
    MSG_NOSIGNAL, close, epoll_ctl, epoll_event, iovec, msghdr, recv, send, sendmsg,
)

cdef enum:
    SHORT_READ = 8192       # bytes
    ONE_RECORD = 16384      # plain bytes of a full TLS record
    MOST_FAILURES = 100     # turns in a row in which a service raises an exception, before the process is given up
    MAX_REPLIES = 1024 * 1024   # unsent bytes of a peer that makes TLS itself answer and does not read


cdef class TurnShare:
    """What one stream may take of the present turn of the loop; see turn_share."""

    def __cinit__(self):
        self.unfinished = []


cdef class Reactor:
    """What the event loop offers to its streams: registration, the buffers that they share, another turn."""

    def __cinit__(self):
        self.slots = []
        self.ready = []
        self.handshakes = []
        self.unauthenticated = []
        self.share = TurnShare()
        self.out = Output()
        self.memory = Memory()
        self.rounds = 5

    cdef int again(self, Stream s) except -1:
        """Run s again within this turn (once, however often asked)."""
        if not s.queued:
            s.queued = True
            self.ready.append(s)
        return 0

    cdef int throttle(self, Stream s, bint brief) except -1:
        """Leave a stream unread for a moment; see Loop."""
        raise NotImplementedError

    cdef Channel tls_channel(self):
        """What the TLS connections share; made when the first of them begins."""
        if self.channel is None:
            self.channel = Channel()
        return self.channel

    def report(self, s, error):
        """Tell of an exception that nobody expected; `s`: the stream that was served, or what else was being done."""
        if self.on_bug is not None:
            try:
                self.on_bug(s, error)
            except Exception:
                return              # no memory for that, either

    cdef int failed(self, Stream s, error) except -1:
        """A bug, or no memory: what that costs is the kind of stream's to say, and never the process."""
        self.out.end()
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


cdef inline ssize_t send_pieces(Stream s, iovec *iov, int count) except -2:
    """One system call for these pieces, 1 at least: bytes sent, or -1 with errno set."""
    cdef msghdr msg
    cdef ssize_t n
    cdef int at
    if s.fd < 0:
        pieces = [(<char *>iov[at].iov_base)[:iov[at].iov_len] for at in range(count)]
        return s.loop.sink(s, b"".join(pieces))
    while True:
        if count == 1:
            n = send(s.fd, iov[0].iov_base, iov[0].iov_len, MSG_NOSIGNAL | MSG_DONTWAIT)
        else:
            msg.msg_name = NULL
            msg.msg_namelen = 0
            msg.msg_control = NULL
            msg.msg_controllen = 0
            msg.msg_flags = 0
            msg.msg_iov = iov
            msg.msg_iovlen = count
            n = sendmsg(s.fd, &msg, MSG_NOSIGNAL | MSG_DONTWAIT)
        if n >= 0 or errno != EINTR:
            return n


cdef class Stream:
    """One connected socket. Subclasses give feed() and the on_ functions their meaning."""

    def __cinit__(self, Reactor loop, *args, **kwargs):
        self.loop = loop
        self.fd = -1
        self.edge = <uint32_t>EPOLLET

    def __dealloc__(self):
        if self.fd >= 0:
            close(self.fd)
        free(self.unsent_bytes.data)
        free(self.held.data)

    cdef int attach(self, int fd, uint32_t events) except -1:
        """Own a non-blocking descriptor and register it for `events` (EPOLLET and EPOLLRDHUP are added).

        It is owned, and closed by detach(), also if this raises OSError or MemoryError.
        """
        cdef epoll_event ev
        cdef Reactor loop = self.loop
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
        self.epollin_off = not events & EPOLLIN
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
            self.say_goodbye()
            self.tls = None
        self.closed = True
        self.fd = -1
        if fd >= 0:
            self.loop.slots[fd] = None
            close(fd)       # also takes it out of the epoll set: descriptors are never shared with others
        free_out(&self.unsent_bytes, self.loop.memory)
        free_in(&self.held, self.loop.memory)
        self.need = 0
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
        self.readable = self.ending = self.epollin_off = self.blocked = self.broken = False
        self.need = 0
        free_out(&self.unsent_bytes, self.loop.memory)
        free_in(&self.held, self.loop.memory)

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

    cdef int end_throttling(self) except -1:
        """End of a bulk phase: events for input again (one comes at once when bytes are there)."""
        if self.epollin_off:
            return self.watch(EPOLLIN)
        return 0

    cdef int put(self, const char *data, size_t n) except -1:
        """Queue bytes behind all that is queued for this stream, without sending. Raises MemoryError."""
        cdef bytes records
        if n == 0 or self.closed:
            return 0
        if self.loop.out.owner == <void *>self and not self.loop.out.is_empty():
            return self.loop.out.emit(data, n)
        if self.tls is None:
            return keep_unsent(&self.unsent_bytes, data, n, self.loop.memory)
        records = self.tls.seal(data, n, NULL, 0)
        return keep_unsent(&self.unsent_bytes, records, len(records), self.loop.memory)

    cdef int put_raw(self, const char *data, size_t n) except -1:
        """Append to the unsent bytes what is to reach the socket as it is. Raises MemoryError."""
        if n == 0 or self.closed:
            return 0
        return keep_unsent(&self.unsent_bytes, data, n, self.loop.memory)

    cdef int unload(self, bint own) except -1:
        """flush(), where there is something to send; `own`: something is collected for it."""
        cdef Output out = self.loop.out
        cdef iovec iov[3]
        cdef int count = 0
        cdef ssize_t n
        cdef size_t left, unsent = self.unsent(), stage_len = out.stage_len if own else 0
        cdef size_t run_len = out.run_len if own else 0
        cdef const char *run = out.run
        cdef bytes records
        if own:
            if self.tls is not None and not self.closed and not self.broken:
                if stage_len and run_len and stage_len + run_len <= ONE_RECORD:
                    out.settle()
                    stage_len, run_len = out.stage_len, 0
                records = self.tls.seal(out.stage, stage_len, run, run_len)
                stage_len = 0
                run = <const char *>records
                run_len = len(records)
            out.clear()         # the memory stays until the feed is over
        if self.closed or self.broken:
            return 0
        if self.blocked or (self.fd < 0 and self.loop.sink is None):
            if stage_len:
                keep_unsent(&self.unsent_bytes, out.stage, stage_len, self.loop.memory)
            if run_len:
                keep_unsent(&self.unsent_bytes, run, run_len, self.loop.memory)
            return 0
        if unsent:
            iov[0].iov_base = self.unsent_bytes.data + self.unsent_bytes.head
            iov[0].iov_len = unsent
            count = 1
        if stage_len:
            iov[count].iov_base = out.stage
            iov[count].iov_len = stage_len
            count += 1
        if run_len:
            iov[count].iov_base = <void *>run
            iov[count].iov_len = run_len
            count += 1
        n = send_pieces(self, iov, count)
        if n < 0:
            if errno != EAGAIN:
                self.broken = True
                return self.loop.again(self)
            n = 0
        if unsent:
            left = min(<size_t>n, unsent)
            sent(&self.unsent_bytes, left, self.loop.memory)
            n -= left
        left = min(<size_t>n, stage_len)
        if left < stage_len:
            keep_unsent(&self.unsent_bytes, out.stage + left, stage_len - left, self.loop.memory)
        n -= left
        if <size_t>n < run_len:
            keep_unsent(&self.unsent_bytes, run + n, run_len - n, self.loop.memory)
        if own and out.stage_cap > LARGE_STAGE:
            out.shrink()
        if self.unsent():
            self.blocked = True
            self.watch(EPOLLIN | EPOLLOUT)
        return 0

    cdef int consume(self, char *data, size_t n) except -1:
        """Give bytes to feed() and keep the rest. `data` is the loop's buffer or self.held."""
        cdef ssize_t used
        self.need = 0
        used = self.feed(data, n)
        self.loop.out.end()
        if self.closed:
            return 0
        if <size_t>used < n:
            hold(&self.held, data + used, n - used, self.loop.memory)
        elif self.held.cap:
            free_in(&self.held, self.loop.memory)
            self.need = 0
        return 0

    @cython.final
    cdef char *space(self, size_t *room) except NULL:
        """Where the next bytes are to be put, behind the held ones: see taken()."""
        cdef Reactor loop = self.loop
        if self.need > loop.rbuf_cap // 2:
            # A message that must be complete and is larger than the common buffer: collect it in its own, which
            # grows with what has really come (the length is only a peer's word).
            if self.held.size == self.held.cap:
                enlarge(&self.held, min(self.need, 2 * self.held.cap), loop.memory)
            room[0] = self.held.cap - self.held.size
            return self.held.data + self.held.size
        room[0] = loop.rbuf_cap - self.held.size
        return loop.rbuf + self.held.size

    @cython.final
    cdef int taken(self, size_t n) except -1:
        """n bytes have been put into space(): feed what there is, unless more must come first."""
        cdef char *buf = self.loop.rbuf
        n += self.held.size
        if self.need > self.loop.rbuf_cap // 2:
            self.held.size = n
            if n < self.need:
                return 0
            buf = self.held.data
        elif self.held.size:
            memcpy(buf, self.held.data, self.held.size)
        self.held.size = 0
        return self.consume(buf, n)

    cdef int receive(self) except -1:
        """Read and feed until the socket is empty, the stream is paused or its share of the turn is used up."""
        cdef Reactor loop = self.loop
        cdef int rounds = loop.rounds
        cdef char *at
        cdef size_t room
        cdef ssize_t n
        if self.tls is not None:
            return self.receive_records()
        while not self.closed and self.paused == 0:
            at = self.space(&room)
            if self.short_read:
                room = min(room, <size_t>SHORT_READ)
            n = recv(self.fd, at, room, MSG_DONTWAIT)
            if n < 0:
                if errno == EINTR:
                    continue
                self.readable = False
                if self.fd < 0:
                    return self.on_eof() if self.ending else 0      # driven by a test
                if errno == EAGAIN:
                    return self.end_throttling()
                return self.on_eof()
            if n == 0:
                self.readable = False
                return self.on_eof()
            self.readable = <size_t>n == room or self.ending
            self.taken(n)
            if self.short_read:
                self.short_read = False
                return loop.again(self)
            if not self.readable:
                return 0
            rounds -= 1
            if rounds == 0 or self.tls is not None:     # TLS: has begun with these bytes
                return loop.again(self)
        return 0

    cdef int receive_records(self) except -1:
        """receive(), of a stream with TLS."""
        cdef Tls tls = self.tls
        cdef int rounds = self.loop.rounds
        cdef char *at
        cdef size_t room
        cdef ssize_t n
        if tls.shaking:
            return self.wait_for_handshake()
        while not self.closed and self.paused == 0:
            at = self.space(&room)
            n = tls.receive(self.fd, at, room)
            if tls.reply is not None:
                self.send_reply()
            if n <= 0:
                self.readable = False
                if tls.ended:
                    self.say_goodbye()      # the answer to the peer's own
                if n == 0 or (self.fd < 0 and self.ending):
                    return self.on_eof()
                return self.end_throttling()
            self.readable = tls.more or self.ending
            self.taken(n)
            if not self.readable:
                return 0
            rounds -= 1
            if rounds == 0:
                return self.loop.again(self)
        return 0

    cdef int send_reply(self) except -1:
        """Send what TLS itself has to say."""
        cdef bytes records = self.tls.take_reply()
        if self.unsent() > MAX_REPLIES:
            self.broken = True
            return self.loop.again(self)
        self.put_raw(records, len(records))
        return self.flush()

    cdef int say_goodbye(self) except -1:
        """close_notify, if it can be sent at once: without it a peer takes the end for a broken connection."""
        cdef bytes record
        if self.fd >= 0 and not self.broken and self.unsent() == 0:
            record = self.tls.goodbye()
            if record:
                send(self.fd, <const char *>record, len(record), MSG_NOSIGNAL | MSG_DONTWAIT)
        return 0

    cdef int wait_for_handshake(self) except -1:
        """The handshake can go on, or begin, when its turn comes."""
        if self.tls.wait_for_turn():
            self.loop.handshakes.append(self)
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
        n = self.held.size
        if n and n >= self.need:
            self.held.size = 0
            self.consume(self.held.data, n)
            if self.closed or self.paused:
                return 0
        if self.readable or self.epollin_off:
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
