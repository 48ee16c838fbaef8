"""Replication connections: each client has a server of its own, from its login to its end.

The login of such a client is completed by the login of its server, which gets the client's parameters and options in
its startup packet: what PostgreSQL reports there is what the client is told. Until it is linked the two know each
other as Login.server and Server.owner.

They belong to a Pool of their own beside the ordinary one of the same database and user (Pool.ordinary), so that no
other client can ever be given such a server; but both pools count in one counter of the ledger (Pool.slots), which is
what pool_size limits. Clients wait in pool.logging_in. When all places are taken, an idle server of an ordinary pool is
closed for them (take_places()), or the next one that comes back (ask_for_room()).
"""

from pgferry.engine.client.login cimport Login
from pgferry.engine.pool.connecting cimport PARALLEL_LOGINS, take_places, want_servers
from pgferry.engine.io.loop cimport PAUSE_WAIT
from pgferry.engine.core.model cimport (
    CL_ACTIVE, CL_IDLE, CL_LOGIN, COPY_BOTH, REPL_LOGICAL, Client, Database, Engine, Pool, Server, User,
)
from pgferry.engine.pool.pooling cimport close_client, close_server, link, may_start
from pgferry.engine.server.login cimport start_login
from pgferry.engine.pool.sharing cimport BLOCKED_BY_POOL, BLOCKED_BY_USER, must_leave

cdef str FAILED = "login failed"
cdef str REPLACED = "database configuration changed"


cdef Pool replication_pool(Engine engine, Database db, User user):
    """The pool of this pair's replication connections; made on first use."""
    cdef tuple key = ("replication", user.name)
    cdef Pool pool = db.pools.get(key)
    if pool is None:
        ordinary = engine.pool_for(db, user)
        pool = Pool(engine, db, user, key)
        pool.ordinary = ordinary
        db.pools[key] = pool
        engine.host.configure_pool(pool)
    return pool


# --- a server for a client --------------------------------------------------------------------------------------

cdef int join(Client c, Pool pool) except -1:
    """The client has proved who it is: it waits for its server."""
    c.pool = pool
    c.wait_start = c.loop.now
    c.pause(PAUSE_WAIT)
    pool.logging_in.append(c)
    return want_servers(pool)


cdef bint is_lacking(Client c) noexcept:
    """Whether it waits, and nothing has been begun for it."""
    cdef Login login = c.login
    return c.state == CL_LOGIN and login is not None and not login.over and login.server is None


cdef int lacking(Pool pool) except -1:
    """How many clients here wait for the beginning of their server's login."""
    return sum([is_lacking(<Client>c) for c in pool.logging_in.items()])


cdef int want_own(Pool pool) except -1:
    """Start a server for each client that waits for one, oldest first, as far as the limits allow."""
    if pool.opening:
        return 0        # called by the end of one that failed at once: the loop below goes on
    pool.blocked = 0
    pool.opening = True
    try:
        for c in pool.logging_in.items():
            if is_lacking(<Client>c) and not (may_start(pool) and start_own(pool, <Client>c)):
                break
    finally:
        pool.opening = False
    return 0


cdef bint start_own(Pool pool, Client c) except -1:
    """Begin the login of a server for this client, if every limit allows it."""
    cdef Engine engine = pool.engine
    if pool.removed or engine.shutdown == 1 or pool.fresh.count >= PARALLEL_LOGINS:
        return False
    if must_leave(engine, pool.wanting, pool.slots, pool.size) or not take_slot(pool):
        pool.blocked = BLOCKED_BY_POOL
        return False
    if not take_places(pool, False):
        return False
    start_login(pool, None, c)
    return True


cdef bint take_slot(Pool pool) except -1:
    """One more place under pool_size; idle servers of the ordinary pool go for it."""
    cdef Pool other = pool.ordinary
    while not pool.slots.take(pool.size):
        if other.used.count:
            close_server(<Server>other.used.head, "evicted")
        elif other.idle.count:
            close_server(<Server>other.idle.head, "evicted")
        else:
            return False
    return True


cdef int make_own(Server s, Client c) except -1:
    """This new server is for this client."""
    cdef Login login = c.login
    login.server = s
    s.owner = c
    s.replication = login.startup.replication
    return 0


cdef list own_parameters(Server s):
    """What its startup packet has because of the client: later ones win over those of the database's entry."""
    cdef Login login = s.owner.login
    cdef list found = [b"replication", b"database" if s.replication == REPL_LOGICAL else b"true"]
    for index, value in login.startup.values.items():
        found += [s.pool.engine.tracked[index].encode(), value]
    for name, value in (login.startup.settings or {}).items():
        found += [name, value]
    if login.startup.options is not None:
        found += [b"options", login.startup.options]
    return found


cdef int take_reported(Server s, bytes untracked) except -1:
    """PostgreSQL has told its parameters: they are the client's greeting."""
    (<Login>s.owner.login).reported = untracked
    return 0


cdef int own_logged_in(Server s) except -1:
    """The server is ready: so is the client's login, and from here on they stay together."""
    cdef Client c = s.owner
    s.owner = None
    c.vars = s.vars
    link(c, s)
    c.login.finish(c)
    if c.state == CL_IDLE:
        c.state = CL_ACTIVE         # unless it was found gone when it was greeted
    return want_servers(s.pool)


cdef int own_login_failed(Server s, str reason) except -1:
    """The server's login has failed: that is this client's affair, and nobody else's."""
    cdef Client c = s.owner
    s.owner = None
    (<Login>c.login).server = None
    close_client(c, FAILED, FAILED)
    return close_server(s, reason)


cdef int lose_owner(Server s) except -1:
    """A server is being closed before it was linked. By an order from outside: the client goes on waiting."""
    cdef Client c = s.owner
    s.owner = None
    (<Login>c.login).server = None
    if not s.close_needed and may_start(s.pool) and s.pool.engine.shutdown != 1:
        close_client(c, FAILED, FAILED)
    return 0


cdef int abandon_server(Login login) except -1:
    """The client is gone before its server was ready."""
    cdef Server s = login.server
    login.server = None
    s.owner = None
    return close_server(s, "replication client was closed")


# --- endings ----------------------------------------------------------------------------------------------------

cdef int part_for_good(Client c, Server s) except -1:
    """The client has left: nobody else may have its server."""
    s.client = None
    c.server = None
    if c.passing == 0 and s.status == 0 and not s.broken and s.unsent() == 0 and s.fd >= 0:
        s.put(b"X\0\0\0\4", 5)      # PostgreSQL hears it in the middle of a stream, too
        s.flush()
    close_server(s, (s.close_reason or "close_needed") if s.close_needed else "replication client was closed")
    return want_servers(s.pool.ordinary)


cdef int end_replaced(Pool pool) except -1:
    """RECONNECT and the like do not wait for the end of a stream, which may be years away."""
    cdef Server s
    if pool.ordinary is None:
        return 0
    for item in pool.active.items():
        s = <Server>item
        if s.close_needed and s.client is not None:
            close_client(s.client, REPLACED, REPLACED)
    return 0


cdef bint is_streaming(Client c) noexcept:
    """Whether it reads a stream of changes that could end here: whoever reads one can go on from where it was."""
    return (c.pool.ordinary is not None and c.server is not None and c.server.copy_in == COPY_BOTH
            and c.server.passing == 0 and c.passing == 0)


# --- pools without an idle server -------------------------------------------------------------------------------

cdef int ask_for_room(Engine engine) except -1:
    """Every tick: where clients wait and no server is idle, the next ones that come back are closed for them.

    In a pool that is always busy they would wait forever: a server that is free goes to an ordinary client at once.
    """
    cdef Pool pool, giver
    cdef list pools = engine.pools()
    for item in pools:
        pool = <Pool>item
        if pool.heir is not None:
            pool.heir = None
            if engine.workers == 1:
                pool.give_back = 0      # else sharing.balance() has done that
    for item in pools:
        pool = <Pool>item
        if pool.ordinary is None or pool.blocked == 0:
            continue
        giver = pool.ordinary if pool.blocked == BLOCKED_BY_POOL else busiest(pool, pools)
        if giver is not None:
            giver.give_back = max(giver.give_back, lacking(pool))
            giver.heir = pool
    return 0


cdef Pool busiest(Pool pool, list pools):
    """The ordinary pool that has most servers of those under the limit that keeps this pool's clients waiting."""
    cdef Pool other, found = None
    for item in pools:
        other = <Pool>item
        if other.ordinary is not None or (
                other.user is not pool.user if pool.blocked == BLOCKED_BY_USER else other.db is not pool.db):
            continue
        if found is None or other.active.count > found.active.count:
            found = other
    return found
