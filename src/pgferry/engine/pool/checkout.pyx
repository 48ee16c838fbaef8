"""Which server a client gets: an idle one of its pool now, or the first that comes free."""

from pgferry.engine.core.enums cimport CL_ACTIVE, CL_CLOSING, CL_WAITING, ENDED, GO, SV_ACTIVE, WAIT, WAIT_FOR_SERVERS
from pgferry.engine.core.model cimport Client, Engine, Pool, Server
from pgferry.engine.core.pool_parts cimport Endpoint
from pgferry.engine.io.stream cimport PAUSE_WAIT, Stream
from pgferry.engine.pool.scrubbing cimport begin_scrub, needs_scrub, scrub_due
from pgferry.engine.session.catalog cimport is_overdue, is_ready, keep_up, miss_a_look
from pgferry.engine.session.replay cimport replay_state
from pgferry.engine.shared.times cimport TIME_WAIT, record

cdef enum:
    SCAN_IDLE = 32           # idle servers looked at for one whose parameters match


cdef Endpoint route(Client c, object verdict):
    """Where a message with this Verdict is served (None: nobody knows what it does): today a pool has one endpoint."""
    return c.pool.endpoint


cdef Server pick(Endpoint endpoint, Client c):
    """The idle server to use: last used first (or round robin).

    Preferred are those that need no scrub, and among them those with the client's parameters and state.
    """
    cdef Server s, found = None
    cdef Stream at
    cdef int n = 0, fit, best = -1
    cdef bint round_robin = c.engine.settings.server_round_robin
    if c.db.catalog.sequences:
        at = endpoint.idle.head
        while at is not None:
            s = <Server>at
            if s.last.last_client == c.id and s.id == c.last_server:
                return s                # it may know the client's sequence values
            at = at.next
    at = endpoint.idle.head if round_robin else endpoint.idle.tail
    while at is not None and n < SCAN_IDLE:
        s = <Server>at
        fit = 0 if needs_scrub(c, s) else 2
        if round_robin:
            at = at.next
        else:
            fit += s.vars is c.vars
            at = at.prev
        if fit == 3 and s.session_state is c.tracker.session_state or fit == 2 and round_robin:
            return s
        if fit > best:
            best = fit
            found = s
        n += 1
    return found


cdef int acquire_server(Client c, Endpoint endpoint) except -1:
    """Link the client to a server of the endpoint now (GO), or queue it (WAIT). ENDED: it is refused and closed."""
    cdef Pool pool = c.pool
    if pool.waiting.count == 0 and endpoint.idle.count and pool.may_start() and is_ready(pool):
        link(c, pick(endpoint, c))
        return has_server(c)
    return wait_for_server(c, endpoint)


cdef inline int has_server(Client c) noexcept:
    """GO if its server is ready for the client's message, and not being scrubbed, say, or proving a restore."""
    if c.state == CL_ACTIVE:
        return WAIT if c.paused & PAUSE_WAIT else GO
    return WAIT if c.state < CL_CLOSING else ENDED


cdef int wait_for_server(Client c, Endpoint endpoint) except -1:
    """Queue the client, and start what it needs."""
    cdef Pool pool = c.pool
    cdef Engine engine = c.engine
    if engine.phase.shutdown == WAIT_FOR_SERVERS:
        c.close("server shutting down", "server shutting down")
        return ENDED
    if (endpoint.last_login_failed and pool.server_count() == endpoint.fresh.count
            and endpoint.last_error is not None):
        c.close("server login failed", "server login has been failing, cached error: %s "
                "(server_login_retry)" % endpoint.last_error[1][:99])
        # Nobody else may be there to try again.
        pool.start_server(True)
        return ENDED
    c.enter(CL_WAITING)
    c.pause(PAUSE_WAIT)
    pool.waiting.append(c)
    pool.want_servers()
    if not is_ready(pool):
        keep_up(pool.db, engine)
    return has_server(c)


cdef int link(Client c, Server s) except -1:
    """Give an idle server to a client. Its tracked parameters are set in front of the client's first message."""
    cdef Pool pool = s.pool
    cdef double now = c.loop.now
    cdef str due = None
    cdef bint overdue = False
    # else what nobody knows of is the client's own
    cdef bint anew = s.probe.unlisted and s.last.last_client != c.id
    if s.client is not None or c.server is not None or s.plan.size() or s.status != b"I":
        raise AssertionError("link: the server is not free")
    if c.state == CL_WAITING:
        pool.clients.append(c)
        pool.stats.waited(now - c.times.wait_start)
        record(pool.times.counts[TIME_WAIT], now - c.times.wait_start)
    else:
        pool.times.counts[TIME_WAIT][0] += 1
    s.enter(SV_ACTIVE)
    c.link(s)
    c.enter(CL_ACTIVE)
    if c.tracks_state:
        if is_overdue(pool.db, now):
            overdue = True
            miss_a_look(pool.db, pool.engine)
        if pool.engine.workers > 1:
            pool.db.catalog.look_for_ddl(now)
    if overdue or needs_scrub(c, s):
        due = scrub_due(c, s, overdue)
    c.served_by(s.id)
    s.last.used_by(c.id, c.user, s.last.last_client == c.id and s.id == c.former_server)
    pool.stats.count_assignment()
    if due is not None:
        c.pool.count("scrubs", due)
        return begin_scrub(c, s)
    if (c.vars is not s.vars or c.tracker.session_state is not s.session_state or anew
            or (s.last.sequence_cache_dirty and c.may_read_sequences())):
        replay_state(c, s, anew)
    return 0


cdef int link_waiting(Pool pool) except -1:
    """Link waiting clients, oldest first, while there are idle servers."""
    cdef Client c
    if not pool.may_start() or not is_ready(pool):
        return 0
    while pool.waiting.count and pool.endpoint.idle.count:
        c = <Client>pool.waiting.head
        c.adopt_mode()
        link(c, pick(pool.endpoint, c))
        if c.server is None or not (c.server.last.scrubbing or (c.tracker.proving and c.server.plan.size())):
            c.unpause(PAUSE_WAIT)
    return 0
