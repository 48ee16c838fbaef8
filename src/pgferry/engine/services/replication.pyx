"""Replication connections: each client has a server of its own, from its login to its end.

The login of such a client is completed by the login of its server, which gets the client's parameters and options in
its startup packet: what PostgreSQL reports there is what the client is told. Until it is linked the two know each
other as Login.server and ReplicationLogin.client.

They belong to a Pool of their own beside the ordinary one of the same database and user (Pool.main_pool), so that no
other client can ever be given such a server; but both pools count in one counter of the ledger (Pool.slots), which is
what pool_size limits. Clients wait in pool.logging_in. When all places are taken, an idle server of an main pool is
closed for them (take_places()), or the next one that comes back (ask_for_room()).
"""

from pgferry.engine.client.login_data cimport Login, finish_login
from pgferry.engine.core.database cimport Database, User
from pgferry.engine.core.enums cimport CL_ACTIVE, CL_IDLE, CL_LOGIN, POOL_REPLICATION, REPL_LOGICAL, WAIT_FOR_SERVERS
from pgferry.engine.core.model cimport Client, Engine, Job, Pool, Server
from pgferry.engine.pool.checkout cimport link
from pgferry.engine.pool.connecting cimport PARALLEL_LOGINS, take_places
from pgferry.engine.pool.connections cimport ServerConnection
from pgferry.engine.pool.server_pool cimport ServerPool
from pgferry.engine.pool.sharing cimport BLOCKED_BY_POOL, BLOCKED_BY_USER, must_leave
from pgferry.engine.server.login cimport start_login

cdef str FAILED = "login failed"
cdef str REPLACED = "database configuration changed"


cdef class ReplicationLogin(Job):
    """A server that logs in for a replication client, until the two are linked."""

    def __init__(self, Client client):
        self.client = client

    cdef list parameters(self, Server s):
        """What its startup packet has because of the client: later ones win over those of the database's entry."""
        cdef Login login = self.client.login
        cdef list found = [b"replication", b"database" if s.replication == REPL_LOGICAL else b"true"]
        for index, value in login.startup.values.items():
            found += [s.pool.engine.parameters.names[index].encode(), value]
        for name, value in (login.startup.settings or {}).items():
            found += [name, value]
        if login.startup.options is not None:
            found += [b"options", login.startup.options]
        return found

    cdef int reported(self, Server s, bytes parameters) except -1:
        """PostgreSQL has told its parameters: they are the client's greeting."""
        cdef Login login = self.client.login
        return login.server_reported(parameters)

    cdef int logged_in(self, Server s) except -1:
        """The server is ready: so is the client's login, and from here on they stay together."""
        cdef Client c = self.client
        s.serves(None)
        c.vars_are(s.vars)
        link(c, s)
        finish_login(c)
        if c.state == CL_IDLE:
            c.enter(CL_ACTIVE)          # unless it was found gone when it was greeted
        return s.pool.want_servers()

    cdef int login_failed(self, Server s, str reason, object fields) except -1:
        """That is this client's affair, and nobody else's."""
        s.serves(None)
        lose_server(self.client)
        self.client.close(FAILED, FAILED)
        return s.close(reason)

    cdef int closed(self, Server s, str reason) except -1:
        """A server is closed before it was linked. By an order from outside: the client goes on waiting."""
        lose_server(self.client)
        if not s.close_needed and s.pool.may_start() and s.pool.engine.phase.shutdown != WAIT_FOR_SERVERS:
            self.client.close(FAILED, FAILED)
        return 0

    cdef int abandoned(self, Server s) except -1:
        """The client is gone before its server was ready."""
        lose_server(self.client)
        s.serves(None)
        return s.close("replication client was closed")


cdef int lose_server(Client c) except -1:
    """The server that was being connected for the client is none of its any more."""
    cdef Login login = c.login
    return login.server_is(None) if login is not None else 0


cdef class ReplicationPool(ServerPool):
    """The replication connections of one (database, user) pair."""

    def __init__(self, Engine engine, Database db, User user):
        ServerPool.__init__(self, engine, db, user, POOL_REPLICATION)
        self.main_pool = engine.pool_for(db, user)

    cdef int other_demand(self) except -1:
        """How many clients wait for the beginning of their server's login."""
        return sum([is_lacking(<Client>c) for c in self.logging_in.items()])

    cdef int want_servers(self) except -1:
        """Start a server for each client that waits for one, oldest first, as far as the limits allow."""
        if self.opening:
            return 0        # called by the end of one that failed at once: the loop below goes on
        self.blocked_by(0)
        self.opening = True
        try:
            for c in self.logging_in.items():
                if is_lacking(<Client>c) and not (self.may_start() and start_own(self, <Client>c)):
                    break
        finally:
            self.opening = False
        return 0

    cdef int detach_for_good(self, Client c, Server s) except -1:
        """The client has left: nobody else may have its server."""
        c.unlink(s)
        if c.passing == 0 and s.status == 0 and not s.broken and s.unsent() == 0 and s.fd >= 0:
            s.put(b"X\0\0\0\4", 5)      # PostgreSQL hears it in the middle of a stream, too
            s.flush()
        s.close((s.close_reason or "close_needed") if s.close_needed else "replication client was closed")
        return self.main_pool.want_servers()


# --- a server for a client --------------------------------------------------------------------------------------

cdef bint is_lacking(Client c) noexcept:
    """Whether it waits, and nothing has been begun for it."""
    cdef Login login = c.login
    return c.state == CL_LOGIN and login is not None and not login.over and login.server is None


cdef bint start_own(Pool pool, Client c) except -1:
    """Begin the login of a server for this client, if every limit allows it."""
    cdef Engine engine = pool.engine
    cdef Login login = c.login
    cdef Server s
    if pool.removed or engine.phase.shutdown == WAIT_FOR_SERVERS or pool.endpoint.fresh.count >= PARALLEL_LOGINS:
        return False
    if must_leave(engine, pool.wanting, pool.slots, pool.settings.size) or not take_slot(pool):
        pool.blocked_by(BLOCKED_BY_POOL)
        return False
    if not take_places(pool, False):
        return False
    s = ServerConnection(engine.loop, pool)
    s.replicates(login.startup.replication)
    login.server_is(s)
    start_login(s, ReplicationLogin(c), False)
    return True


cdef bint take_slot(Pool pool) except -1:
    """One more place under pool_size; idle servers of the main pool go for it."""
    cdef Pool other = pool.main_pool
    while not pool.slots.take(pool.settings.size):
        if other.endpoint.used.count:
            (<Server>other.endpoint.used.head).close("evicted")
        elif other.endpoint.idle.count:
            (<Server>other.endpoint.idle.head).close("evicted")
        else:
            return False
    return True


# --- endings ----------------------------------------------------------------------------------------------------

cdef int end_replaced(Pool pool) except -1:
    """RECONNECT and the like do not wait for the end of a stream, which may be years away."""
    cdef Server s
    if pool.main_pool is None:
        return 0
    for item in pool.endpoint.active.items():
        s = <Server>item
        if s.close_needed and s.client is not None:
            s.client.close(REPLACED, REPLACED)
    return 0


# --- pools without an idle server -------------------------------------------------------------------------------

cdef int ask_for_room(Engine engine) except -1:
    """Every tick: where clients wait and no server is idle, the next ones that come back are closed for them.

    In a pool that is always busy they would wait forever: a server that is free goes to other clients at once.
    """
    cdef Pool pool, giver
    cdef list pools = engine.pools()
    for item in pools:
        pool = <Pool>item
        if pool.reserved_for is not None:
            pool.reserve_for(None)
            if engine.workers == 1:
                pool.end_surrender()      # else sharing.balance() has done that
    for item in pools:
        pool = <Pool>item
        if pool.main_pool is None or pool.blocked == 0:
            continue
        giver = pool.main_pool if pool.blocked == BLOCKED_BY_POOL else busiest(pool, pools)
        if giver is not None:
            giver.surrender(pool.other_demand())
            giver.reserve_for(pool)
    return 0


cdef Pool busiest(Pool pool, list pools):
    """The main pool that has most servers of those under the limit that keeps this pool's clients waiting."""
    cdef Pool other, found = None
    for item in pools:
        other = <Pool>item
        if other.main_pool is not None or (
                other.user is not pool.user if pool.blocked == BLOCKED_BY_USER else other.db is not pool.db):
            continue
        if found is None or other.endpoint.active.count > found.endpoint.active.count:
            found = other
    return found
