"""New servers: when one is wanted, which limits allow it, and who makes room."""

from pgferry.engine.core.enums cimport P_CHECK, WAIT_FOR_SERVERS
from pgferry.engine.core.model cimport Client, Engine, Pool, Server
from pgferry.engine.io.stream cimport StreamList
from pgferry.engine.pool.connections cimport ServerConnection
from pgferry.engine.pool.release cimport test
from pgferry.engine.pool.sharing cimport BLOCKED_BY_DB, BLOCKED_BY_POOL, BLOCKED_BY_USER, must_leave
from pgferry.engine.server.login cimport start_login
from pgferry.engine.session.catalog cimport is_ready
from pgferry.engine.shared.ledger cimport Counter


cdef int start_wanted(Pool pool) except -1:
    """Start as many connections (or tests of used servers) as waiting clients need and the limits allow."""
    cdef Engine engine = pool.engine
    cdef int need
    pool.blocked_by(0)
    if not pool.may_start() or pool.removed:
        return 0
    while True:
        need = pool.waiting.count - pool.endpoint.fresh.count - pool.endpoint.tested.count
        if pool.endpoint.idle.count and not is_ready(pool):
            need -= pool.endpoint.idle.count     # these wait for the catalog, too
        if pool.logging_in.count and pool.endpoint.server_parameters is None and pool.endpoint.fresh.count == 0:
            need = max(need, 1)
        need += pool.other_demand()
        if need <= 0:
            return 0
        if pool.endpoint.used.count:
            if engine.settings.check_query is None:
                (<Server>pool.endpoint.used.tail).make_available()
            else:
                test(<Server>pool.endpoint.used.tail, engine.settings.check_query, P_CHECK)
            continue
        if not pool.start_server(False):
            return 0


cdef bint open_server(Pool pool, bint only_free) except -1:
    """Open one more connection if every limit allows it; only_free: evict nobody for it."""
    cdef Engine engine = pool.engine
    cdef int limit = pool.settings.size
    cdef double now = engine.loop.now
    cdef Client oldest
    cdef bint reserve = False
    if (engine.phase.shutdown == WAIT_FOR_SERVERS or now < pool.endpoint.retry_at
            or pool.endpoint.fresh.count >= PARALLEL_LOGINS):
        return False
    if pool.endpoint.fresh.count and (pool.endpoint.last_connect_failed or pool.endpoint.last_login_failed):
        return False
    if limit > 0 and pool.settings.reserve_size > 0 and engine.settings.reserve_pool_timeout > 0 and pool.waiting.count:
        oldest = <Client>pool.waiting.head
        if now - oldest.times.wait_start >= engine.settings.reserve_pool_timeout:
            reserve = pool.slots.total() >= limit
            limit += pool.settings.reserve_size
    if must_leave(engine, pool.wanting, pool.slots, limit) or not pool.slots.take(limit):
        pool.blocked_by(BLOCKED_BY_POOL)
        return False
    if not take_places(pool, only_free):
        return False
    if reserve:
        engine.log.write("LOG", f"taking connection from reserve_pool for {pool.name}")
    start_login(ServerConnection(engine.loop, pool), None, False)
    return True


cdef bint take_places(Pool pool, bint only_free) except -1:
    """Places under max_db_connections and max_user_connections, behind the pool's own, which is given back if not."""
    if not take_place(pool, False, only_free):
        pool.blocked_by(BLOCKED_BY_DB)
    elif not take_place(pool, True, only_free):
        pool.db.servers.give()
        pool.blocked_by(BLOCKED_BY_USER)
    else:
        return True
    pool.slots.give()
    return False


cdef bint take_place(Pool pool, bint by_user, bint only_free) except -1:
    """One more place under max_db_connections or max_user_connections; an idle server of another pool may go for it."""
    cdef Counter wanting = pool.user.wanting if by_user else pool.db.wanting
    cdef Counter held = pool.user.servers if by_user else pool.db.servers
    cdef int limit = pool.user.max_servers if by_user else pool.db.max_servers
    if not must_leave(pool.engine, wanting, held, limit) and held.take(limit):
        return True
    return not only_free and evict(pool, by_user) and held.take(limit)


cdef bint evict(Pool pool, bint by_user) except -1:
    """Close the longest idle server of another pool of the same database (or of the same user)."""
    cdef Pool other
    cdef Server s, found = None
    for candidate in pool.engine.pools() if by_user else list(pool.db.pools.values()):
        other = <Pool>candidate
        if other is pool or (by_user and other.user is not pool.user):
            continue
        for group in (other.endpoint.idle, other.endpoint.used):
            s = <Server>(<StreamList>group).head
            if s is not None and (found is None or s.since < found.since):
                found = s
    if found is None:
        return False
    found.close("evicted")
    return True
