"""What each message of a server means, by what was asked: forwarded, kept back, noted, or the end of the server.

ANSWERS says what becomes of a message type behind each kind of entry at the front of the plan; a pair that is not in
it means that we and the server no longer agree where we are, and the server is closed before it can mislead anybody.
"""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcmp

from pgferry.engine.core.enums cimport (
    CLOSED, COPY_BOTH, COPY_IN, DROP, MODE_STATEMENT, PUT, P_BARRIER, P_INTERNAL, P_LOOKUP, P_PROBE, P_START_VALUES,
    P_VARS,
)
from pgferry.engine.core.model cimport Client, Pool, Server
from pgferry.engine.core.plan cimport (
    F_CLIENT_OP, F_FAKE, F_IN_COPY, F_NOTED, F_SERVER_OP, F_SWALLOW, K_BIND, K_CLOSE, K_COPY_END, K_DESCRIBE_P,
    K_DESCRIBE_S, K_EXECUTE, K_PARSE, K_QUERY, K_SYNC, SHOWS, Entry, Note,
)
from pgferry.engine.server.errors cimport on_error
from pgferry.engine.server.shapes cimport compare_shape
from pgferry.engine.session.answers cimport advance_later, settle
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
from pgferry.engine.wire.backend cimport may_reset
from pgferry.engine.wire.messages cimport parameter_status

cdef enum:
    NO_ENTRY = 0            # the front of an empty plan, in the place of a Kind
    KINDS = K_COPY_END + 1


cpdef enum Answer:
    # What becomes of a message.
    OUT_OF_STEP = 0     # nobody has asked for it
    FORWARD = 1         # to the client, if that has asked
    ENDS = 2            # the same, and it is all of the answer
    DESCRIBES = 3       # columns, or that there are none: the end of the answer to a Describe
    PARAMETERS = 4      # ParameterDescription
    EMPTY = 5           # EmptyQueryResponse in a Query
    COMPLETES = 6       # CommandComplete
    COPIES = 7          # CopyInResponse, CopyBothResponse
    LOOKS_UP = 8        # parts of the answer to auth_query, which is asked in the extended protocol
    READY = 9
    FAILS = 10          # ErrorResponse
    REPORTS = 11        # ParameterStatus
    NOTICES = 12
    NOTIFIES = 13

ASKED = tuple(range(1, KINDS))
ANYWHERE = (NO_ENTRY, *ASKED)
RUNS = (K_QUERY, K_EXECUTE)
# (message types, behind which kinds of entry, what becomes of them). DataRow and CopyData are here for completeness:
# relay.data_message() passes them on.
ANSWERS = (
    (b"Z", (NO_ENTRY, K_QUERY, K_SYNC), READY),
    (b"E", ANYWHERE, FAILS),
    (b"S", ANYWHERE, REPORTS),
    (b"N", ANYWHERE, NOTICES),
    (b"A", ANYWHERE, NOTIFIES),
    (b"C", RUNS, COMPLETES),
    (b"D", RUNS, FORWARD),
    (b"d", RUNS, FORWARD),
    (b"1", (K_PARSE,), ENDS),
    (b"2", (K_BIND,), ENDS),
    (b"3", (K_CLOSE,), ENDS),
    (b"12s", (K_QUERY,), LOOKS_UP),
    (b"T", (K_QUERY,), FORWARD),
    (b"Tn", (K_DESCRIBE_S, K_DESCRIBE_P), DESCRIBES),
    (b"t", (K_DESCRIBE_S,), PARAMETERS),
    (b"Is", (K_EXECUTE,), ENDS),
    (b"I", (K_QUERY,), EMPTY),
    (b"GW", RUNS, COPIES),
    (b"Hc", RUNS, FORWARD),
    (b"V", (K_QUERY,), FORWARD),
)

ctypedef int (*Handler)(Server s, Entry *front, const char *p, size_t n, size_t total) except? -1
cdef Handler[NOTIFIES + 1] HANDLERS
cdef uint8_t[256][KINDS] TABLE          # ANSWERS, by message type and kind of entry


cdef int dispatch(Server s, Entry *front, char kind, const char *p, size_t n, size_t total) except? -1:
    """Note what a message says, n bytes of which are there, and say whether the client gets it: a Fate."""
    cdef uint8_t answer = TABLE[<uint8_t>kind][NO_ENTRY if front == NULL else front.kind]
    if answer == FORWARD:
        return not front.flags & F_SWALLOW and not s.injected.in_own_result
    return HANDLERS[answer](s, front, p, n, total)


cdef int lost(Server s, str what) except? -1:
    """The server has said something that has no place here: it is closed, its client told."""
    s.pool.engine.log_about(s, "WARNING", f"server out of step: {what}")
    if s.client is not None:
        s.client.flush()        # what came before is an answer all the same
    s.fail("server out of step: " + what, "server conn crashed?")
    return CLOSED


cdef int out_of_step(Server s, Entry *front, const char *p, size_t n, size_t total) except? -1:
    """Nobody has asked for this."""
    why = "that nothing asked for" if front == NULL else "is no answer to what was asked"
    return lost(s, f"message {chr(<uint8_t>p[0])!r} {why}")


cdef int answered(Server s, Entry *front, const char *p, size_t n, size_t total) except? -1:
    """The front entry is answered in full."""
    cdef bint swallow = front.flags & F_SWALLOW
    if front.flags & F_FAKE:
        return out_of_step(s, front, p, n, total)       # the server was not asked
    if front.flags & F_CLIENT_OP:
        settle(s.client)
    if front.kind == K_CLOSE and front.flags & F_SERVER_OP:
        s.prepared.closed(front.number)
    elif front.flags & F_NOTED:
        ensured(s, s.plan.front_note(), True)
    s.plan.pop()
    advance_later(s)
    return not swallow


cdef int on_columns(Server s, Entry *front, const char *p, size_t n, size_t total) except? -1:
    """RowDescription or NoData behind a Describe."""
    if is_described(front):
        compare_shape(s, front, p, n, total)
    return answered(s, front, p, n, total)


cdef int on_parameter_types(Server s, Entry *front, const char *p, size_t n, size_t total) except? -1:
    """ParameterDescription: kept until the columns are there, too."""
    s.injected.describe(p[5:n] if n == total and front.number else None)
    return not front.flags & F_SWALLOW


cdef int on_empty_query(Server s, Entry *front, const char *p, size_t n, size_t total) except? -1:
    """EmptyQueryResponse, to a barrier perhaps: from here on the server answers what it was asked."""
    if front.flags & F_SWALLOW and front.number == P_BARRIER:
        s.relay.barrier_is_needed(False)
    return not front.flags & F_SWALLOW


cdef int on_lookup(Server s, Entry *front, const char *p, size_t n, size_t total) except? -1:
    if front.number == P_LOOKUP and front.flags & F_SWALLOW:
        return DROP
    return out_of_step(s, front, p, n, total)


cdef int on_ready_for_query(Server s, Entry *front, const char *p, size_t n, size_t total) except? -1:
    """ReadyForQuery: ends a Query, a Sync, or a query of pgferry's own."""
    cdef Client c = s.client
    cdef bint swallow
    cdef uint32_t purpose
    cdef Note note
    cdef char status = p[5] if total == 6 else 0
    if status != b"I" and status != b"T" and status != b"E":
        return lost(s, "ReadyForQuery without a status")
    if front == NULL:
        if not s.relay.barrier_needed:
            lost(s, "ReadyForQuery that nothing asked for")
            return CLOSED
        s.relay.skips(False)      # a Sync that had been taken for one read in copy mode (see on_copy)
        s.on_ready_status(status, True)
        return 1 if c is not None else 0
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
        return lost(s, "more than the answer to a query of pgferry's own")
    failed = s.injected.take_error()
    if note is not None:
        ensured(s, note, failed is None)
    s.own_query_done(purpose, failed)
    return CLOSED if s.closed else DROP


cdef inline int client_is_answered(Server s, Client c, char status) except? -1:
    """ReadyForQuery that the client is to get: 1, or 0 when it gets it later, or an error in its place."""
    c.turn_answered()
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
        pool.stats.query_took(took)
        record(pool.times.counts[TIME_QUERY], took)
        c.end_request()
    if status == b"I" and c.times.xact_start:
        took = now - c.times.xact_start
        pool.stats.transaction_took(took)
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
        return lost(s, "broken ParameterStatus")
    if s.internal:
        return 0
    if c is None and not own:
        s.close("idle server got dirty")
        return CLOSED
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


cdef int on_notice(Server s, Entry *front, const char *p, size_t n, size_t total) except? -1:
    if s.internal:
        return 0
    if s.client is None and (front == NULL or not front.flags & F_SWALLOW):
        s.close("idle server got dirty")
        return CLOSED
    return front == NULL or not front.flags & F_SWALLOW


cdef int on_notification(Server s, Entry *front, const char *p, size_t n, size_t total) except? -1:
    """In session mode a notification is the client's; else it may be meant for an earlier client of this server."""
    if s.client is not None and s.client.session:
        return with_own_pid(s, p, n, total)
    if s.internal:
        if n != total:
            lost(s, "broken NotificationResponse")
            return CLOSED
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
    return PUT


cdef int on_copy(Server s, Entry *front, const char *p, size_t n, size_t total) except? -1:
    """CopyInResponse, CopyBothResponse. PostgreSQL will read and drop Syncs already sent, up to the end of the data."""
    cdef uint32_t i
    cdef Entry *entry
    if front.flags & F_SWALLOW:
        return lost(s, "COPY in a query of pgferry's own")
    s.relay.begin_copy(COPY_BOTH if p[0] == b"W" else COPY_IN)
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
    if front.kind == K_QUERY and front.flags & F_SWALLOW:
        if front.number == P_VARS:
            return DROP         # one of the SETs of replay_state(): only the end of the Query says anything
        if front.number == P_PROBE:
            return s.probe.count_rows(tag, n - 5)
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
            lost(s, "settings that were asked for are missing")
            return CLOSED
        return answered(s, front, p, n, total)
    if front.flags & F_SWALLOW:
        return DROP
    return s.injected.own_after is None or s.plan.size() != 1 or not s.injected.ends_own()


cdef int fill() except -1:
    """Make TABLE of ANSWERS."""
    for types, kinds, answer in ANSWERS:
        for kind in kinds:
            for letter in types:
                TABLE[<int>letter][<int>kind] = answer
    return 0


fill()
HANDLERS[<int>OUT_OF_STEP] = out_of_step
HANDLERS[<int>ENDS] = answered
HANDLERS[<int>DESCRIBES] = on_columns
HANDLERS[<int>PARAMETERS] = on_parameter_types
HANDLERS[<int>EMPTY] = on_empty_query
HANDLERS[<int>COMPLETES] = on_complete
HANDLERS[<int>COPIES] = on_copy
HANDLERS[<int>LOOKS_UP] = on_lookup
HANDLERS[<int>READY] = on_ready_for_query
HANDLERS[<int>FAILS] = on_error
HANDLERS[<int>REPORTS] = on_parameter
HANDLERS[<int>NOTICES] = on_notice
HANDLERS[<int>NOTIFIES] = on_notification
