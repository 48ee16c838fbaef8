# The event loop and the stream: readiness, unsent bytes, unfinished input. Knows sockets, not PostgreSQL.
from libc.stdint cimport uint32_t, uint64_t

from pgferry.engine.io.sys cimport epoll_event
from pgferry.engine.io.tls cimport Channel, Tls


cpdef enum Pause:
    # Why a stream's input is left in the kernel; a stream is read only when no bit is set.
    PAUSE_PEER = 1    # the other side has unsent bytes
    PAUSE_WAIT = 2    # a client without a server, or in a login step that needs somebody else
    PAUSE_STALL = 4   # an earlier batch must be answered before the next message can be judged
    PAUSE_CLOSE = 8   # only the unsent bytes matter any more
    PAUSE_BULK = 16   # a long result: let the kernel collect more of it before the next receive
    PAUSE_TURN = 32   # its share of the turn is used up: it is in loop.unfinished
    PAUSE_NEWS = 64   # a client for which the listening connection has to answer first (see hub)


cdef class Stream:
    cdef readonly Loop loop
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
    cdef bint first                 # served before the others of a turn: an idle server, which may have died
    cdef bint newcomer              # its events wait in loop.newcomers: a client that has not logged in
    cdef uint32_t came              # those that wait there
    cdef double rest_until          # while PAUSE_BULK: monotonic seconds
    cdef bint muted                 # EPOLLIN is off: read by the clock as long as rests follow each other
    cdef bint sip                   # of the next receive: see splicing
    # Unsent bytes are out[out_head:out_tail]; blocked: the kernel's buffer was full, EPOLLOUT will tell.
    cdef char *out
    cdef size_t out_head
    cdef size_t out_tail
    cdef size_t out_cap
    cdef bint blocked
    # Received and not yet consumed: held[:held_len]; need: feed() can do nothing before so many bytes are there.
    cdef char *held
    cdef size_t held_len
    cdef size_t held_cap
    cdef size_t need
    cdef readonly Tls tls           # None: plain. With it `out` holds records, everything else plain bytes
    # Neighbours in the one StreamList it is in.
    cdef Stream prev
    cdef Stream next
    cdef StreamList home

    cdef int attach(self, int fd, uint32_t events) except -1
    cdef int watch(self, uint32_t events) except -1
    cdef int detach(self) except -1
    cdef int pause(self, int why) except -1
    cdef int unpause(self, int why) except -1
    cdef int unmute(self) except -1
    cdef int put(self, const char *data, size_t n) except -1
    cdef int keep(self, const char *data, size_t n) except -1
    cdef int flush(self) except -1
    cdef int hold(self, const char *data, size_t n) except -1
    cdef int drop_held(self) except -1
    cdef int consume(self, char *data, size_t n) except -1
    cdef int enlarge(self, size_t cap) except -1
    cdef char *space(self, size_t *room) except NULL
    cdef int taken(self, size_t n) except -1
    cdef int receive(self) except -1
    cdef size_t inject(self, const char *data, size_t n) except? 0
    cdef size_t unsent(self) noexcept
    # What a kind of stream does; the loop calls these.
    cdef int on_event(self, uint32_t events) except -1
    cdef int on_ready(self) except -1
    cdef ssize_t feed(self, const char *data, size_t n) except -1
    cdef int on_eof(self) except -1
    cdef int on_hangup(self) except -1
    cdef int on_drained(self) except -1
    cdef int on_secure(self) except -1
    cdef int on_bug(self) except -1


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


cdef class Loop:
    cdef int epfd
    cdef list slots                 # by descriptor: the stream registered with it
    cdef uint32_t generation
    cdef list ready                 # streams to run again in this turn, whatever epoll says
    cdef list resting               # streams with PAUSE_BULK, earliest end first
    cdef object handshakes          # deque of streams whose TLS handshake can go on
    cdef object newcomers           # deque of streams with events that wait: see newcomers
    cdef object unfinished          # deque of streams with PAUSE_TURN: see turns
    cdef Stream timed               # the stream whose share of the present turn ends at timed_until
    cdef uint64_t timed_turn        # that turn
    cdef double timed_until         # monotonic
    cdef double judging             # seconds that verdicts have taken in this part of the turn
    cdef bint judged_enough         # no verdict that is not known yet any more: see turns
    cdef Channel channel            # for TLS; None until it is needed
    cdef bint coarse                # the kernel cannot wait for less than a millisecond
    cdef char *rbuf                 # the one receive buffer
    cdef size_t rbuf_cap
    # What is to be sent to one stream: stage[:stage_len], then run[:run_len] (a piece of the input, not copied).
    cdef char *stage
    cdef size_t stage_len
    cdef size_t stage_cap
    cdef const char *run
    cdef size_t run_len
    cdef bint lent                  # flush() sends: what is in the stage is for another stream, and stays there
    cdef readonly double now        # monotonic seconds, read once a turn
    cdef public int rounds          # sbuf_loopcnt: receive rounds for one stream in a turn, 0 = no limit
    cdef public size_t chunk        # pkt_buf: step in which a connection's own buffers grow, bytes
    cdef readonly size_t buffered   # bytes allocated for connections' own buffers
    cdef readonly int buffers       # how many such buffers
    cdef readonly uint64_t turns
    cdef int[2] pipe                # of splicing; -1: none
    cdef readonly bint stopping
    cdef public object sink         # takes sink(stream, bytes) -> how many for streams without a socket (tests)
    cdef public object on_bug       # called with (stream, exception) when serving a stream raised

    cdef int again(self, Stream s) except -1
    cdef int rest(self, Stream s, bint brief) except -1
    cdef int wake_rested(self) except -1
    cdef int wait(self, epoll_event *events, int timeout_ms) except? -2
    cdef int emit_run(self, const char *data, size_t n) except -1
    cdef int emit(self, const char *data, size_t n) except -1
    cdef int settle(self) except -1
    cdef int grow_stage(self, const char *data, size_t n) except -1
    cdef int shrink_stage(self) except -1
    cdef int deliver(self, Stream target) except -1
    cdef int turn(self, int timeout_ms) except -1
    cdef int serve(self, epoll_event *event) except -1
    cdef int failed(self, Stream s, error) except -1
