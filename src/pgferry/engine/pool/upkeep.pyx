"""Periodic upkeep of pools and of clients that log in: timeouts, lifetimes, minimum sizes, what is unused."""

from pgferry.engine.core.database cimport Database
from pgferry.engine.core.effects cimport HELD
from pgferry.engine.core.enums cimport CL_IDLE, POOL_LOOKUPS, SV_IDLE, SV_USED
from pgferry.engine.core.model cimport Client, Engine, Pool, Server
from pgferry.engine.io.stream cimport Stream, StreamList
from pgferry.engine.pool.endings cimport finish_closing
from pgferry.engine.session.pins cimport pin_reasons
from pgferry.engine.session.watching cimport still_open
from pgferry.engine.wire.messages cimport notice_message

cdef enum:
    CLOSING_PATIENCE = 10      # seconds for a closed client to take its last bytes


def look_after_pool(Pool pool, Engine engine):
    cdef double now = engine.loop.now
    check_waiting(engine, pool, now)
    if pool.main_pool is None:       # a stream of changes runs as long as it likes
        check_running(engine, pool, now)
    check_servers(engine, pool, now)
    keep_minimum(engine, pool)
    pool.want_servers()
    if pool.settings.client_idle_timeout > 0:
        check_idle_clients(pool, now)


def check_logins(_, Engine engine):
    """client_login_timeout, for clients before and after their password; clients that do not take their last bytes."""
    cdef Client c
    cdef double now = engine.loop.now
    cdef double limit = engine.settings.client_login_timeout
    cdef Stream at = engine.connecting.closing.head
    cdef Stream following
    while at is not None:
        following = at.next
        c = <Client>at
        if now - c.times.closed_at > CLOSING_PATIENCE:
            finish_closing(c)
        at = following
    if limit <= 0:
        return 0
    at = engine.connecting.logins.head
    while at is not None and now - (<Client>at).times.accepted > limit:
        following = at.next
        (<Client>at).close("client_login_timeout", "client_login_timeout")
        at = following
    for item in engine.pools():
        at = (<Pool>item).logging_in.head
        while at is not None:
            following = at.next
            if now - (<Client>at).times.accepted > limit:
                (<Client>at).close("client_login_timeout (server down)", "client_login_timeout (server down)")
            at = following
    return 0


cdef int check_waiting(Engine engine, Pool pool, double now) except -1:
    """query_wait_timeout, query_timeout of queued queries, query_wait_notify.

    Logins that wait for the pool's first server are queued, too, but not notified.
    """
    cdef Client c
    cdef Stream at = pool.logging_in.head
    cdef Stream following
    cdef bytes notice
    while at is not None:
        following = at.next
        c = <Client>at
        if pool.settings.query_wait_timeout > 0 and now - c.times.wait_start > pool.settings.query_wait_timeout:
            c.close("query_wait_timeout", "query_wait_timeout")
        at = following
    at = pool.waiting.head
    while at is not None:
        following = at.next
        c = <Client>at
        if pool.settings.query_wait_timeout > 0 and now - c.times.wait_start > pool.settings.query_wait_timeout:
            c.close("query_wait_timeout", "query_wait_timeout")
        elif pool.settings.query_timeout > 0 and now - c.times.wait_start > pool.settings.query_timeout:
            c.close("query_timeout", "query_timeout")
        elif (engine.settings.query_wait_notify > 0 and not c.wait_notified
              and now - c.times.wait_start > engine.settings.query_wait_notify):
            c.wait_is_told()
            notice = notice_message("No server connection available in postgres backend, client being queued")
            c.put(notice, len(notice))
            c.flush()
        at = following
    return 0


cdef int check_running(Engine engine, Pool pool, double now) except -1:
    """query_timeout, idle_transaction_timeout, transaction_timeout of linked clients; server_fast_close."""
    cdef Server s
    cdef Client c
    cdef Stream at = pool.endpoint.active.head
    cdef Stream following
    cdef str reason
    while at is not None:
        following = at.next
        s = <Server>at
        c = s.client
        if c is not None:
            reason = None
            if (pool.settings.slow_after > 0 and c.times.xact_start and not c.slow_logged
                    and now - c.times.xact_start > pool.settings.slow_after):
                still_open(c, now)
            if c.pin.pins & ~<unsigned int>HELD and not c.times.xact_start and check_pin(engine, pool, c, now):
                at = following
                continue
            if (pool.settings.query_timeout > 0 and c.times.query_start
                    and now - c.times.query_start > pool.settings.query_timeout):
                reason = "query timeout"
            elif (pool.settings.idle_transaction_timeout > 0 and c.times.xact_start and not c.times.query_start
                    and now - s.since > pool.settings.idle_transaction_timeout):
                reason = "idle transaction timeout"
            elif (pool.settings.transaction_timeout > 0 and c.times.xact_start
                  and now - c.times.xact_start > pool.settings.transaction_timeout):
                reason = "transaction timeout"
            if reason is not None:
                s.fail(reason, reason)
            elif engine.settings.server_fast_close and s.close_needed and c.session:
                s.release()
        at = following
    return 0


cdef bint check_pin(Engine engine, Pool pool, Client c, double now) except -1:
    """pin_log_threshold and pin_timeout, for a pinned client between transactions. True: it is closed."""
    cdef double age = now - c.pin.pinned_at
    if engine.settings.pin_log_threshold > 0 and age > engine.settings.pin_log_threshold and not c.pin.pin_logged:
        c.pin_is_logged()
        engine.log_about(c, "WARNING", f"pinned to its server for {int(age)} s: {pin_reasons(c)}, by {c.reason}")
    if pool.settings.pin_timeout > 0 and age > pool.settings.pin_timeout:
        text = f"session state held a server connection for too long (pin_timeout): {pin_reasons(c)}, by {c.reason}"
        c.close("pin_timeout", text, "57P05")
        return True
    return False


cdef int check_servers(Engine engine, Pool pool, double now) except -1:
    """Logins and tests that hang; idle servers that are dirty, too old, unused or due for a check."""
    cdef Server s
    for item in pool.endpoint.fresh.items():
        s = <Server>item
        if engine.settings.server_connect_timeout > 0 and now - s.ends.created > engine.settings.server_connect_timeout:
            if s.login is not None:
                s.login.failed(s, "connect timeout", None)
            else:
                s.close("connect timeout")
    for item in pool.endpoint.tested.items():
        s = <Server>item
        if engine.settings.server_connect_timeout > 0 and now - s.since > engine.settings.server_connect_timeout:
            s.close("test timeout")
    for group in (pool.endpoint.idle, pool.endpoint.used):
        for item in (<StreamList>group).items():
            check_idle_server(engine, pool, <Server>item, now)
    return 0


cdef int check_idle_server(Engine engine, Pool pool, Server s, double now) except -1:
    cdef double idle = now - s.since
    if s.close_needed:
        return s.close(s.close_reason or "close_needed")
    if engine.phase.paused or pool.db.paused:
        return s.close("pause mode")
    if (engine.settings.server_idle_timeout > 0 and idle > engine.settings.server_idle_timeout
            and pool.slots.total() > pool.settings.min_size):
        return s.close("server idle timeout")
    if pool.settings.lifetime > 0 and pool.may_end_one(now - s.ends.created):
        return s.close("server lifetime over")
    if pool.settings.size > 0 and pool.slots.total() > pool.settings.size + pool.settings.reserve_size:
        return s.close("too many servers in the pool")
    if (pool.settings.size > 0 and pool.settings.reserve_size > 0 and pool.slots.total() > pool.settings.size
            and pool.waiting.count == 0):
        if idle > engine.settings.reserve_pool_timeout:
            return s.close("too many servers in the pool")
    if s.state == SV_IDLE and engine.settings.check_query is not None and idle > engine.settings.server_check_delay:
        s.enter(SV_USED)
    return 0


cdef int check_idle_clients(Pool pool, double now) except -1:
    """client_idle_timeout, of the user or global."""
    cdef Client c
    cdef Stream at = pool.clients.head
    cdef Stream following
    while at is not None:
        following = at.next
        c = <Client>at
        if c.state == CL_IDLE and c.server is None and c.times.query_start == 0 and (
                now - c.times.idle_since > pool.settings.client_idle_timeout):
            c.close("client_idle_timeout", "client_idle_timeout")
        at = following
    return 0


cdef int keep_minimum(Engine engine, Pool pool) except -1:
    """min_pool_size: one more server a tick, for pools that have a client or a forced user."""
    if pool.kind == POOL_LOOKUPS or pool.settings.min_size <= 0 or pool.server_count() >= pool.settings.min_size:
        return 0
    if pool.slots.total() >= pool.settings.min_size:
        return 0
    if engine.phase.paused or pool.db.paused or engine.phase.shutdown or pool.removed or pool.endpoint.fresh.count:
        return 0
    if pool.clients.count + pool.waiting.count == 0 and pool.db.conf.user is None:
        return 0
    pool.start_server(True)
    return 0


def drop_unused(_, Engine engine):
    """pool_idle_timeout and autodb_idle_timeout."""
    cdef double now = engine.loop.now
    cdef Pool pool
    cdef Database db
    if engine.settings.pool_idle_timeout > 0:
        for item in engine.pools():
            pool = <Pool>item
            if is_unused(pool) and now - pool.empty_since > engine.settings.pool_idle_timeout and not (
                    pool.db.conf.user is not None and pool.settings.min_size > 0) and (
                    ("replication", pool.key) not in pool.db.pools):
                close_internals(pool)
                del pool.db.pools[pool.key]
                if pool.key == pool.user.name:
                    pool.db.found.pop(pool.user.name, None)
                pool.is_removed()
                pool.db.former.add(pool.counted())
    if engine.settings.autodb_idle_timeout > 0:
        for name, item in list(engine.databases.items()):
            db = <Database>item
            if db.auto and now - db.used_at > engine.settings.autodb_idle_timeout:
                if not db.catalog.scanning and all(is_unused(<Pool>pool_) for pool_ in db.pools.values()):
                    for pool_ in db.pools.values():
                        close_internals(<Pool>pool_)
                    del engine.databases[name]
                else:
                    db.use(now)
    return 0


cdef bint is_unused(Pool pool) except -1:
    """Whether the pool serves nobody. A connection of pgferry's own that has nothing to do is no use of it."""
    for item in pool.endpoint.internals.items():
        if (<Server>item).job.is_needed():
            return False
    return (pool.other_demand() == 0 and pool.server_count() == 0 and pool.clients.count == 0
            and pool.waiting.count == 0 and pool.logging_in.count == 0 and not pool.cancels.waiting
            and not pool.cancels.sent)


cdef int close_internals(Pool pool) except -1:
    for item in pool.endpoint.internals.items():
        (<Server>item).close("not used any more")
    return 0


def resume(Engine engine, Database db=None):
    """PAUSE is over: let waiting clients go on."""
    cdef Pool pool
    for item in engine.pools():
        pool = <Pool>item
        if db is None or pool.db is db:
            pool.serve_waiting()
            pool.want_servers()
