"""What becomes of a logged-in server's bytes: matched against the plan, then passed in bulk, swallowed or noted.

Data rows are the common case and are only measured. Every other message type is checked against the front of
the plan; one that nothing asked for means that we and the server no longer agree where we are, and the server
is closed before it can mislead anybody.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcmp

from pgferry.engine.core.enums cimport (
    COPY_BOTH, COPY_IN, MODE_STATEMENT, P_BARRIER, P_INTERNAL, P_LOOKUP, P_PROBE, P_START_VALUES, P_VARS,
)
from pgferry.engine.core.model cimport Client, Pool, Server
from pgferry.engine.core.plan cimport (
    F_CLIENT_OP, F_FAKE, F_IN_COPY, F_NOTED, F_SERVER_OP, F_SWALLOW, K_BIND, K_CLOSE, K_COPY_END, K_DESCRIBE_P,
    K_DESCRIBE_S, K_EXECUTE, K_PARSE, K_QUERY, K_SYNC, SHOWS, Entry, Note,
)
from pgferry.engine.io.stream cimport PAUSE_PEER, PAUSE_STALL, PAUSE_TURN, PAUSE_WAIT
from pgferry.engine.io.sys cimport be32
from pgferry.engine.io.turn_share cimport end_turn, turn_over
from pgferry.engine.server.errors cimport on_error
from pgferry.engine.server.shapes cimport compare_shape
from pgferry.engine.session.answers cimport advance, advance_later, settle
from pgferry.engine.session.catalog cimport end_defining
from pgferry.engine.session.command_tags cimport look_at_tag
from pgferry.engine.session.ensure cimport ensured
from pgferry.engine.session.notifications cimport hold_ready
from pgferry.engine.session.parse_settings cimport settings_shown
from pgferry.engine.session.pending_effects cimport complete_standalone
from pgferry.engine.session.permit cimport reset_in_session
from pgferry.engine.session.probe cimport settle_standalone
from pgferry.engine.session.replay cimport settle_reported
from pgferry.engine.session.watching cimport slow_transaction
from pgferry.engine.shared.times cimport TIME_QUERY, TIME_XACT, record
from pgferry.engine.wire.backend cimport always_short, may_reset, must_be_whole
from pgferry.engine.wire.messages cimport parameter_status

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
    cdef int verdict, messages = 0
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
            return lost(s, n, "bad packet header")
        total = <size_t>length + 1
        k = min(total, n - pos)
        front = s.plan.front()
        if kind == b"D" or kind == b"d":
            used = data_message(s, front, p + pos, n - pos, total)
        elif k < total and total <= WHOLE and (must_be_whole(kind) or is_described(front)):
            s.needs(total)
            break
        elif total > WHOLE and always_short(kind):
            return lost(s, n, f"message {chr(<uint8_t>kind)!r} of {total} bytes")
        else:
            s.relay.more_follows(pos + total < n)
            verdict = dispatch(s, front, kind, p + pos, k, total)
            if verdict < 0:
                return n                    # the server is closed
            # 2: consumed, and staged already if it was to be
            used = total if verdict == 2 else begin_message(s, verdict == 1, p + pos, k, total)
        if used <= 0:
            break
        pos += used
    advance_if_due(s)
    if s.closed:
        return n
    if c is not None and s.client is c:
        c.pool.stats.sent += pos
        after_feed(s, c, n, pos == n, held)
    elif (pos < n and s.client is None and s.plan.head == s.plan.tail and p[pos] != b"A" and not s.internal
            and not s.paused & PAUSE_TURN):
        return lost(s, n, "half a message that nothing asked for")
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
        return lost(s, -1, "data that nothing asked for")
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


cdef inline bint is_described(Entry *front) noexcept:
    """Whether the answer tells the columns of a statement with a name."""
    return front != NULL and front.kind == K_DESCRIBE_S and front.number != 0


cdef ssize_t lost(Server s, ssize_t n, str what) except -2:
    """The server said something that has no place here: it is closed, its client told. Returns n."""
    s.pool.engine.log_about(s, "WARNING", f"server out of step: {what}")
    if s.client is not None:
        s.client.flush()        # what came before is an answer all the same
    s.fail("server out of step: " + what, "server conn crashed?")
    return n


cdef int dispatch(Server s, Entry *front, char kind, const char *p, size_t n, size_t total) except? -1:
    """What to do with a message: 1 forward, 0 drop, 2 dealt with, negative: the server is closed."""
    if kind == b"Z":
        return on_ready_for_query(s, front, p, total)
    if kind == b"E":
        return on_error(s, front, p, n, total)
    if kind == b"S":
        return on_parameter(s, front, p, n, total)
    if kind == b"N":
        return on_notice(s, front)
    if kind == b"A":
        return on_notification(s, p, n, total)
    if front == NULL:
        lost(s, n, f"message {chr(<uint8_t>kind)!r} that nothing asked for")
        return -2
    if kind == b"C":
        if front.number == P_VARS and front.kind == K_QUERY and front.flags & F_SWALLOW:
            # one of the SETs of replay_state(): only the end of the Query says anything
            return 0
        if front.number == P_PROBE and front.kind == K_QUERY and front.flags & F_SWALLOW:
            return s.probe.count_rows(p + 5, n - 5)         # 0: nothing of it is forwarded
        return on_complete(s, front, p, n, total)
    if front.kind == K_QUERY and front.number == P_LOOKUP and front.flags & F_SWALLOW and (
            kind == b"1" or kind == b"2" or kind == b"s"):
        return 0
    if kind == b"1":
        return answered(s, front, front.kind == K_PARSE and not front.flags & F_FAKE, kind)
    if kind == b"2":
        return answered(s, front, front.kind == K_BIND, kind)
    if kind == b"3":
        return answered(s, front, front.kind == K_CLOSE and not front.flags & F_FAKE, kind)
    if kind == b"T" or kind == b"n":
        if is_described(front):
            compare_shape(s, front, p, n, total)
        if front.kind == K_DESCRIBE_P or front.kind == K_DESCRIBE_S:
            return answered(s, front, True, kind)
        if kind == b"T" and front.kind == K_QUERY:
            return not front.flags & F_SWALLOW and not s.injected.in_own_result
    elif kind == b"I" or kind == b"s":
        if front.kind == K_EXECUTE:
            return answered(s, front, True, kind)
        if kind == b"I" and front.kind == K_QUERY:
            if front.flags & F_SWALLOW and front.number == P_BARRIER:
                s.relay.barrier_is_needed(False)       # from here on the server answers what it was asked
            return not front.flags & F_SWALLOW
    elif kind == b"t":
        if front.kind == K_DESCRIBE_S:
            s.injected.describe(p[5:n] if n == total and front.number else None)
            return not front.flags & F_SWALLOW
    elif kind == b"G" or kind == b"W":
        if front.kind == K_EXECUTE or front.kind == K_QUERY:
            return on_copy_in(s, front, COPY_BOTH if kind == b"W" else COPY_IN)
    elif kind == b"H" or kind == b"c":
        if front.kind == K_EXECUTE or front.kind == K_QUERY:
            return not front.flags & F_SWALLOW
    elif kind == b"V":
        if front.kind == K_QUERY:
            return not front.flags & F_SWALLOW
    lost(s, n, f"message {chr(<uint8_t>kind)!r} is no answer to what was asked")
    return -2


# --- the plan ---------------------------------------------------------------------------------------------------

cdef int answered(Server s, Entry *front, bint fits, char kind) except? -1:
    """The front entry is answered in full."""
    cdef bint swallow
    if not fits:
        lost(s, 0, f"message {chr(<uint8_t>kind)!r} is no answer to what was asked")
        return -2
    swallow = front.flags & F_SWALLOW
    if front.flags & F_CLIENT_OP:
        settle(s.client)
    if front.kind == K_CLOSE and front.flags & F_SERVER_OP:
        s.prepared.closed(front.number)
    elif front.flags & F_NOTED:
        ensured(s, s.plan.front_note(), True)
    s.plan.pop()
    advance_later(s)
    return not swallow


cdef int on_ready_for_query(Server s, Entry *front, const char *p, size_t total) except? -1:
    cdef Client c = s.client
    cdef bint swallow
    cdef uint32_t purpose
    cdef Note note
    cdef char status = p[5] if total == 6 else 0
    if status != b"I" and status != b"T" and status != b"E":
        lost(s, 0, "ReadyForQuery without a status")
        return -2
    if front == NULL:
        if not s.relay.barrier_needed:
            lost(s, 0, "ReadyForQuery that nothing asked for")
            return -2
        s.relay.skips(False)      # a Sync that had been taken for one read in copy mode (see on_copy_in)
        s.on_ready_status(status, True)
        return 1 if c is not None else 0
    if front.kind != K_QUERY and front.kind != K_SYNC:
        lost(s, 0, "ReadyForQuery before all is answered")
        return -2
    swallow = front.flags & F_SWALLOW
    purpose = front.number
    note = s.plan.front_note()
    if swallow and purpose == P_BARRIER and s.relay.barrier_needed:
        return 0                    # still an answer from before the barrier
    if front.flags & F_CLIENT_OP:
        settle(c)
    s.plan.pop()
    s.relay.end_copy()
    s.on_ready_status(status, s.plan.head == s.plan.tail or nothing_asked(s))
    if s.unsure.ddl and s.plan.head == s.plan.tail:
        end_defining(s)
    advance_later(s)
    if s.current.standalone_set is not None and not swallow and c is not None:
        settle_standalone(c, s, status)
    if status == b"I":
        s.current.end_transaction()
        if s.status:
            s.plan.begin_batch()        # it was a Query that has ended a batch
    if s.injected.own_after is not None and s.plan.head == s.plan.tail:
        s.injected.end_own()
    if s.injected.start_values_sql is not None and c is not None:
        if swallow:
            if purpose == P_START_VALUES:
                s.injected.end_start_values()
        elif s.plan.head == s.plan.tail:
            tell_start_values(c, s, status)
    if swallow:
        return own_is_answered(s, purpose, note)
    return client_is_answered(s, c, status) if c is not None else 1


cdef int own_is_answered(Server s, uint32_t purpose, Note note) except? -1:
    """ReadyForQuery behind a query of pgferry's own: 0, or -2 when the server is closed."""
    if (s.relay.more and s.plan.head == s.plan.tail and purpose != P_VARS and purpose != P_PROBE
            and purpose != P_INTERNAL):
        lost(s, 0, "more than the answer to a query of pgferry's own")
        return -2
    failed = s.injected.take_error()
    if note is not None:
        ensured(s, note, failed is None)
    s.own_query_done(purpose, failed)
    return -2 if s.closed else 0


cdef inline int client_is_answered(Server s, Client c, char status) except? -1:
    """ReadyForQuery that the client is to get: 1, or 0 when it gets it later, or an error in its place."""
    c.turns_here += 1
    s.injected.end_turn()
    if s.status:
        count_times(s, c, status)
        if s.current.notify_barrier and status == b"I" and s.plan.head == s.plan.tail:
            s.current.pass_barrier()
            return not hold_ready(c)
        if status != b"I" and s.pool.settings.mode == MODE_STATEMENT:
            return 0                    # the error of finish_turn() takes its place
    return 1


cdef int tell_start_values(Client c, Server s, char status) except -1:
    """A RESET has succeeded: as PostgreSQL would, tell which reported parameters are back at their start values."""
    cdef list vars = list(c.vars)
    cdef bytes message
    if status == b"E":
        s.injected.end_start_values()
        return 0
    for index in s.injected.start_values_tracked:
        if vars[index] != c.tracker.start_vars[index]:
            vars[index] = c.tracker.start_vars[index]
            message = parameter_status(s.pool.engine.parameters.names[index].encode(), vars[index])
            s.loop.out.emit(<const char *>message, len(message))
    c.vars_are(s.pool.engine.same_vars(tuple(vars)))
    return 0


cdef bint nothing_asked(Server s) noexcept:
    """Whether the server has been asked for nothing of what the plan still holds."""
    cdef uint32_t i
    for i in range(s.plan.size()):
        if not (s.plan.at(i).flags & F_FAKE or s.plan.at(i).kind == K_COPY_END):
            return False
    return True


cdef int count_times(Server s, Client c, char status) except -1:
    """A query (and, with status I, a transaction) is over."""
    cdef Pool pool = c.pool
    cdef double now = s.loop.now, took
    s.turn_began()
    if c.times.query_start:
        took = now - c.times.query_start
        pool.stats.query_time += took
        record(pool.times.counts[TIME_QUERY], took)
        c.end_request()
    if status == b"I" and c.times.xact_start:
        took = now - c.times.xact_start
        pool.stats.xact_time += took
        record(pool.times.counts[TIME_XACT], took)
        if pool.settings.slow_after > 0 and took > pool.settings.slow_after:
            slow_transaction(c, took)
        c.end_transaction()
    return 0


cdef int on_parameter(Server s, Entry *front, const char *p, size_t n, size_t total) except? -1:
    """ParameterStatus: remembered for the server, and for the client it is forwarded to."""
    cdef Client c = s.client
    cdef const char *nul = <const char *>memchr(p + 5, 0, n - 5)
    cdef bytes name, value
    cdef bint own = front != NULL and front.flags & F_SWALLOW
    if n != total or nul == NULL or memchr(nul + 1, 0, p + n - nul - 1) == NULL:
        lost(s, n, "broken ParameterStatus")
        return -2
    if s.internal:
        return 0
    if c is None and not own:
        s.close("idle server got dirty")
        return -2
    name = p[5:nul - p]
    value = nul + 1
    index = s.pool.engine.index_of(name)
    if own and index is not None and s.replay.restore is not None:
        if s.replay.takes_report(index, value):
            return 0
        settle_reported(s)
    if index is not None and index < len(s.vars):
        vars = s.pool.engine.same_vars(s.vars[:index] + (value,) + s.vars[index + 1:])
        if (s.injected.start_values_sql is not None and not own and s.plan.size() == 1
                and index in s.injected.start_values_tracked):
            s.vars_are(vars)
            return 0            # not the last word, see tell_start_values()
        if c is not None and not own and c.tracks_state and s.login_parameters.version >= 14 and c.vars[index] == value:
            s.vars_are(vars)
            return 0            # told before; that this server was at another value is not the client's business
        if c is not None and not own:
            c.vars_are(vars if c.vars is s.vars else c.vars[:index] + (value,) + c.vars[index + 1:])
        s.vars_are(vars)
    if own and c is not None and c.session and front.number == P_START_VALUES:
        c.vars_are(s.vars)      # it knows the value that its RESET has led to
        return 1
    return 0 if own else 1


cdef int on_notice(Server s, Entry *front) except? -1:
    if s.internal:
        return 0
    if s.client is None and (front == NULL or not front.flags & F_SWALLOW):
        s.close("idle server got dirty")
        return -2
    return front == NULL or not front.flags & F_SWALLOW


cdef int on_notification(Server s, const char *p, size_t n, size_t total) except? -1:
    """In session mode a notification is the client's; else it may be meant for an earlier client of this server."""
    if s.client is not None and s.client.session:
        return with_own_pid(s, p, n, total)
    if s.internal:
        if n != total:
            lost(s, n, "broken NotificationResponse")
            return -2
        s.job.notified(s, p, n)
        return 0
    if s.client is None or s.client.tracks_state:
        return 0                    # clients get theirs from the database's listening connection
    if not s.relay.warned_of_drop:
        s.relay.drop_is_logged()      # once for each server: a busy channel must not fill the log
        s.pool.engine.log_about(s, "WARNING", "notification dropped: LISTEN works in session pooling mode only")
    return 0


cdef int with_own_pid(Server s, const char *p, size_t n, size_t total) except? -1:
    """Forward a notification; one that its client has sent comes from the process id that it knows as its own."""
    cdef bytes own = s.ends.cancel_key
    cdef bytes known = s.client.peer.cancel_key
    if n != total or n < 9 or own is None or known is None or memcmp(p + 5, <const char *>own, 4) != 0:
        return 1
    s.loop.out.emit(p, 5)
    s.loop.out.emit(<const char *>known, 4)
    s.loop.out.emit(p + 9, n - 9)
    return 2


cdef int on_copy_in(Server s, Entry *front, uint8_t how) except? -1:
    """CopyInResponse, CopyBothResponse. PostgreSQL will read and drop Syncs already sent, up to the end of the data."""
    cdef uint32_t i
    cdef Entry *entry
    if front.flags & F_SWALLOW:
        lost(s, 0, "COPY in a query of pgferry's own")
        return -2
    s.relay.begin_copy(how)
    for i in range(s.plan.size()):
        entry = s.plan.at(i)
        if entry.kind == K_COPY_END:
            s.relay.client_ends_copy()
            break
        if entry.kind == K_SYNC:
            entry.flags |= F_IN_COPY
    return 1


cdef int on_complete(Server s, Entry *front, const char *p, size_t n, size_t total) except? -1:
    """CommandComplete: ends an Execute; some tags tell that prepared statements or types have changed."""
    cdef const char *tag = p + 5
    if front.kind != K_EXECUTE and front.kind != K_QUERY:
        lost(s, n, "CommandComplete is no answer to what was asked")
        return -2
    if s.current.standalone_set is not None and not front.flags & F_SWALLOW:
        complete_standalone(s, front.kind == K_QUERY, tag)
    if n > 7 and p[n - 1] == 0 and (tag[0] == b"D" or tag[0] == b"A" or tag[0] == b"C"):
        look_at_tag(s, tag, front.flags & F_SWALLOW)
    if (s.client is not None and s.client.session and not front.flags & F_SWALLOW
            and may_reset(tag, s.client.tracker.to_default)):
        reset_in_session(s.client, s)
    if s.relay.copy_in:
        s.relay.end_stream()
        s.plan.drop_syncs_in_copy()
    if front.kind == K_EXECUTE:
        if front.flags & F_SWALLOW and front.number == SHOWS and not settings_shown(s):
            lost(s, n, "settings that were asked for are missing")
            return -2
        return answered(s, front, True, b"C")
    if front.flags & F_SWALLOW:
        return 0
    return s.injected.own_after is None or s.plan.size() != 1 or not s.injected.ends_own()
