"""auth_query: questions to PostgreSQL about users, on server connections of their own.

A pool made by lookup_pool() serves nobody else, so that nothing that a client has ever done (its parameters, its
session, its temporary tables) is there when the question is asked. A question is one swallowed entry of the plan. All
logins of one user that come before the question has been sent share its answer.
"""

import struct

from pgferry.engine.client.login_data cimport Login
from pgferry.engine.core.database cimport Database, User
from pgferry.engine.core.enums cimport POOL_LOOKUPS, P_LOOKUP, SV_TESTED
from pgferry.engine.core.model cimport Engine, Job, Pool, Server
from pgferry.engine.pool.server_pool cimport ServerPool

cdef enum:
    ROWS = 2        # asked for: more than one is a mistake of the query's
    CROWD = 256     # from here on it is looked now and then who has left: strangers may come and go as they like


cdef class Lookup(Job):
    """One question."""

    cdef int answered(self, Server s, dict error) except -1:
        """ReadyForQuery behind the answer; `error`: the fields of an error in it."""
        cdef list rows = s.probe.take_rows()
        cdef str text = None
        s.serves(None)
        if rows is None:
            text = "the answer to auth_query is too large"
        if error is not None:
            # Bytes that are no text in the database's encoding: nobody has such a name.
            rows = []
            if error.get("C") not in ("22021", "22P05"):
                rows, text = None, error.get("M", "error response from auth_query")
        if s.status == b"I":
            s.make_available()
        else:
            s.close("server was not ready")
        self.answer(rows, text)
        return 0

    cdef int closed(self, Server s, str reason) except -1:
        """It is asked once more on another server, unless it took too long."""
        cdef LookupPool pool = s.pool
        s.probe.take_rows()
        if self.again or reason == "test timeout" or pool.removed or pool.db.removed:
            self.answer(None, reason)
            return 0
        self.again = True
        pool.lookups[(b"", self)] = self
        return 0

    def answer(self, rows, error):
        """Tell all who wait."""
        waiting, self.waiting = self.waiting, []
        for _login, done in waiting:
            done(rows, error)

    cdef bint wanted(self) except -1:
        """Forget the logins that are over. False: nobody waits any more."""
        self.waiting = [item for item in self.waiting if not (<Login>item[0]).over]
        self.prune_at = max(<size_t>CROWD, 2 * <size_t>len(self.waiting))
        return len(self.waiting) > 0


cdef class LookupPool(ServerPool):
    """The servers on which questions are asked, for one database and auth_user."""

    def __init__(self, Engine engine, Database db, User user):
        ServerPool.__init__(self, engine, db, user, POOL_LOOKUPS)
        self.lookups = {}
        self.prune_at = CROWD

    cdef int other_demand(self) except -1:
        return <int>len(self.lookups)

    cdef bint take_idle(self, Server s) except -1:
        if not (self.lookups and self.may_start() and next_lookup(self)):
            return False
        start_lookup(s)
        return True

    cdef int fail_demand(self, str error) except -1:
        lookups = list(self.lookups.values())
        self.lookups.clear()
        for lookup in lookups:
            (<Lookup>lookup).answer(None, error)
        return 0


def lookup_pool(Engine engine, Database db, User user):
    """The pool that auth_query runs in, for this database and auth_user; made on first use."""
    cdef Pool pool = db.pools.get(("lookup", user.name))
    if pool is None:
        pool = LookupPool(engine, db, user)
        db.pools[pool.key] = pool
        engine.host.configure_pool(pool)
    return pool


def look_up(LookupPool pool, bytes query, bytes user, Login login, done):
    """Ask; done(rows, error) when it is answered. Each row is a list of bytes, or None for NULL."""
    cdef Lookup lookup = pool.lookups.get((query, user))
    cdef Engine engine = pool.engine
    if lookup is not None:
        lookup.waiting.append((login, done))
        if <size_t>len(lookup.waiting) >= lookup.prune_at:
            lookup.wanted()
        return
    if (pool.endpoint.last_login_failed and pool.server_count() == pool.endpoint.fresh.count
            and engine.loop.now < pool.endpoint.retry_at):
        done(None, pool.endpoint.last_error[1])
        return
    lookup = Lookup()
    lookup.user = user
    lookup.message = extended_query(query, user)
    lookup.waiting = [(login, done)]
    lookup.prune_at = CROWD
    if <size_t>len(pool.lookups) >= pool.prune_at:
        prune(pool)
    pool.lookups[(query, user)] = lookup
    serve_lookups(pool)
    pool.want_servers()


cdef int prune(LookupPool pool) except -1:
    """Drop the questions that nobody waits for."""
    for key, item in list(pool.lookups.items()):
        if not (<Lookup>item).wanted():
            del pool.lookups[key]
    pool.prune_at = max(<size_t>CROWD, 2 * <size_t>len(pool.lookups))
    return 0


cdef bytes extended_query(bytes query, bytes value):
    """Parse, Bind, Execute and Sync of the unnamed statement with one parameter, all in text form."""
    return (packet(b"P", b"\0" + query + b"\0\0\0")
            + packet(b"B", b"\0\0" + struct.pack("!HHI", 0, 1, len(value)) + value + b"\0\0")
            + packet(b"E", b"\0" + struct.pack("!I", ROWS)) + packet(b"S", b""))


cdef bytes packet(bytes kind, bytes body):
    return kind + struct.pack("!I", len(body) + 4) + body


cdef int serve_lookups(LookupPool pool) except -1:
    """Send the questions, oldest first, while there are idle servers."""
    while pool.endpoint.idle.count and pool.may_start() and next_lookup(pool):
        start_lookup(<Server>pool.endpoint.idle.tail)
    return 0


cdef bint next_lookup(LookupPool pool) except -1:
    """Whether there is a question that somebody waits for; it is the oldest then."""
    while pool.lookups:
        key = next(iter(pool.lookups))
        if (<Lookup>pool.lookups[key]).wanted():
            return True
        del pool.lookups[key]
    return False


cdef int start_lookup(Server s) except -1:
    """Send the oldest question on this free server; next_lookup() has told that there is one."""
    cdef LookupPool pool = s.pool
    cdef Lookup lookup
    for key in pool.lookups:
        lookup = pool.lookups.pop(key)
        break
    s.enter(SV_TESTED)
    s.serves(lookup)
    s.probe.want_rows()
    s.query_message(lookup.message, P_LOOKUP)
    return s.flush()
