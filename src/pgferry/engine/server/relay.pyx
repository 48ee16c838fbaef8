"""What becomes of a logged-in server's bytes: rows pass in bulk, other messages as server.dispatch decides.

Data rows and copy data are the common case and are only measured. A message of any size passes in pieces, unless it
must be read as a whole.
"""

from libc.stdint cimport uint8_t, uint32_t

from pgferry.engine.core.enums cimport CLOSED, MODE_STATEMENT, PASS, PUT, P_PROBE, P_START_VALUES
from pgferry.engine.core.model cimport Client, Server
from pgferry.engine.core.plan cimport F_SWALLOW, K_EXECUTE, K_QUERY, SHOWS, Entry
from pgferry.engine.io.stream cimport PAUSE_PEER, PAUSE_STALL, PAUSE_TURN, PAUSE_WAIT
from pgferry.engine.io.sys cimport be32
from pgferry.engine.io.turn_share cimport end_turn, turn_over
from pgferry.engine.server.dispatch cimport dispatch, is_described, lost
from pgferry.engine.session.answers cimport advance
from pgferry.engine.wire.backend cimport always_short, must_be_whole

cdef str NO_BLOCKS = "transaction blocks not allowed in statement pooling mode"

cdef enum:
    SMALL = 4096        # bytes; the chunks of a long result are larger
    LARGE = 65536       # from here on a shorter rest fills the receive buffer
    PATIENCE = 8        # such chunks in a row before the stream gets rests (Loop.rest)
    MOST_PROBED = 4 << 20   # bytes of the answer to a probe,
    MOST_READ = 64 << 20    # to another query of pgferry's own,
    ROW_ITSELF = 100        # counted for each of its rows as well
    WHOLE = 65536       # longer messages pass unread: none of the types looked into gets near it in practice


cdef ssize_t server_feed(Server s, const char *p, size_t n) except -1:
    """Consume what can be consumed of p[:n]; returns how many bytes."""
    cdef Client c = s.client
    cdef Entry *front
    cdef size_t pos = 0, k, total
    cdef ssize_t used
    cdef uint32_t length
    cdef char kind
    cdef int outcome, messages = 0
    cdef bint held = c is not None and is_held(c)
    s.loop.out.begin(c)
    while pos < n:
        advance_if_due(s)
        if s.relay.passing:
            pos += go_on(s, p + pos, n - pos)
            continue
        if n - pos < 5:
            break
        if turn_over(s, &messages):
            end_turn(s)
            break
        kind = p[pos]
        length = be32(p + pos + 1)
        if length < 4 or length > 0x7FFFFFFF:
            lost(s, "bad packet header")
            return n
        total = <size_t>length + 1
        k = min(total, n - pos)
        front = s.plan.front()
        if kind == b"D" or kind == b"d":
            used = data_message(s, front, p + pos, n - pos, total)
        elif k < total and total <= WHOLE and (must_be_whole(kind) or is_described(front)):
            s.needs(total)
            break
        elif total > WHOLE and always_short(kind):
            lost(s, f"message {chr(<uint8_t>kind)!r} of {total} bytes")
            return n
        else:
            s.relay.more_follows(pos + total < n)
            outcome = dispatch(s, front, kind, p + pos, k, total)
            if outcome == CLOSED:
                return n
            used = total if outcome == PUT else begin_message(s, outcome == PASS, p + pos, k, total)
        if used <= 0:
            break
        pos += used
    advance_if_due(s)
    if s.closed:
        return n
    if c is not None and s.client is c:
        c.pool.stats.count_sent(pos)
        after_feed(s, c, n, pos == n, held)
    elif (pos < n and s.client is None and s.plan.head == s.plan.tail and p[pos] != b"A" and not s.internal
            and not s.paused & PAUSE_TURN):
        lost(s, "half a message that nothing asked for")
        return n
    return pos


cdef inline int advance_if_due(Server s) except -1:
    """Give the answers of pgferry's own that are due, unless the server's message is passing."""
    if s.relay.advance_due and s.relay.passing == 0:
        s.relay.advance_is_due(False)
        advance(s, True)
    return 0


cdef inline size_t go_on(Server s, const char *p, size_t n) except? 0:
    """More of the message that is passing: pass it on, or drop it."""
    cdef size_t k = min(s.relay.passing, n)
    if s.relay.passing_on:
        s.loop.out.emit_run(p, k)
    s.relay.passed(k)
    return k


cdef inline ssize_t begin_message(Server s, bint passing_on, const char *p, size_t k, size_t total) except -2:
    """Pass on, or drop, the k bytes of a message that are there; the others follow."""
    if passing_on:
        s.loop.out.emit_run(p, k)
    s.relay.begin_message(passing_on, total - k)
    return k


cdef inline ssize_t data_message(Server s, Entry *front, const char *p, size_t n, size_t total) except -2:
    """A row or copy data, and as many complete ones as follow it. Returns the bytes consumed, 0 when more must come
    first, -1 when the server is closed.
    """
    cdef size_t k
    cdef bint passing_on
    if front == NULL or (front.kind != K_EXECUTE and front.kind != K_QUERY):
        lost(s, "data that nothing asked for")
        return -1
    passing_on = not front.flags & F_SWALLOW and not s.injected.in_own_result
    if not passing_on and s.probe.rows is not None and (
            front.number == SHOWS if front.kind == K_EXECUTE else not s.injected.asking) and room_for_row(
                s, front, total):
        if n < total:
            s.needs(total)
            return 0
        s.probe.keep_row(p + 5, total - 5, total + ROW_ITSELF)
        return total
    k = data_run(p, n)
    if k == 0:
        return begin_message(s, passing_on, p, n, total)
    if passing_on:
        s.loop.out.emit_run(p, k)
    return k


cdef inline int after_feed(Server s, Client c, size_t n, bint all_read, bint held) except -1:
    """Send what the client gets of n received bytes, and see whether its turn is over."""
    c.flush()
    if c.blocked:
        s.pause(PAUSE_PEER)
    if c.paused & PAUSE_STALL:
        c.unpause(PAUSE_STALL)
    if s.injected.start_values_sql is not None and s.status and s.plan.head == s.plan.tail:
        return ask_base(s)
    if s.status and all_read and s.plan.head == s.plan.tail:
        s.relay.count_chunk(False)
        s.end_throttling()
        if not held or s.status != b"I":
            return finish_turn(s, c)       # else what the client was held with comes first, on this server
        return 0
    if n > SMALL:
        s.relay.count_chunk(True)
        if s.relay.bulk_chunks > PATIENCE and s.paused == 0 and not s.short_read:
            return s.loop.throttle(s, n >= LARGE)
        return 0
    s.relay.count_chunk(False)
    return s.end_throttling()


cdef bint room_for_row(Server s, Entry *front, size_t total) except -1:
    """Whether a row of an answer to pgferry itself may be kept; if not, none of that answer is (Probe.rows)."""
    return s.probe.has_room(total, MOST_PROBED if front.number == P_PROBE else MOST_READ)


cdef inline bint is_held(Client c) noexcept:
    """Whether the client has sent what only waits for this server, and not, say, for a notification."""
    return c.paused & PAUSE_STALL or (c.paused & PAUSE_WAIT and (
        c.tracker.proving or (c.server is not None and c.server.last.scrubbing)))


cdef int ask_base(Server s) except -1:
    """The RESET has succeeded: set the client's start values before anything else runs."""
    s.query(s.injected.take_start_values(), P_START_VALUES)
    return s.flush()


cdef inline size_t data_run(const char *p, size_t n) noexcept:
    """How many bytes at p are complete data messages, one behind the other; 0 when the first is incomplete."""
    cdef size_t pos = 0, total
    while n - pos >= 5 and (p[pos] == b"D" or p[pos] == b"d"):
        total = <size_t>be32(p + pos + 1) + 1
        if total < 5 or total > n - pos:
            break
        pos += total
    return pos


cdef int finish_turn(Server s, Client c) except -1:
    """Everything asked for is answered and ReadyForQuery is with the client."""
    if s.status != b"I" and s.pool.settings.mode == MODE_STATEMENT:
        detached(s, c).close(NO_BLOCKS)
        return c.close(NO_BLOCKS, NO_BLOCKS)
    return s.release()


cdef Server detached(Server s, Client c):
    """The server without its client, which is to get an error of its own."""
    c.unlink(s)
    return s
