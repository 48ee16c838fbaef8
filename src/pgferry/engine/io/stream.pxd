# One connected socket: readiness, unsent bytes, unfinished input; and what the event loop offers to such streams.
from libc.stdint cimport uint32_t, uint64_t

from pgferry.engine.io.buffer cimport InBuffer, Memory, OutBuffer
from pgferry.engine.io.output cimport Output
from pgferry.engine.io.tls cimport Channel, Tls


cpdef enum Pause:
    # Why a stream's input is left in the kernel; a stream is read only when no bit is set.
    PAUSE_PEER = 1    # the other side has unsent bytes
    PAUSE_WAIT = 2    # a client without a server, or in a login step that needs somebody else
    PAUSE_STALL = 4   # an earlier batch must be answered before the next message can be understood
    PAUSE_CLOSE = 8   # only the unsent bytes matter any more
    PAUSE_BULK = 16   # throttled: a long result, of which the kernel is to collect more before the next receive
    PAUSE_TURN = 32   # its share of the turn is used up (see turn_share)
    PAUSE_NEWS = 64   # a client for which the listening connection has to answer first (see notification_listener)


cdef class TurnShare:
    # What one stream may take of the present turn of the loop; see turn_share.
    cdef list unfinished            # streams with PAUSE_TURN
    cdef Stream timed               # the stream whose share ends at timed_until
    cdef uint64_t timed_turn        # the turn in which it began
    cdef double timed_until         # monotonic
    cdef double classifying             # seconds that verdicts have taken in this part of the turn
    cdef bint classified_enough         # no verdict that is not known yet any more

    cdef inline bint used_up(self, Stream s, double now, double share) noexcept:
        # Whether the stream has used up its share of the turn, which begins with the first look at the clock in it.
        if self.timed is not s or self.timed_turn != s.loop.turns:
            self.timed = s
            self.timed_turn = s.loop.turns
            self.timed_until = now + share
            return False
        return now >= self.timed_until

    cdef inline int begin_anew(self) noexcept:
        # Whoever comes next has a whole share.
        self.timed = None
        return 0

    cdef inline int begin_part(self, bint classified_enough) noexcept:
        # A part of the turn begins, with a share of its own for verdicts; or with none.
        self.classifying = 0
        self.classified_enough = classified_enough
        return 0

    cdef inline int classified_for(self, double seconds, double share) noexcept:
        # A verdict has taken so long.
        self.classifying += seconds
        if self.classifying >= share:
            self.classified_enough = True
        return 0


cdef class Reactor:
    cdef int epfd
    cdef list slots                 # by descriptor: the stream registered with it
    cdef uint32_t generation
    cdef list ready                 # streams to run again in this turn, whatever epoll says
    cdef list handshakes            # streams whose TLS handshake can go on
    cdef list unauthenticated       # streams with deferred_events
    cdef TurnShare share
    cdef Channel channel            # for TLS; None until it is needed
    cdef int[2] pipe                # of splice; -1: none
    cdef char *rbuf                 # the one receive buffer
    cdef size_t rbuf_cap
    cdef readonly Output out
    cdef readonly Memory memory
    cdef readonly double now        # monotonic seconds, read once a turn
    cdef readonly uint64_t turns
    cdef public int rounds          # sbuf_loopcnt: receive rounds for one stream in a turn, 0 = no limit
    cdef readonly bint stopping
    cdef public object sink         # takes sink(stream, bytes) -> how many for streams without a socket (tests)
    cdef public object on_bug       # called with (stream, exception) when serving a stream raised

    cdef int again(self, Stream s) except -1
    cdef int throttle(self, Stream s, bint brief) except -1
    cdef int failed(self, Stream s, error) except -1
    cdef Channel tls_channel(self)

    cdef inline int tell_bugs(self, object on_bug) noexcept:
        # Who is told of exceptions that nobody expected.
        self.on_bug = on_bug
        return 0

    cdef inline int stop(self) noexcept:
        # The present turn is the last one.
        self.stopping = True
        return 0


cdef class Stream:
    cdef readonly Reactor loop
    cdef readonly int fd            # -1: none (closed, or driven by a test)
    cdef uint32_t generation        # guards against events of a former owner of the descriptor
    cdef uint32_t interest          # epoll events asked for
    cdef uint32_t edge              # EPOLLET, or 0 for a level-triggered stream
    cdef readonly bint closed
    cdef bint broken                # a send failed: the peer is gone
    cdef readonly int paused        # Pause bits
    cdef bint readable              # unread bytes may wait in the kernel although no edge will come for them
    cdef bint ending                # the kernel has told that the stream ends behind what is unread
    cdef bint queued                # is in loop.ready
    cdef bint priority              # served before the others of a turn: an idle server, which may have died
    cdef bint unauthenticated       # a client that has not logged in: its events are deferred
    cdef uint32_t deferred_events   # those that wait for its turn, see unauthenticated
    cdef double throttled_until     # while PAUSE_BULK: monotonic seconds
    cdef bint epollin_off           # read by the clock as long as one throttling follows the other
    cdef bint short_read            # of the next receive: see splice
    cdef OutBuffer unsent_bytes
    cdef bint blocked               # the kernel's buffer was full, EPOLLOUT will tell
    cdef InBuffer held
    cdef size_t need                # feed() can do nothing before so many bytes are there
    cdef readonly Tls tls           # None: plain. With it unsent_bytes are records, everything else plain bytes
    # Neighbours in the one StreamList it is in.
    cdef Stream prev
    cdef Stream next
    cdef StreamList home

    cdef int attach(self, int fd, uint32_t events) except -1
    cdef int watch(self, uint32_t events) except -1
    cdef int detach(self) except -1
    cdef int pause(self, int why) except -1
    cdef int unpause(self, int why) except -1
    cdef int end_throttling(self) except -1
    cdef int put(self, const char *data, size_t n) except -1
    cdef int put_raw(self, const char *data, size_t n) except -1
    cdef int unload(self, bint own) except -1
    cdef int consume(self, char *data, size_t n) except -1
    cdef char *space(self, size_t *room) except NULL
    cdef int taken(self, size_t n) except -1
    cdef int receive(self) except -1
    cdef int receive_records(self) except -1
    cdef int send_reply(self) except -1
    cdef int say_goodbye(self) except -1
    cdef int wait_for_handshake(self) except -1
    cdef size_t inject(self, const char *data, size_t n) except? 0
    # What a kind of stream does; the loop calls these.
    cdef int on_event(self, uint32_t events) except -1
    cdef int on_ready(self) except -1
    cdef ssize_t feed(self, const char *data, size_t n) except -1
    cdef int on_eof(self) except -1
    cdef int on_hangup(self) except -1
    cdef int on_drained(self) except -1
    cdef int on_secure(self) except -1
    cdef int on_bug(self) except -1

    cdef inline int needs(self, size_t n) noexcept:
        """feed() is called again when so many bytes are there."""
        self.need = n
        return 0

    cdef inline int lost_connection(self) noexcept:
        """Nothing more can be sent or received."""
        self.broken = True
        return 0

    cdef inline int is_refused(self) noexcept:
        """The kernel takes nothing more now: EPOLLOUT, which is asked for, will tell."""
        self.blocked = True
        return 0

    cdef inline int read_short(self, bint short_read) noexcept:
        self.short_read = short_read
        return 0

    cdef inline int is_unauthenticated(self, bint unauthenticated) noexcept:
        self.unauthenticated = unauthenticated
        return 0

    cdef inline int is_urgent(self, bint priority) noexcept:
        self.priority = priority
        return 0

    cdef inline int speak_tls(self, Tls tls) noexcept:
        """From here on the socket's bytes are records."""
        self.tls = tls
        return 0

    cdef inline bint left_unread(self, bint more) noexcept:
        """Whether bytes may be left in the kernel, or its end, for which no edge will come."""
        self.readable = more or self.ending
        return self.readable

    cdef inline int end_is_told(self) noexcept:
        """The stream ends behind what is unread."""
        self.ending = True
        return 0

    cdef inline int rest(self, double until) noexcept:
        """It is not read before that (monotonic)."""
        self.throttled_until = until
        self.paused |= PAUSE_BULK
        return 0

    cdef inline int end_rest(self) except -1:
        """What has gathered in the kernel meanwhile is read."""
        self.readable = True
        return self.unpause(PAUSE_BULK)

    cdef inline int next_turn(self) noexcept:
        """It goes on where its share of an earlier turn was used up; the caller runs it."""
        self.paused &= ~PAUSE_TURN
        return 0

    cdef inline int taken_from_ready(self) noexcept:
        """It is not in loop.ready any more."""
        self.queued = False
        return 0

    cdef inline bint defer(self, uint32_t events) noexcept:
        """Keep events for its turn among those that log in. Whether they are the first ones."""
        cdef bint first = self.deferred_events == 0
        self.deferred_events |= events
        return first

    cdef inline uint32_t take_deferred(self) noexcept:
        """Its turn has come: the events that were kept."""
        cdef uint32_t events = self.deferred_events
        self.deferred_events = 0
        return events

    cdef inline int forget_input(self) noexcept:
        """Nobody will read what is held."""
        self.held.size = 0
        return 0

    cdef inline int forget_descriptor(self) noexcept:
        """It stays with whoever has given it."""
        self.fd = -1
        return 0

    cdef inline size_t unsent(self) noexcept:
        """Bytes that the kernel has not taken yet."""
        return self.unsent_bytes.tail - self.unsent_bytes.head

    cdef inline int flush(self) except -1:
        """Send the unsent bytes, and behind them what the present feed has collected for this stream.

        What the kernel refuses is kept. A peer that is gone makes the stream `broken` and runs it again in this turn;
        that raises nothing. Raises MemoryError.
        """
        cdef bint own = self.loop.out.owner == <void *>self and not self.loop.out.is_empty()
        if own or (self.unsent() and not self.blocked):
            return self.unload(own)
        return 0


cdef class Service(Stream):
    cdef int failures               # turns in a row that have raised something

    cdef int served(self) noexcept


cdef class StreamList:
    cdef Stream head
    cdef Stream tail
    cdef readonly int count

    cdef int append(self, Stream s) except -1
    cdef int push(self, Stream s) except -1
    cdef int remove(self, Stream s) except -1
