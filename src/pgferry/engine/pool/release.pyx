"""The way of a server back from its client: the proof that it is clean, and what is done before the next one has it.

A server leaves its client in one place, release_server(), and only when it is proved clean: ReadyForQuery with
status I was the last thing it said, its plan is empty, no message is half sent or half received. From there it
is reset or tested if its pool asks for that, and offer_server() hands it to the oldest waiting client or puts
it among the idle ones. Any server that cannot be proved clean is closed.
"""

from libc.stdint cimport uint32_t

from pgferry.engine.core.effects cimport CANNOT_ASK, LISTEN
from pgferry.engine.core.enums cimport (
    CL_ACTIVE, CL_CLOSING, CL_IDLE, MODE_SESSION, POOL_CLIENTS, P_ANNOUNCE, P_BARRIER, P_CHECK, P_CONNECT, P_ENSURE,
    P_INTERNAL, P_LIMITS, P_LOOKUP, P_PROBE, P_RESET, P_SCRUB, P_START, P_START_VALUES, P_VARS, STATE_IGNORE,
    SV_BEING_CANCELED, SV_IDLE, SV_LOGIN, SV_TESTED, SV_USED, WAIT_FOR_SERVERS,
)
from pgferry.engine.core.model cimport Client, Engine, Job, Pool, Server
from pgferry.engine.core.session_state cimport taken_off
from pgferry.engine.io.stream cimport PAUSE_PEER, PAUSE_STALL
from pgferry.engine.pool.scrubbing cimport scrub_answered
from pgferry.engine.server.login cimport connect_query_done, start_done
from pgferry.engine.session.announcing cimport announced
from pgferry.engine.session.catalog cimport keep_up
from pgferry.engine.session.notifications cimport flush_deferred, listens
from pgferry.engine.session.probe cimport answered_probe, ask, limits_again, probe_again
from pgferry.engine.session.replay cimport on_replay_done, on_replay_failed
from pgferry.engine.session.settling cimport hold
from pgferry.engine.session.unsure cimport note_outdated
from pgferry.engine.session.wipe cimport scrub, scrubbed

cdef double OVERSHOOT = 0.01     # seconds for which a count may be above its limit by chance


cdef int release_server(Server s) except -1:
    """Take a clean server back from its client (or do nothing while it is not clean)."""
    cdef Client c = s.client
    cdef bint session_over
    if c is None:
        return 0
    session_over = c.state >= CL_CLOSING
    if not session_over and (c.session or c.passing):
        if not (c.session and s.close_needed and s.pool.engine.settings.server_fast_close and s.status == b"I"):
            return 0
        c.close("database configuration changed", "database configuration changed")
        return 0
    if not s.is_clean():
        return 0
    if session_over:
        if s.replication:
            return s.pool.detach_for_good(c, s)
        if c.pin.pins or s.probe.pending_effects or is_outdated(c, s):
            return leave_dirty(c, s)
    elif c.tracks_state:
        if is_outdated(c, s):
            note_outdated(c, s)
        if s.unsure.unsure and hold(c, s) and not (s.probe.pending_effects & <uint32_t>LISTEN and listens(c)):
            return stay_pinned(c)
        if s.probe.pending_effects:
            ask(c, s)
            if s.plan.size() or s.client is not c:
                return 0
    if c.pin.pins and not session_over:
        return stay_pinned(c)
    c.unlink(s)
    s.unsure.forget_known()
    if c.state == CL_ACTIVE:
        c.enter(CL_IDLE)
    c.names.turn_over()
    c.unpause(PAUSE_PEER | PAUSE_STALL)
    s.unpause(PAUSE_PEER)
    if (c.subscription.deferred is not None or c.subscription.barrier_passed) and not session_over:
        flush_deferred(c)
    return after_use(s, c.session)


cdef inline bint is_outdated(Client c, Server s) noexcept:
    """Whether what the client has run may have done something else than was known when it was sent."""
    return (s.unsure.known is not None and c.tracks_state and not s.unsure.unsure
            and (s.unsure.known is not c.db.catalog.knowledge or c.db.catalog.unread))


cdef int stay_pinned(Client c) except -1:
    """The client keeps its server between transactions."""
    c.stays_pinned()
    c.unpause(PAUSE_PEER | PAUSE_STALL)
    flush_deferred(c)
    return 0


cdef int leave_dirty(Client c, Server s) except -1:
    """The client has left and its server holds, or may hold, what nobody else may find there."""
    c.unlink(s)
    s.unpause(PAUSE_PEER)       # the client may never take its last bytes
    if c.pin.pins & CANNOT_ASK or s.probe.pending_effects & CANNOT_ASK:
        return s.close("client left state that cannot be undone")
    if "scrub" in c.engine.omit:
        s.probe.forget_pending()
        return s.make_available()
    c.pool.count("scrubs", "client left")
    return scrub(s)


cdef int after_use(Server s, bint session) except -1:
    """A server has just been taken from its client: barrier, reset, or straight on."""
    cdef Engine engine = s.pool.engine
    if session:
        s.holds(None)       # nobody has looked
    if s.relay.barrier_needed:
        s.relay.reset_follows(session)
        return test(s, b"", P_BARRIER)
    if engine.settings.reset_query and (session or engine.settings.server_reset_query_always):
        return test(s, engine.settings.reset_query, P_RESET)
    if not session and s.session_state is not None and s.session_state.rest is not None:
        return test(s, taken_off(s.session_state), P_LIMITS)
    return s.make_available()


cdef int test(Server s, bytes text, int purpose) except -1:
    s.enter(SV_TESTED)
    s.query(text, purpose)
    return s.flush()


cdef str reason_to_close(Server s):
    """Why a free server must not be used again; None when it may."""
    cdef Pool pool = s.pool
    cdef Engine engine = pool.engine
    cdef double age = s.loop.now - s.ends.created
    if s.close_needed:
        return s.close_reason or "close_needed"
    if s.ending:
        return "server conn crashed?"
    if pool.removed or pool.db.removed:
        return "connect string changed"
    if engine.phase.paused or pool.db.paused:
        return "pause mode"
    if engine.phase.shutdown == WAIT_FOR_SERVERS:
        return "server shutting down"
    if s.state != SV_LOGIN and pool.may_end_one(age):
        return "server lifetime over"
    if pool.surrenders_one():
        return "slot given to another worker" if pool.reserved_for is None else "slot given to a replication client"
    if pool.settings.size > 0 and pool.waiting.count == 0 and has_too_many(pool):
        return "too many servers in the pool"
    return None


cdef bint has_too_many(Pool pool) noexcept:
    """Whether the pool has had more servers than it may for a moment: workers that race for the last place count one
    too many, until they have seen it.
    """
    return pool.has_been_over(pool.slots.total() > pool.settings.size + pool.settings.reserve_size, OVERSHOOT)


cdef int offer_server(Server s) except -1:
    """A clean server without client: close it, keep it from a stray cancel, or give it to the next client."""
    cdef Pool pool = s.pool
    cdef str reason = reason_to_close(s)
    if reason is not None:
        return s.close(reason)
    if s.cancels:
        # The request may still reach PostgreSQL: whoever used this server now could be cancelled by it.
        return s.enter(SV_BEING_CANCELED)
    if pool.settings.session_state != STATE_IGNORE and pool.settings.mode != MODE_SESSION:
        keep_up(pool.db, pool.engine)
    s.enter(SV_IDLE)
    if pool.kind != POOL_CLIENTS and pool.take_idle(s):
        return 0
    if pool.waiting.count and pool.may_start():
        return pool.serve_waiting()
    if pool.engine.settings.check_query is not None and pool.engine.settings.server_check_delay <= 0:
        return s.enter(SV_USED)
    return 0


# --- answers to queries of pgferry's own -------------------------------------------------------------------------

cdef int finish_own_query(Server s, int purpose, dict failed) except -1:
    """ReadyForQuery for a query of pgferry's own has come; `failed`: the fields of the error that it ended with."""
    return HANDLERS[purpose](s, s.client, failed)


cdef int on_base(Server s, Client c, dict failed) except -1:
    """The client's start values are set behind its RESET."""
    if failed is None or s.xact == b"E":
        return 0
    return on_replay_failed(s, c, failed)


cdef int on_scrub(Server s, Client c, dict failed) except -1:
    return scrub_answered(s, failed)


cdef int on_ensure(Server s, Client c, dict failed) except -1:
    return 0            # each command has a Note, see ensure.ensured()


cdef int on_announce(Server s, Client c, dict failed) except -1:
    return announced(s, failed is None)


cdef int on_job(Server s, Client c, dict failed) except -1:
    cdef Job job = s.job        # held here: the server may let go of it
    return job.answered(s, failed)


cdef int on_connect(Server s, Client c, dict failed) except -1:
    return connect_query_done(s)


cdef int on_start(Server s, Client c, dict failed) except -1:
    return start_done(s, failed)


cdef int on_limits(Server s, Client c, dict failed) except -1:
    """The time limits of the client that has left are off."""
    if limits_again(s, failed):
        return 0
    if failed is not None:
        return s.close("test query failed")
    return s.make_available()


cdef int on_barrier(Server s, Client c, dict failed) except -1:
    if failed is not None:
        return s.close("test query failed")
    return after_use(s, s.relay.reset_pending)


cdef int on_check(Server s, Client c, dict failed) except -1:
    if failed is not None:
        return s.close("test query failed")
    return s.make_available()


cdef int on_reset(Server s, Client c, dict failed) except -1:
    """server_reset_query, or a DISCARD ALL, is answered."""
    if failed is not None:
        return s.close("reset query failed")
    if s.last.scrubbing or resets_all(s.pool.engine.settings.reset_query):
        scrubbed(s)
    elif s.pool.settings.mode != MODE_SESSION and s.pool.settings.session_state != STATE_IGNORE:
        return scrub(s)         # what it has reset, and what not, nobody knows
    return s.make_available()


cdef bint resets_all(bytes query):
    """Whether server_reset_query leaves nothing of a session."""
    return query.strip(b" \t\r\n;").upper() == b"DISCARD ALL"


cdef int probed(Server s, Client c, dict failed) except -1:
    """A probe is answered; without a client the server is scrubbed anyway."""
    if c is None:
        return 0
    if failed is None:
        return answered_probe(s)
    if probe_again(c, s, failed):
        return 0
    c.unlink(s)
    s.close("session state could not be asked for")
    return c.close("session state could not be asked for",
                   f"session state could not be asked for: {failed.get('M', '?')}", failed.get("C", "08P01"))


ctypedef int (*Handler)(Server s, Client c, dict failed) except -1
cdef Handler[P_ANNOUNCE + 1] HANDLERS        # by Purpose
HANDLERS[<int>P_VARS] = on_replay_done
HANDLERS[<int>P_RESET] = on_reset
HANDLERS[<int>P_CHECK] = on_check
HANDLERS[<int>P_CONNECT] = on_connect
HANDLERS[<int>P_BARRIER] = on_barrier
HANDLERS[<int>P_PROBE] = probed
HANDLERS[<int>P_START_VALUES] = on_base
HANDLERS[<int>P_ENSURE] = on_ensure
HANDLERS[<int>P_INTERNAL] = on_job
HANDLERS[<int>P_LOOKUP] = on_job
HANDLERS[<int>P_SCRUB] = on_scrub
HANDLERS[<int>P_START] = on_start
HANDLERS[<int>P_LIMITS] = on_limits
HANDLERS[<int>P_ANNOUNCE] = on_announce
