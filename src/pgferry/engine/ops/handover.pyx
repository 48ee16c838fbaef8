"""Clients and servers as data, so that another process can go on with their sockets (online upgrade, see -R).

Only what is at rest is given away: a client between two transactions without a server, a server that is idle. What
their sessions hold goes along: tracked parameters, settings, prepared statements, the cancel key. What cannot be
told in data stays where it is until it is over: TLS, LISTEN, pins, session mode with a server, the console.
"""


from libc.stdint cimport uint64_t

from pgferry.engine.core.model cimport (
    CL_GONE, CL_IDLE, MODE_SESSION, POOL_CLIENTS, SV_GONE, SV_IDLE, Client, Database, Engine, Pool, Server, User,
)
from pgferry.engine.core.statements cimport Statement, StatementTable, settings_as_data, sql_as_data
from pgferry.engine.io.stream cimport PAUSE_WAIT, Stream
from pgferry.engine.io.sys cimport EPOLLIN
from pgferry.engine.pool.connections cimport ClientConnection, ServerConnection
from pgferry.engine.pool.endings cimport forget_client

cdef enum:
    GAP = 1000000       # numbers of statements left for the old process to go on with


# --- the old process ----------------------------------------------------------------------------------------------

def movable_clients(Engine engine, int limit):
    """Clients that can be given away now, at most so many."""
    cdef list found = []
    for pool in engine.pools():
        for c in (<Pool>pool).clients.items():
            if is_movable(<Client>c):
                found.append(c)
                if len(found) >= limit:
                    return found
    return found


def movable_servers(Engine engine, int limit):
    """Idle servers that can be given away now, at most so many; none of a pool whose clients wait."""
    cdef list found = []
    cdef Pool pool
    for item in engine.pools():
        pool = <Pool>item
        if pool.waiting.count or pool.kind != POOL_CLIENTS:
            continue
        for s in pool.idle.items():
            if is_movable_server(<Server>s):
                found.append(s)
                if len(found) >= limit:
                    return found
    return found


cdef bint is_movable(Client c) except -1:
    if c.state != CL_IDLE or c.server is not None or c.login is not None or c.tunnel is not None or c.fd < 0:
        return False
    if c.held.size or c.passing or c.unsent() or c.blocked or c.broken or c.paused or c.query_start or c.pins:
        return False
    if c.pending or c.inbox or c.awaited or c.deallocating or c.early or getattr(c, "tls", None) is not None:
        return False
    if c.kept.channels or c.start.channels or c.reset_due is not None:
        return False
    found = c.db.found.get(c.pool.user.name)
    return found is None or isinstance(found[0], str)


cdef bint is_movable_server(Server s) except -1:
    if s.state != SV_IDLE or s.client is not None or s.login is not None or not s.is_clean() or s.close_needed:
        return False
    if s.cancels or s.job is not None or s.touched or s.unlisted or s.ddl or s.barrier_needed or s.fd < 0:
        return False
    if s.restoring:
        return False
    return (getattr(s, "tls", None) is None and not s.kept.channels and not s.ddl and not s.fence and s.announced == 0
            and s.held.size == 0)


def describe_client(Client c):
    """Everything about a client but its socket. It is not read any more: see forget_moved() and take_back()."""
    cdef Pool pool = c.pool
    cdef Engine engine = c.engine
    c.pause(PAUSE_WAIT)
    found = c.db.found.get(pool.user.name)
    return {
        "kind": "client", "database": c.db.name, "login_user": c.user.name, "pool_user": pool.user.name,
        "vars": by_name(engine, c.vars), "start_vars": by_name(engine, c.start_vars),
        "kept": c.kept.settings, "start": c.start.settings, "sql": sql_as_data(c.sql),
        "vars_unchecked": bool(c.vars_unchecked), "kept_unchecked": bool(c.kept_unchecked),
        "statements": [[name, engine.table.describe(st)] for name, st in (c.statements or {}).items()],
        "unnamed": c.unnamed, "unnamed_settings": (
            settings_as_data(c.unnamed_settings) if c.unnamed_settings is not None else None),
        "key": c.cancel_key, "address": c.address, "unix": bool(c.is_unix),
        "peer": [c.peer_pid, c.peer_uid], "port": c.listen_port, "connected": c.connect_time,
        "accepted": c.accepted, "idle_since": c.idle_since, "requested": c.request_time,
        "keys": list(pool.user.keys) if pool.user.keys is not None else None,
        "found": list(found) if found is not None else None,
    }


def describe_server(Server s):
    """Everything about an idle server but its socket. It serves nobody any more: see forget_moved() and take_back()."""
    cdef Pool pool = s.pool
    cdef StatementTable table
    pool.idle.remove(s)
    s.pause(PAUSE_WAIT)
    family, address = s.address
    table = s.prepared.table
    statements = [table.describe(st) for number, st in table.by_number.items() if s.prepared.touch(<uint64_t>number)]
    return {
        "kind": "server", "database": pool.db.name, "pool_user": pool.user.name,
        "vars": by_name(pool.engine, s.vars), "welcome": pool.welcome,
        "base_vars": by_name(pool.engine, pool.base_vars) if pool.base_vars is not None else None,
        "reset_vars": by_name(pool.engine, pool.reset_vars) if pool.reset_vars is not None else None,
        "start_settings": pool.start_settings, "start_sql": sql_as_data(pool.start_sql),
        "kept": s.kept.settings, "sql": sql_as_data(s.sql), "version": s.version, "statements": statements,
        "strained": list(s.prepared.strained or ()), "key": s.cancel_key,
        "family": int(family), "address": list(address) if isinstance(address, tuple) else address, "host": s.host,
        "peer": [s.peer_addr, s.peer_port], "own": [s.own_addr, s.own_port],
        "connected": s.connect_time, "created": s.created, "since": s.since,
        "last_user": s.last_user.name if s.last_user is not None else None,
    }


def forget_moved(Stream stream):
    """The other process has it: close our descriptor of the socket, without a word on the wire."""
    cdef Client c
    cdef Server s
    if isinstance(stream, Client):
        c = <Client>stream
        if c.state != CL_IDLE:
            return
        forget_client(c)
        c.state = CL_GONE
        if c.home is not None:
            c.home.remove(c)
        c.detach()
        return
    s = <Server>stream
    if s.state == SV_GONE:
        return
    forget_server(s)


def take_back(Stream stream):
    """The other process is gone before it had it: go on here."""
    cdef Server s
    if isinstance(stream, Client):
        stream.unpause(PAUSE_WAIT)
        return
    s = <Server>stream
    if s.state == SV_IDLE and not s.closed:
        s.unpause(PAUSE_WAIT)
        s.make_available()


cdef dict by_name(Engine engine, tuple values):
    return {engine.tracked[i]: value for i, value in enumerate(values) if value is not None}


# --- the new process ----------------------------------------------------------------------------------------------

def accept_client(Engine engine, about, int fd):
    """A client that another process has had until now.

    Raises LookupError when it cannot be served here, and what else there may be; nothing of it is left then, and the
    descriptor is still the caller's.
    """
    cdef Database db = database_of(engine, about["database"])
    cdef User user = engine.host.user(about["login_user"])
    cdef Pool pool = pool_of(engine, db, about["pool_user"])
    cdef Client c = ClientConnection(engine.loop, engine)
    if about["keys"] is not None and pool.user.keys is None:
        pool.user.keys = tuple(about["keys"])
    if about["found"] is not None:
        db.found[pool.user.name] = tuple(about["found"])
    engine.client_count.take(0)
    db.clients.take(0)
    user.clients.take(0)
    c.counted = True
    c.db, c.user, c.pool = db, user, pool
    try:
        describe_here(c, about)
        c.attach(fd, EPOLLIN)
    except BaseException:
        c.fd = -1
        forget_client(c)
        c.state = CL_GONE
        c.detach()
        raise
    c.state = CL_IDLE
    pool.clients.append(c)
    return c


cdef int describe_here(Client c, about) except -1:
    """Take over what the other process has said of its client."""
    cdef Engine engine = c.engine
    cdef Statement st
    c.is_unix, c.address, c.listen_port = about["unix"], about["address"], about["port"]
    c.peer_pid, c.peer_uid = about["peer"]
    c.connect_time, c.accepted, c.request_time = about["connected"], about["accepted"], about["requested"]
    c.idle_since = about["idle_since"]
    c.vars = in_order(engine, about["vars"])
    c.start_vars = in_order(engine, about["start_vars"])
    c.kept = engine.states.intern(about["kept"], frozenset())
    c.start = engine.states.intern(about["start"], frozenset())
    c.sql = engine.table.described_sql(about["sql"])
    c.vars_unchecked, c.kept_unchecked = about["vars_unchecked"], about["kept_unchecked"]
    c.unnamed = about["unnamed"]
    if about["unnamed_settings"] is not None:
        c.unnamed_settings = engine.table.described(about["unnamed_settings"])
    if about["statements"]:
        c.statements = {}
        for name, described in about["statements"]:
            st = statement(engine, c.db, described)
            engine.table.acquire(st)
            c.statements[name] = st
    c.cancel_key = about["key"]
    if c.cancel_key is not None:
        engine.by_key[c.cancel_key] = c
    c.session = c.pool.mode == MODE_SESSION
    c.welcomed = True
    return 0


def accept_server(Engine engine, about, int fd):
    """An idle server that another process has had until now; it serves nobody before begin_server().

    Raises LookupError when it does not belong here, and what else there may be; nothing of it is left then, and the
    descriptor is still the caller's.
    """
    cdef Database db = database_of(engine, about["database"])
    cdef Pool pool = pool_of(engine, db, about["pool_user"])
    cdef Server s
    if pool.welcome is None and about["welcome"] is not None and about["base_vars"] is not None:
        pool.welcome = about["welcome"]
        pool.base_vars = in_order(engine, about["base_vars"])
        pool.reset_vars = in_order(engine, about["reset_vars"])
        pool.start_settings = about["start_settings"]
        pool.start_sql = engine.table.described_sql(about["start_sql"])
        pool.greet_anew()
    s = ServerConnection(engine.loop, pool)
    pool.slots.take(0)
    db.servers.take(0)
    pool.user.servers.take(0)
    try:
        describe_server_here(s, about)
        s.attach(fd, EPOLLIN)
    except BaseException:
        s.fd = -1
        forget_server(s)
        raise
    return s


cdef int describe_server_here(Server s, about) except -1:
    """Take over what the other process has said of its server."""
    cdef Engine engine = s.pool.engine
    s.vars = in_order(engine, about["vars"])
    s.kept = engine.states.intern(about["kept"], frozenset())
    s.sql = engine.table.described_sql(about["sql"])
    s.version = about["version"]
    if about["last_user"] is not None:
        s.last_user = engine.host.user(about["last_user"])
    s.foreign = True            # sequences may remember values of a client that nobody knows here
    for described in about["statements"]:
        s.prepared.add(statement(engine, s.pool.db, described).number)
    if about["strained"]:
        s.prepared.strained = dict.fromkeys(about["strained"], 0)
    s.cancel_key = about["key"]
    address = about["address"]
    s.address = (about["family"], tuple(address) if isinstance(address, list) else address)
    s.host = about["host"]
    s.peer_addr, s.peer_port = about["peer"]
    s.own_addr, s.own_port = about["own"]
    s.connect_time, s.created, s.since = about["connected"], about["created"], about["since"]
    s.status = s.xact = b"I"
    return 0


def begin_server(Server s):
    """The server is ours alone now: it serves clients."""
    s.make_available()
    for c in s.pool.logging_in.items():
        (<Client>c).login.finish(c)


cdef int forget_server(Server s) except -1:
    """Take the server out of every count, and close our descriptor."""
    s.state = SV_GONE
    s.prepared.clear()
    s.detach()
    s.pool.slots.give()
    s.pool.db.servers.give()
    s.pool.user.servers.give()
    return 0


cdef Database database_of(Engine engine, str name):
    cdef Database db = engine.databases.get(name) or engine.host.auto_database(name)
    if db is None:
        raise LookupError(f"no such database: {name}")
    return db


cdef Pool pool_of(Engine engine, Database db, str name):
    if db.conf.user is not None and db.conf.user != name:
        raise LookupError(f"database {db.name} has another user now")
    return engine.pool_for(db, engine.host.user(name))


cdef tuple in_order(Engine engine, dict values):
    """Tracked values by name as this process has them; what it does not track is dropped."""
    return engine.same_vars(tuple([values.get(name) for name in engine.tracked]))


cdef Statement statement(Engine engine, Database db, described):
    """The Statement that the other process has described, under its number there."""
    cdef StatementTable table = engine.table
    cdef Statement st = table.take_over(described)
    table.last = max(table.last, st.number + GAP)
    db.epoch = max(db.epoch, st.epoch)
    return st


def last_statement(Engine engine):
    """The highest number of a prepared statement so far."""
    return engine.table.last


def number_from(Engine engine, uint64_t first):
    """Give new statements numbers that no server of the former process can have."""
    engine.table.last = first
