"""Who gets which server: checkout, the way back, waiting, closing.

A server leaves its client in one place, maybe_release(), and only when it is proved clean: ReadyForQuery with
status I was the last thing it said, its plan is empty, no message is half sent or half received. From there it
is reset or tested if its pool asks for that, and make_available() hands it to the oldest waiting client or puts
it among the idle ones. Any server that cannot be proved clean is closed.
"""

from libc.stdint cimport uint32_t

from pgferry.engine.session.announcing cimport announced
from pgferry.engine.session.catalog cimport end_defining, is_overdue, is_ready, keep_up, miss_a_look, look_for_ddl
from pgferry.engine.pool.connecting cimport start_server, want_servers
from pgferry.engine.session.classify cimport count
from pgferry.engine.services.internal_session cimport internal_answered, internal_down
from pgferry.engine.session.notifications cimport flush_inbox, listens, stop_listening
from pgferry.engine.services.auth_query cimport lookup_answered, lookup_lost, next_lookup, start_lookup
from pgferry.engine.io.loop cimport PAUSE_CLOSE, PAUSE_NEWS, PAUSE_PEER, PAUSE_STALL, PAUSE_WAIT, Stream
from pgferry.engine.wire.messages cimport error_message, simple_query
from pgferry.engine.core.model cimport (
    CL_ACTIVE, CL_CLOSING, CL_GONE, CL_IDLE, CL_WAITING, MODE_SESSION, P_ANNOUNCE, P_BARRIER, P_BASE,
    P_CONNECT, P_ENSURE, P_INTERNAL, P_LIMITS, P_LOOKUP, P_PROBE, P_RESET, P_SCRUB, P_START, P_VARS,
    STATE_IGNORE, SV_ACTIVE, SV_BEING_CANCELED, SV_GONE, SV_IDLE, SV_LOGIN, SV_TESTED, SV_USED, Client,
    Engine, Pool, Server,
)
from pgferry.engine.session.permit cimport is_unknown
from pgferry.engine.core.plan cimport F_SERVER_OP, F_SWALLOW, K_CLOSE, K_QUERY
from pgferry.engine.core.statements cimport Statement
from pgferry.engine.session.probe cimport (
    answered_probe, ask, limits_again, pin_reasons, probe_again, scrub, scrubbed, unhold, unpin,
)
from pgferry.engine.services.replication cimport lose_owner, own_login_failed, part_for_good
from pgferry.engine.session.replay cimport bring, brought, not_brought, try_elsewhere
from pgferry.engine.pool.scrubbing cimport (
    begin_scrub, finish_alone, lose_scrubbed, needs_scrub, scrub_answered, scrub_due, scrubs_only,
)
from pgferry.engine.server.login cimport connect_query_done
from pgferry.engine.session.connect_state cimport start_answered
from pgferry.engine.core.session_state cimport taken_off
from pgferry.engine.io.text cimport Text
from pgferry.engine.shared.times cimport TIME_WAIT, record
from pgferry.engine.core.effects cimport CANNOT_ASK, LISTEN
from pgferry.engine.session.unsure cimport forget_unsure, hold, note_outdated
from pgferry.engine.pool.waking cimport place_is_free
from pgferry.engine.ops.watching cimport count_end

cdef double OVERSHOOT = 0.01     # seconds for which a count may be above its limit by chance

cdef enum:
    SCAN_IDLE = 32           # idle servers looked at for one whose parameters match


# --- checkout ---------------------------------------------------------------------------------------------------

cdef Server pick(Pool pool, Client c):
    """The idle server to use: last used first (or round robin).

    Preferred are those that need no scrub, and among them those with the client's parameters and state.
    """
    cdef Server s, found = None
    cdef Stream at
    cdef int n = 0, fit, best = -1
    if pool.db.sequences:
        at = pool.idle.head
        while at is not None:
            s = <Server>at
            if s.last_client == c.id and s.id == c.last_server:
                return s                # it may know the client's sequence values
            at = at.next
    at = pool.idle.head if pool.engine.round_robin else pool.idle.tail
    while at is not None and n < SCAN_IDLE:
        s = <Server>at
        fit = 0 if needs_scrub(c, s) else 2
        if pool.engine.round_robin:
            at = at.next
        else:
            fit += s.vars is c.vars
            at = at.prev
        if fit == 3 and s.kept is c.kept or fit == 2 and pool.engine.round_robin:
            return s
        if fit > best:
            best = fit
            found = s
        n += 1
    return found


cdef bint may_start(Pool pool) except -1:
    return not (pool.engine.paused or pool.db.paused)


cdef bint acquire(Client c) except -1:
    """Link the client to a server now, or queue it. False: queued, or refused and closed."""
    cdef Pool pool = c.pool
    cdef Engine engine = c.engine
    if pool.waiting.count == 0 and pool.idle.count and may_start(pool) and is_ready(pool):
        link(c, pick(pool, c))
        return True
    if engine.shutdown == 1:
        close_client(c, "server shutting down", "server shutting down")
        return False
    if pool.last_login_failed and pool.server_count() == pool.fresh.count and pool.last_error is not None:
        close_client(c, "server login failed", "server login has been failing, cached error: %s "
                     "(server_login_retry)" % pool.last_error[1][:99])
        # Nobody else may be there to try again.
        start_server(pool, True)
        return False
    c.state = CL_WAITING
    c.wait_start = engine.loop.now
    c.wait_notified = False
    c.pause(PAUSE_WAIT)
    pool.waiting.append(c)
    want_servers(pool)
    if not is_ready(pool):
        keep_up(pool.db, engine)
    return c.state == CL_ACTIVE


cdef int link(Client c, Server s) except -1:
    """Give an idle server to a client. Its tracked parameters are set in front of the client's first message."""
    cdef Pool pool = s.pool
    cdef double now = c.loop.now
    cdef str due = None
    cdef bint overdue = False
    cdef bint anew = s.unlisted and s.last_client != c.id       # else what nobody knows of is the client's own
    if s.client is not None or c.server is not None or s.plan.size() or s.status != b"I":
        raise AssertionError("link: the server is not free")
    if c.state == CL_WAITING:
        pool.clients.append(c)
        pool.stats.wait_time += now - c.wait_start
        record(pool.times.counts[TIME_WAIT], now - c.wait_start)
    else:
        pool.times.counts[TIME_WAIT][0] += 1
    pool.active.append(s)
    s.state = SV_ACTIVE
    s.first = False
    s.client = c
    c.server = s
    c.linked_at = now
    c.state = CL_ACTIVE
    c.session = pool.mode == MODE_SESSION
    c.judged = not c.session and pool.session_state != STATE_IGNORE
    c.tracking = c.judged or not c.session and (pool.engine.max_prepared > 0 or c.statements is not None)
    if c.judged:
        if is_overdue(pool.db, now):
            overdue = True
            miss_a_look(pool.db, pool.engine)
        if pool.engine.workers > 1:
            look_for_ddl(pool.db, pool.engine)
    if overdue or needs_scrub(c, s):
        due = scrub_due(c, s, overdue)
    s.since = now
    c.turns_here = 0
    c.portals = None
    c.former_server = c.last_server
    c.last_server = s.id
    if s.last_client != c.id or s.id != c.former_server:    # the client's own values of before are not the last ones
        s.foreign = s.foreign or s.last_client != 0
        s.last_client = c.id
    s.last_user = c.user
    pool.stats.server_assignment_count += 1
    if due is not None:
        count(c, "scrubs", due)
        return begin_scrub(c, s)
    if c.vars is not s.vars or c.kept is not s.kept or anew or (s.foreign and may_read_sequences(c)):
        bring(c, s, anew)
    return 0


cdef bint may_read_sequences(Client c) noexcept:
    """Whether currval or lastval are used here, or functions may have changed since the catalog was read."""
    return c.judged and (c.db.sequences or is_unknown(c))


cdef int own_query(Server s, bytes text, int purpose) except -1:
    """Stage a query of pgferry's own behind the server's unsent bytes; the caller (or the next message) sends it."""
    return own_message(s, simple_query(text), purpose)


cdef int own_message(Server s, bytes message, int purpose) except -1:
    """The same with a Query that is made already."""
    s.plan.push(K_QUERY, F_SWALLOW, purpose)
    s.status = 0
    s.unnamed = None
    return s.put(message, len(message))


# --- the way back -----------------------------------------------------------------------------------------------

cdef bint clean(Server s) noexcept:
    """The proof that a server owes nothing and holds nothing of a client's unfinished work."""
    return (s.status == b"I" and s.plan.head == s.plan.tail and s.held_len == 0 and s.passing == 0
            and s.out_head == s.out_tail and not s.broken and not s.closed and not s.copy_in
            and s.base is None and s.ours is None)


cdef int maybe_release(Server s) except -1:
    """Take a clean server back from its client (or do nothing while it is not clean)."""
    cdef Client c = s.client
    cdef bint session_over
    if c is None:
        return 0
    session_over = c.state >= CL_CLOSING
    if not session_over and (c.session or c.passing):
        if not (c.session and s.close_needed and s.pool.engine.fast_close and s.status == b"I"):
            return 0
        close_client(c, "database configuration changed", "database configuration changed")
        return 0
    if not clean(s):
        return 0
    if session_over:
        if s.replication:
            return part_for_good(c, s)
        if c.pins or s.touched or is_outdated(c, s):
            return leave_dirty(c, s)
    elif c.judged:
        if is_outdated(c, s):
            note_outdated(c, s)
        if s.unsure and hold(c, s) and not (s.touched & <uint32_t>LISTEN and listens(c)):
            return stay_pinned(c)
        if s.touched:
            ask(c, s)
            if s.plan.size() or s.client is not c:
                return 0
    if c.pins and not session_over:
        return stay_pinned(c)
    s.client = None
    c.server = None
    s.known = None
    if c.state == CL_ACTIVE:
        c.state = CL_IDLE
        c.idle_since = c.loop.now
    c.dropped = None
    c.unpause(PAUSE_PEER | PAUSE_STALL)
    s.unpause(PAUSE_PEER)
    if (c.inbox is not None or c.fence_passed) and not session_over:
        flush_inbox(c)
    return after_use(s, c.session)


cdef inline bint is_outdated(Client c, Server s) noexcept:
    """Whether what the client has run may have done something else than was known when it was sent."""
    return s.known is not None and c.judged and (s.known is not c.db.knowledge or c.db.unread) and not s.unsure


cdef int stay_pinned(Client c) except -1:
    """The client keeps its server between transactions."""
    c.pinned_xacts += 1
    c.idle_since = c.loop.now
    c.unpause(PAUSE_PEER | PAUSE_STALL)
    flush_inbox(c)
    return 0


cdef int leave_dirty(Client c, Server s) except -1:
    """The client has left and its server holds, or may hold, what nobody else may find there."""
    s.client = None
    c.server = None
    s.unpause(PAUSE_PEER)       # the client may never take its last bytes
    if c.pins & CANNOT_ASK or s.touched & CANNOT_ASK:
        return close_server(s, "client left state that cannot be undone")
    if "scrub" in c.engine.omit:
        s.touched = 0
        return make_available(s)
    count(c, "scrubs", "client left")
    return scrub(s)


cdef int after_use(Server s, bint session) except -1:
    """A server has just been taken from its client: barrier, reset, or straight on."""
    cdef Engine engine = s.pool.engine
    if session:
        s.kept = None           # nobody has looked
    if s.barrier_needed:
        s.reset_pending = session
        return test(s, b"", P_BARRIER)
    if engine.reset_query and (session or engine.reset_always):
        return test(s, engine.reset_query, P_RESET)
    if not session and s.kept is not None and s.kept.rest is not None:
        return test(s, taken_off(s.kept), P_LIMITS)
    return make_available(s)


cdef int test(Server s, bytes text, int purpose) except -1:
    s.state = SV_TESTED
    s.since = s.loop.now
    s.pool.tested.append(s)
    own_query(s, text, purpose)
    return s.flush()


cdef str reason_to_close(Server s):
    """Why a free server must not be used again; None when it may."""
    cdef Pool pool = s.pool
    cdef Engine engine = pool.engine
    cdef double age = s.loop.now - s.created
    if s.close_needed:
        return s.close_reason or "close_needed"
    if s.ending:
        return "server conn crashed?"
    if pool.removed or pool.db.removed:
        return "connect string changed"
    if engine.paused or pool.db.paused:
        return "pause mode"
    if engine.shutdown == 1:
        return "server shutting down"
    if s.state != SV_LOGIN and age >= pool.lifetime and s.loop.now >= pool.lifetime_kill_at:
        pool.lifetime_kill_at = s.loop.now + pool.lifetime / max(pool.size, 1)
        return "server lifetime over"
    if pool.give_back > 0:
        pool.give_back -= 1
        return "slot given to another worker" if pool.heir is None else "slot given to a replication client"
    if pool.size > 0 and pool.waiting.count == 0 and has_too_many(pool):
        return "too many servers in the pool"
    return None


cdef bint has_too_many(Pool pool) noexcept:
    """Whether the pool has had more servers than it may for a moment: workers that race for the last place count one
    too many, until they have seen it.
    """
    if pool.slots.total() <= pool.size + pool.reserve_size:
        pool.over_since = 0
        return False
    if pool.over_since == 0:
        pool.over_since = pool.engine.loop.now
    return pool.engine.loop.now - pool.over_since > OVERSHOOT


cdef int make_available(Server s) except -1:
    """A clean server without client: close it, keep it from a stray cancel, or give it to the next client."""
    cdef Pool pool = s.pool
    cdef str reason = reason_to_close(s)
    s.since = s.loop.now
    if reason is not None:
        return close_server(s, reason)
    if s.cancels:
        # The request may still reach PostgreSQL: whoever used this server now could be cancelled by it.
        s.state = SV_BEING_CANCELED
        return pool.being_canceled.append(s)
    s.state = SV_IDLE
    s.first = True
    if pool.lookups and may_start(pool) and next_lookup(pool):
        return start_lookup(s)
    if pool.session_state != STATE_IGNORE and pool.mode != MODE_SESSION:
        keep_up(pool.db, pool.engine)
    if pool.waiting.count and may_start(pool):
        pool.idle.append(s)
        return serve_waiting(pool)
    if pool.engine.check_query is not None and pool.engine.check_delay <= 0:
        s.state = SV_USED
        return pool.used.append(s)
    return pool.idle.append(s)


cdef int serve_waiting(Pool pool) except -1:
    """Link waiting clients, oldest first, while there are idle servers."""
    cdef Client c
    if not may_start(pool) or not is_ready(pool):
        return 0
    while pool.waiting.count and pool.idle.count:
        c = <Client>pool.waiting.head
        link(c, pick(pool, c))
        if c.server is None or not (c.server.scrubbing or (c.proving and c.server.plan.size())):
            c.unpause(PAUSE_WAIT)
    return 0


cdef int own_query_done(Server s, int purpose, dict failed) except -1:
    """ReadyForQuery for a query of pgferry's own has come; `failed`: the fields of the error that it ended with."""
    cdef Client c = s.client
    if purpose == P_VARS:
        return brought(s, c, failed)
    if purpose == P_PROBE:
        return probed(s, c, failed)
    if purpose == P_SCRUB:
        return scrub_answered(s, failed)
    if purpose == P_ENSURE:
        return 0
    if purpose == P_BASE and (failed is None or s.xact == b"E"):
        return 0
    if purpose == P_BASE:
        return not_brought(s, c, failed)
    if purpose == P_ANNOUNCE:
        return announced(s, failed is None)
    if purpose == P_INTERNAL:
        return internal_answered(s, failed)
    if purpose == P_CONNECT:
        return connect_query_done(s)
    if purpose == P_LIMITS and limits_again(s, failed):
        return 0
    if purpose == P_START:
        return start_answered(s, failed)
    if purpose == P_LOOKUP:
        return lookup_answered(s, failed)
    if failed is not None:
        return close_server(s, "reset query failed" if purpose == P_RESET else "test query failed")
    if not clean(s):
        return close_server(s, "server was not ready")
    if purpose == P_BARRIER:
        return after_use(s, s.reset_pending)
    if purpose == P_RESET and (s.scrubbing or resets_all(s.pool.engine.reset_query)):
        scrubbed(s)
    elif purpose == P_RESET and s.pool.mode != MODE_SESSION and s.pool.session_state != STATE_IGNORE:
        return scrub(s)         # what it has reset, and what not, nobody knows
    return make_available(s)


cdef bint resets_all(bytes query):
    """Whether server_reset_query leaves nothing of a session."""
    return query.strip(b" \t\r\n;").upper() == b"DISCARD ALL"


cdef int probed(Server s, Client c, dict failed) except -1:
    """A probe is answered; without a client the server is scrubbed anyway."""
    if c is None:
        return 0
    if failed is None:
        s.tries = 0
        return answered_probe(s)
    if probe_again(c, s, failed):
        return 0
    s.client = None
    c.server = None
    close_server(s, "session state could not be asked for")
    return close_client(c, "session state could not be asked for",
                        f"session state could not be asked for: {failed.get('M', '?')}", failed.get("C", "08P01"))


# --- endings ----------------------------------------------------------------------------------------------------

cdef int close_client(Client c, str reason, str error=None, str sqlstate="08P01") except -1:
    """End a client, with a FATAL error when there is one to give. Its server goes back if clean, else it closes."""
    cdef Engine engine = c.engine
    cdef Server s = c.server
    cdef bytes message
    if c.state >= CL_CLOSING:
        return 0
    count_end(engine, "refused" if c.login is not None else "client", reason)
    if c.login is not None:
        c.login.abandon(c)
    c.state = CL_CLOSING
    c.closed_at = c.loop.now
    c.pause(PAUSE_CLOSE)
    if error is not None and not (s is not None and torn(s)):
        if engine.log_pooler_errors:
            engine.say(c, "WARNING", f"pooler error: {error}")
        message = error_message("FATAL", sqlstate, error)
        c.put(message, len(message))
    if engine.log_disconnections:
        say_closing(engine, c, reason, c.loop.now - c.accepted)
    c.login = None          # only now: the lines above name who tried to log in
    if s is not None:
        part_from_server(c, s)
    if c.tunnel is not None:
        c.tunnel.detach()
        c.tunnel = None
    forget_client(c)
    c.held_len = 0
    engine.closing.append(c)
    if not c.blocked and not c.broken:
        c.flush()
    if c.unsent() == 0 or c.broken:
        return finish_closing(c)
    return 0


cdef int say_closing(Engine engine, Stream who, str reason, double age) except -1:
    cdef Text line = engine.begin_line(who, "LOG")
    line.raw(b"closing because: ", 17)
    line.put(reason)
    line.raw(b" (age=", 6)
    line.number(<long long>age)
    line.raw(b"s)", 2)
    return engine.log.end()


cdef int part_from_server(Client c, Server s) except -1:
    """The client of this server has left (state is CL_CLOSING)."""
    cdef bint half_sent = c.passing != 0
    if s.replication:
        return part_for_good(c, s)
    if clean(s) and not half_sent:
        return maybe_release(s)
    s.client = None
    c.server = None
    s.unpause(PAUSE_PEER)
    if scrubs_only(s):
        return finish_alone(s)
    if only_probed(s) and not half_sent and not c.pins & CANNOT_ASK and not s.asked & CANNOT_ASK:
        count(c, "scrubs", "client left")
        return scrub(s)         # behind the probe
    if s.status == b"T" or s.status == b"E":
        return close_server(s, "client disconnect while server was not ready")
    return close_server(s, "client disconnected with query in progress")


cdef bint asks_only(Server s) noexcept:
    """Whether the server owes the answer to a probe and nothing else."""
    return (s.plan.size() == 1 and s.plan.front().kind == K_QUERY and s.plan.front().flags & F_SWALLOW
            and s.plan.front().number == P_PROBE)


cdef bint only_probed(Server s) noexcept:
    """Whether nothing but a probe is under way."""
    return (asks_only(s) and s.xact == b"I" and s.held_len == 0 and s.passing == 0
            and s.out_head == s.out_tail and not s.broken and not s.closed)


cdef int forget_client(Client c) except -1:
    """Take the client out of every count and map."""
    cdef Engine engine = c.engine
    if c.cancel_key is not None:
        engine.by_key.pop(c.cancel_key, None)
    if c.statements is not None:
        for st in c.statements.values():
            engine.table.release(<Statement>st)
        c.statements = None
    for op in c.pending or ():
        if op[0] == "remove":
            engine.table.release(<Statement>op[2])
        elif op[0] == "add" and op[3] is not None:
            engine.table.release(<Statement>op[3])
    unpin(c)
    stop_listening(c)
    c.pending = None
    c.last_statement = None
    c.unnamed = None
    if c.counted:
        c.counted = False
        engine.client_count.give()
        if c.db is not None:
            c.db.clients.give()
            c.db.used_at = c.loop.now
        if c.user is not None:
            c.user.clients.give()
    return 0


cdef int finish_closing(Client c) except -1:
    """The last bytes are sent (or nobody will take them)."""
    c.state = CL_GONE
    if c.home is not None:
        c.home.remove(c)
    return c.detach()


cdef int client_gone(Client c) except -1:
    """End of the client's stream, or a send to it failed."""
    if c.state >= CL_CLOSING:
        return finish_closing(c)
    c.broken = True
    return close_client(c, "client unexpected eof" if c.tls is None else c.tls.ending("client unexpected eof"))


cdef int client_hung_up(Client c) except -1:
    """A paused client's socket was shut: one that waits, for a server or for an answer, will never read it."""
    if c.state == CL_CLOSING:
        c.broken = True
        return finish_closing(c)
    if c.paused & (PAUSE_WAIT | PAUSE_STALL | PAUSE_NEWS):
        return client_gone(c)
    return 0


cdef int close_server(Server s, str reason) except -1:
    """Close a server that has no client (any more) and free its slot."""
    cdef Pool pool = s.pool
    cdef Client c = s.client
    if s.state == SV_GONE:
        return 0
    if c is not None:
        s.client = None
        c.server = None
    count_end(pool.engine, "server", reason)
    if pool.engine.log_disconnections:
        say_closing(pool.engine, s, reason, s.loop.now - s.created)
    if s.state != SV_LOGIN and not s.broken and s.unsent() == 0 and s.fd >= 0 and s.status:
        s.put(b"X\0\0\0\4", 5)
        s.flush()
    forget_closes(s)
    s.state = SV_GONE
    forget_unsure(s)
    if s.ddl:
        end_defining(s)
    s.login = None
    if s.home is not None:
        s.home.remove(s)
    s.prepared.clear()
    s.detach()
    if s.internal is not None:
        return internal_down(s, reason)     # it is outside the limits of the pool
    pool.slots.give()
    pool.db.servers.give()
    pool.user.servers.give()
    place_is_free(pool)
    if pool.server_count() == 0:
        pool.empty_since = s.loop.now
    if s.lookup is not None:
        lookup_lost(s, reason)
    if s.owner is not None:
        lose_owner(s)
    if c is not None:
        close_client(c, reason, None if torn(s) else "server conn crashed?")
    if pool.heir is not None:
        want_servers(pool.heir)
    return want_servers(pool)


cdef bint torn(Server s) noexcept:
    """Whether the client has part of a message: an error of ours would be taken for the rest of it."""
    return s.passing != 0 and s.passing_on


cdef int forget_closes(Server s) except -1:
    """Let go of the statements whose Close is not answered."""
    cdef uint32_t i
    for i in range(s.plan.size()):
        if s.plan.at(i).kind == K_CLOSE and s.plan.at(i).flags & F_SERVER_OP:
            s.prepared.closed(s.plan.at(i).number)
    return 0


cdef int fail_server(Server s, str reason, str error) except -1:
    """Close a server for a fault of its own; its client, if any, is told `error`."""
    cdef Client c = s.client
    if s.owner is not None:
        return own_login_failed(s, reason)
    s.client = None
    s.status = 0
    if c is not None:
        c.server = None
    close_server(s, reason)
    if c is not None:
        close_client(c, reason, None if torn(s) else error)
    return 0


cdef int server_gone(Server s) except -1:
    """End of the server's stream, or a send to it failed."""
    if s.state == SV_GONE:
        return 0
    s.broken = True
    if s.login is not None:
        s.login.failed(s, "server conn crashed?" if s.tls is None else s.tls.ending("server conn crashed?"), None)
        return 0
    if scrubs_only(s):
        return lose_scrubbed(s, "server conn crashed?")
    if s.streamed and s.plan.size():
        return fail_server(s, "end of replication", None)   # so PostgreSQL ends a stream when it is shut down
    if s.client is not None and s.plan.size() and try_elsewhere(s, s.client, "server conn crashed?"):
        return 0
    if s.client is not None and s.xact == b"I" and s.client.state == CL_ACTIVE and (
            asks_only(s) or (s.client.pins and s.plan.size() == 0)):
        return state_lost(s)
    return fail_server(s, "server conn crashed?", "server conn crashed?")


cdef int state_lost(Server s) except -1:
    """The client waits for nothing, but its session state has gone, or nobody can tell any more what it is."""
    cdef Client c = s.client
    cdef str text
    unhold(c)                   # while the catalog is read nobody has asked yet; that is no state
    if s.plan.size() or c.pins == 0:
        text = f"server connection lost before PostgreSQL told what it held of the session, after {c.reason}"
    else:
        text = f"server connection lost, and with it session state: {pin_reasons(c)}, by {c.reason}"
    if s.error is not None:
        text += f": {s.error.get('M', '?')}"
    count(c, "losses", c.reason or "")
    s.client = None
    s.status = 0
    c.server = None
    close_server(s, "server conn crashed?")
    return close_client(c, "session state lost with its server", text, "08006")
