"""What the console, RELOAD and the login code ask of the engine from Python."""

from pgferry.engine.client.login_data cimport finish_login
from pgferry.engine.core.database cimport Database
from pgferry.engine.core.enums cimport CL_CLOSING
from pgferry.engine.core.model cimport Client, Engine, Pool, Server
from pgferry.engine.core.statements cimport sql_as_data
from pgferry.engine.io.stream cimport Stream
from pgferry.engine.pool.endings cimport finish_closing
from pgferry.engine.services.internal_session cimport InternalSession
from pgferry.engine.services.replication cimport end_replaced
from pgferry.engine.session.catalog cimport forget_knowledge
from pgferry.engine.pool.upkeep import resume


def chosen(Engine engine, Database db):
    """The pools of one database, or of all."""
    return [pool for pool in engine.pools() if db is None or (<Pool>pool).db is db]


def pause(Engine engine, Database db):
    """Stop handing out servers (of one database, or all) and close those that are free."""
    if db is None:
        engine.phase.pause()
    else:
        db.pause()
    close_free(engine, db, "pause mode")
    rest_sessions(engine, db)


cdef int rest_sessions(Engine engine, Database db) except -1:
    """Close pgferry's own connections, but for those that somebody listens on; PAUSE lets none be made."""
    cdef InternalSession session
    for each in list(engine.databases.values()) if db is None else [db]:
        for item in list((<Database>each).sessions):
            session = <InternalSession>item
            if not session.is_wanted():
                session.close("pause mode")
    return 0


def close_free(Engine engine, Database db, str reason):
    """Close every server that serves nobody now."""
    cdef Pool pool
    for item in chosen(engine, db):
        pool = <Pool>item
        for group in (pool.endpoint.idle, pool.endpoint.used, pool.endpoint.fresh):
            for s in group.items():
                (<Server>s).close(reason)


def unpause(Engine engine, Database db):
    """End of PAUSE; for one database also of KILL."""
    if db is None:
        engine.phase.resume()
    else:
        db.resume()
    resume(engine, db)


def server_total(Engine engine, Database db):
    """How many server connections are left."""
    return sum([(<Pool>pool).server_count() for pool in chosen(engine, db)])


def close_needed_total(Engine engine, Database db):
    """How many server connections wait to be closed when their client lets go."""
    return sum([1 for pool in chosen(engine, db) for s in pool.servers() if (<Server>s).close_needed])


def client_total(Engine engine):
    """How many clients are left, those that are logging in too, console clients not."""
    cdef Pool pool
    cdef int n = engine.connecting.closing.count + engine.connecting.logins.count
    for item in engine.pools():
        pool = <Pool>item
        n += pool.clients.count + pool.waiting.count + pool.logging_in.count
    return n


def replace_servers(Pool pool, str reason):
    """Close a pool's servers: free ones now, the others when their client lets go. Those of pgferry's own stay: nothing
    of clients is in them, and whoever listens would lose notifications.
    """
    cdef Server s
    for s in pool.servers():
        if not s.internal:
            s.close_when_free(reason)
    for group in (pool.endpoint.fresh, pool.endpoint.idle, pool.endpoint.used):
        for s in group.items():
            s.close(reason)


def read_catalogs(Engine engine):
    """What is known of functions has to be worked out again."""
    for db in engine.databases.values():
        forget_knowledge(<Database>db, engine)


def reconnect(Engine engine, Database db, str reason="close_needed"):
    """Replace every server: free ones now, the others when their client lets go; logins under way are dropped."""
    cdef Pool pool
    cdef Server s
    for item in chosen(engine, db):
        pool = <Pool>item
        pool.forget_parameters()
        for s in pool.servers():
            s.close_when_free(reason)
        for group in (pool.endpoint.fresh, pool.endpoint.idle, pool.endpoint.used):
            for s in group.items():
                s.close("connect string changed" if s.login is not None else reason)
        end_replaced(pool)


def leave_addresses(Engine engine, str host, addresses):
    """These addresses do not belong to the name any more: replace the servers that were reached by it there."""
    cdef Pool pool
    cdef Server s
    for item in engine.pools():
        pool = <Pool>item
        for s in pool.servers():
            if s.ends.host != host or s.ends.peer_addr not in addresses:
                continue
            s.close_when_free("obsolete connection")
            if s.home is pool.endpoint.fresh or s.home is pool.endpoint.idle or s.home is pool.endpoint.used:
                s.close(s.close_reason)
        end_replaced(pool)


def kill(Engine engine, Database db):
    """Drop all clients and servers of a database (or of all) with "database removed"."""
    cdef Pool pool
    for item in chosen(engine, db):
        pool = <Pool>item
        pool.wanting.put(0)
        pool.db.wanting.put(0)
        for group in (pool.waiting, pool.logging_in, pool.clients):
            for c in group.items():
                (<Client>c).close("database removed", "database removed")
        for s in pool.servers():
            (<Server>s).close("database removed")
        pool.fail_demand("database removed")


def kill_client(Engine engine, long long number):
    """Close the client with this id of SHOW CLIENTS; False when there is none here."""
    cdef Pool pool
    cdef Client c
    for item in engine.pools():
        pool = <Pool>item
        for group in (pool.clients, pool.waiting, pool.logging_in):
            for c in group.items():
                if c.id == number:
                    c.close("admin forced disconnect", "admin forced disconnect")
                    return True
    for c in engine.connecting.consoles.items():
        if c.id == number:
            c.close("admin forced disconnect", "admin forced disconnect")
            return True
    return False


def login_parameters(Pool pool):
    """What a new client of this pool starts with, as a message: ParameterStatus messages, tracked values as a login
    and as RESET leads to them, what connect_query has left. None: no server has logged in yet.
    """
    if pool.endpoint.server_parameters is None:
        return None
    return {"untracked": pool.endpoint.server_parameters, "values": pool.endpoint.base_vars,
            "reset_values": pool.endpoint.reset_vars,
            "settings": list(pool.endpoint.start_settings.items()), "prepared": sql_as_data(pool.endpoint.start_sql)}


def take_login_parameters(Pool pool, message):
    """Another worker's login_parameters(): clients of a full pool need not wait for a server just to log in."""
    if (pool.endpoint.server_parameters is not None or pool.removed
            or len(message["values"]) != len(pool.engine.parameters.names)):
        return
    pool.endpoint.parameters_are(tuple(message["values"]), tuple(message["reset_values"]), message["untracked"])
    pool.endpoint.start_is(dict(message["settings"]), pool.engine.table.described_sql(message["prepared"]))
    for c in pool.logging_in.items():
        finish_login(<Client>c)


def refuse_waiting(Engine engine, str reason):
    """Close every client that waits for a server, those too whose login does."""
    for item in engine.pools():
        for c in (<Pool>item).waiting.items() + (<Pool>item).logging_in.items():
            (<Client>c).close(reason, reason)


def forget(Stream stream, reason=None):
    """Close a client that only wanted something done (a cancel request), without a word to it."""
    cdef Client c = <Client?>stream
    if c.state < CL_CLOSING:
        if reason is not None and c.engine.settings.log_disconnections:
            c.engine.log_about(c, "LOG", f"closing because: {reason} (age={int(c.loop.now - c.times.accepted)}s)")
        finish_closing(c)
