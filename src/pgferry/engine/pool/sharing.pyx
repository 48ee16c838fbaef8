"""Sharing of limited server connections between workers, so that none starves while another has more than its share.

Three limits hold for all workers together: pool_size, max_db_connections and max_user_connections. A worker whose
clients wait because of one of them says so in the ledger, once a tick. The others then close servers that are idle,
and one by one those that come back while they hold more than their share: the limit divided by the number of workers
that want some. What is left over by the division goes round with time (the monotonic clock is the same for all), so
that even a limit of 1 serves everybody in turn.
"""

from pgferry.engine.core.database cimport Database, User
from pgferry.engine.core.model cimport Client, Engine, Pool, Server
from pgferry.engine.io.stream cimport Stream, StreamList
from pgferry.engine.shared.ledger cimport Counter

cdef double PATIENCE = 0.1      # seconds; who is served within that does not starve
cdef double TURN = 1.0          # seconds for which the odd slots stay with the same workers

cdef enum:
    ENOUGH = 100                # waiting clients that are counted


cdef inline int turn(Engine engine) noexcept:
    return <int>(engine.loop.now / TURN)


cdef bint must_leave(Engine engine, Counter wanting, Counter held, int limit) noexcept:
    """Whether a free place has to be left to workers that are short of their share."""
    cdef int others
    if engine.workers == 1 or limit <= 0:
        return False
    others = wanting.total() - wanting.own()
    return others > 0 and held.total() + others >= limit and held.own() >= wanting.share(limit, turn(engine))


def balance(Engine engine):
    """One round: say what is wanted here, give what is wanted elsewhere."""
    cdef Pool pool
    cdef Database db
    cdef User user
    cdef int need
    cdef dict of_pool = {}, of_db = {}, of_user = {}
    pools = engine.pools()
    for item in pools:
        pool = <Pool>item
        pool.end_surrender()
        need = needs(pool)
        if pool.blocked == BLOCKED_BY_POOL:
            of_pool[pool.main_pool or pool] = of_pool.get(pool.main_pool or pool, 0) + need
        elif pool.blocked == BLOCKED_BY_DB:
            of_db[pool.db] = of_db.get(pool.db, 0) + need
        elif pool.blocked == BLOCKED_BY_USER:
            of_user[pool.user] = of_user.get(pool.user, 0) + need
    for item in pools:
        pool = <Pool>item
        if pool.main_pool is not None:
            continue                # it counts with that one, and has nothing to give
        pool.wanting.put(of_pool.get(pool, 0))
        give(engine, pool.wanting, pool.slots, pool.settings.size, [pool])
    for item in engine.databases.values():
        db = <Database>item
        if db.max_servers > 0:
            db.wanting.put(of_db.get(db, 0))
            give(engine, db.wanting, db.servers, db.max_servers, list(db.pools.values()))
    for item in engine.users.values():
        user = <User>item
        if user.max_servers > 0:
            user.wanting.put(of_user.get(user, 0))
            give(engine, user.wanting, user.servers, user.max_servers,
                 [pool_ for pool_ in pools if (<Pool>pool_).user is user])


cdef int needs(Pool pool) except -1:
    """How many clients here wait for a server that a limit forbids."""
    cdef int n = 0
    cdef bint none = pool.server_count() == 0
    cdef Stream at = pool.waiting.head
    cdef double now = pool.engine.loop.now
    if pool.blocked == 0:
        return 0
    if pool.main_pool is not None:
        return pool.other_demand()
    while at is not None and n < ENOUGH and (none or now - (<Client>at).times.wait_start > PATIENCE):
        n += 1
        at = at.next
    n += pool.other_demand()
    if pool.logging_in.count and pool.endpoint.server_parameters is None and pool.endpoint.fresh.count == 0:
        n += 1
    return n


cdef int give(Engine engine, Counter wanting, Counter held, int limit, list pools) except -1:
    """Close servers for the sake of other workers: idle ones now, busy ones beyond our share when they come back."""
    cdef Pool pool, busiest = None
    cdef Server s
    cdef int elsewhere, own
    if limit <= 0:
        return 0
    elsewhere = wanting.total() - wanting.own()
    own = held.own()
    if elsewhere <= 0 or own == 0 or held.total() < limit:
        return 0
    while elsewhere > 0:
        s = longest_idle(pools)
        if s is None:
            break
        s.close("slot given to another worker")
        elsewhere -= 1
        own -= 1
    own -= wanting.share(limit, turn(engine))
    if own <= 0 or elsewhere <= 0:
        return 0
    for item in pools:
        pool = <Pool>item
        if pool.main_pool is not None:
            continue
        if busiest is None or pool.endpoint.active.count > busiest.endpoint.active.count:
            busiest = pool
    if busiest is not None:
        busiest.surrender(min(own, elsewhere))
    return 0


cdef Server longest_idle(list pools):
    cdef Pool pool
    cdef Server s, found = None
    for item in pools:
        pool = <Pool>item
        if pool.waiting.count or pool.other_demand():
            continue
        for group in (pool.endpoint.idle, pool.endpoint.used):
            s = <Server>(<StreamList>group).head
            if s is not None and (found is None or s.since < found.since):
                found = s
    return found
