"""Clients and servers as data, so that another process can go on with their sockets (online upgrade, see -R).

Only what is at rest is given away: a client between two transactions without a server, a server that is idle. What
their sessions hold goes along: tracked parameters, settings, prepared statements, the cancel key. What cannot be
told in data stays where it is until it is over: TLS, LISTEN, pins, session mode with a server, the console.
"""

from libc.stdint cimport uint64_t

from pgferry.engine.client.login_data cimport finish_login
from pgferry.engine.core.database cimport Database, User
from pgferry.engine.core.enums cimport CL_GONE, CL_IDLE, POOL_CLIENTS, SV_GONE, SV_IDLE
from pgferry.engine.core.model cimport Client, Engine, Pool, Server
from pgferry.engine.core.statements cimport ParseSettings, Statement, StatementTable, settings_as_data, sql_as_data
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
        for s in pool.endpoint.idle.items():
            if is_movable_server(<Server>s):
                found.append(s)
                if len(found) >= limit:
                    return found
    return found


cdef bint is_movable(Client c) except -1:
    if c.state != CL_IDLE or c.server is not None or c.login is not None or c.tunnel is not None or c.fd < 0:
        return False
    if c.held.size or c.passing or c.unsent() or c.blocked or c.broken or c.paused or c.times.query_start or c.pin.pins:
        return False
    if (c.names.undos or c.subscription.deferred or c.subscription.awaited or c.names.deallocating
            or c.subscription.early or getattr(c, "tls", None) is not None):
        return False
    if c.tracker.session_state.channels or c.tracker.start.channels or c.names.reset_due is not None:
        return False
    found = c.db.found.get(c.pool.user.name)
    return found is None or isinstance(found[0], str)


cdef bint is_movable_server(Server s) except -1:
    if s.state != SV_IDLE or s.client is not None or s.login is not None or not s.is_clean() or s.close_needed:
        return False
    if (s.cancels or s.job is not None or s.probe.pending_effects or s.probe.unlisted or s.unsure.ddl
            or s.relay.barrier_needed or s.fd < 0):
        return False
    if s.replay.restoring:
        return False
    return (getattr(s, "tls", None) is None and not s.session_state.channels and not s.unsure.ddl
            and not s.current.notify_barrier
            and s.last.announced == 0
            and s.held.size == 0)


def describe_client(Client c):
    """Everything about a client but its socket. It is not read any more: see forget_moved() and take_back()."""
    cdef Pool pool = c.pool
    cdef Engine engine = c.engine
    c.pause(PAUSE_WAIT)
    found = c.db.found.get(pool.user.name)
    return {
        "kind": "client", "database": c.db.name, "login_user": c.user.name, "pool_user": pool.user.name,
        "vars": by_name(engine, c.vars), "start_vars": by_name(engine, c.tracker.start_vars),
        "kept": c.tracker.session_state.settings, "start": c.tracker.start.settings, "sql": sql_as_data(c.tracker.sql),
        "vars_unchecked": bool(c.tracker.vars_unchecked), "kept_unchecked": bool(c.tracker.start_unchecked),
        "statements": [[name, engine.table.describe(st)] for name, st in (c.names.statements or {}).items()],
        "unnamed": c.names.unnamed, "unnamed_settings": (
            settings_as_data(c.names.unnamed_settings) if c.names.unnamed_settings is not None else None),
        "key": c.peer.cancel_key, "address": c.peer.address, "unix": bool(c.peer.is_unix),
        "peer": [c.peer.peer_pid, c.peer.peer_uid], "port": c.peer.listen_port, "connected": c.times.connect_time,
        "accepted": c.times.accepted, "idle_since": c.times.idle_since, "requested": c.times.request_time,
        "keys": list(pool.user.keys) if pool.user.keys is not None else None,
        "found": list(found) if found is not None else None,
    }


def describe_server(Server s):
    """Everything about an idle server but its socket. It serves nobody any more: see forget_moved() and take_back()."""
    cdef Pool pool = s.pool
    cdef StatementTable table
    pool.endpoint.idle.remove(s)
    s.pause(PAUSE_WAIT)
    family, address = s.ends.address
    table = s.prepared.table
    statements = [table.describe(st) for number, st in table.by_number.items() if s.prepared.touch(<uint64_t>number)]
    return {
        "kind": "server", "database": pool.db.name, "pool_user": pool.user.name,
        "vars": by_name(pool.engine, s.vars), "welcome": pool.endpoint.server_parameters,
        "base_vars": by_name(pool.engine, pool.endpoint.base_vars) if pool.endpoint.base_vars is not None else None,
        "reset_vars": by_name(pool.engine, pool.endpoint.reset_vars) if pool.endpoint.reset_vars is not None else None,
        "start_settings": pool.endpoint.start_settings, "start_sql": sql_as_data(pool.endpoint.start_sql),
        "kept": s.session_state.settings, "sql": sql_as_data(s.sql), "version": s.login_parameters.version,
        "statements": statements,
        "strained": list(s.prepared.strained or ()), "key": s.ends.cancel_key,
        "family": int(family), "address": list(address) if isinstance(address, tuple) else address, "host": s.ends.host,
        "peer": [s.ends.peer_addr, s.ends.peer_port], "own": [s.ends.own_addr, s.ends.own_port],
        "connected": s.ends.connect_time, "created": s.ends.created, "since": s.since,
        "last_user": s.last.last_user.name if s.last.last_user is not None else None,
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
        c.enter(CL_GONE)
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
    return {engine.parameters.names[i]: value for i, value in enumerate(values) if value is not None}


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
        pool.user.proved_with(tuple(about["keys"]))
    if about["found"] is not None:
        db.found[pool.user.name] = tuple(about["found"])
    engine.client_count.take(0)
    db.clients.take(0)
    user.clients.take(0)
    c.is_counted()
    c.db_is(db)
    c.user_is(user)
    c.pool_is(pool)
    try:
        describe_here(c, about)
        c.attach(fd, EPOLLIN)
    except BaseException:
        c.forget_descriptor()
        forget_client(c)
        c.enter(CL_GONE)
        c.detach()
        raise
    c.restored()
    pool.clients.append(c)
    return c


cdef int describe_here(Client c, about) except -1:
    """Take over what the other process has said of its client."""
    cdef Engine engine = c.engine
    cdef ParseSettings settings = None
    c.peer.restore(about)
    c.tracker.start_with_vars(in_order(engine, about["start_vars"]), about["vars_unchecked"])
    c.tracker.start_with(engine.states.intern(about["start"], frozenset()), engine.table.described_sql(about["sql"]),
                         about["kept_unchecked"])
    c.tracker.learn_state(engine.states.intern(about["kept"], frozenset()))
    c.restore(in_order(engine, about["vars"]), about)
    if about["unnamed_settings"] is not None:
        settings = engine.table.described(about["unnamed_settings"])
    c.names.restore(about["unnamed"], settings)
    for name, described in about["statements"]:
        c.names.restore_statement(engine.table, name, statement(engine, c.db, described))
    if c.peer.cancel_key is not None:
        engine.cancel_keys.by_key[c.peer.cancel_key] = c
    c.adopt_mode()
    return 0


def accept_server(Engine engine, about, int fd):
    """An idle server that another process has had until now; it serves nobody before begin_server().

    Raises LookupError when it does not belong here, and what else there may be; nothing of it is left then, and the
    descriptor is still the caller's.
    """
    cdef Database db = database_of(engine, about["database"])
    cdef Pool pool = pool_of(engine, db, about["pool_user"])
    cdef Server s
    if pool.endpoint.server_parameters is None and about["welcome"] is not None and about["base_vars"] is not None:
        pool.endpoint.parameters_are(
            in_order(engine, about["base_vars"]), in_order(engine, about["reset_vars"]), about["welcome"])
        pool.endpoint.start_is(about["start_settings"], engine.table.described_sql(about["start_sql"]))
    s = ServerConnection(engine.loop, pool)
    pool.slots.take(0)
    db.servers.take(0)
    pool.user.servers.take(0)
    try:
        describe_server_here(s, about)
        s.attach(fd, EPOLLIN)
    except BaseException:
        s.forget_descriptor()
        forget_server(s)
        raise
    return s


cdef int describe_server_here(Server s, about) except -1:
    """Take over what the other process has said of its server."""
    cdef Engine engine = s.pool.engine
    s.restore(in_order(engine, about["vars"]), engine.states.intern(about["kept"], frozenset()),
              engine.table.described_sql(about["sql"]), about["since"])
    s.login_parameters.told(None, about["version"])
    s.last.restore(engine.host.user(about["last_user"]) if about["last_user"] is not None else None)
    for described in about["statements"]:
        s.prepared.add(statement(engine, s.pool.db, described).number)
    s.prepared.restore_strained(about["strained"])
    s.ends.restore(about)
    return 0


def begin_server(Server s):
    """The server is ours alone now: it serves clients."""
    s.make_available()
    for c in s.pool.logging_in.items():
        finish_login(<Client>c)


cdef int forget_server(Server s) except -1:
    """Take the server out of every count, and close our descriptor."""
    s.enter(SV_GONE)
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
    return engine.same_vars(tuple([values.get(name) for name in engine.parameters.names]))


cdef Statement statement(Engine engine, Database db, described):
    """The Statement that the other process has described, under its number there."""
    cdef StatementTable table = engine.table
    cdef Statement st = table.take_over(described)
    table.number_behind(max(table.last, st.number + GAP))
    db.epoch_is_over(st.epoch)
    return st


def last_statement(Engine engine):
    """The highest number of a prepared statement so far."""
    return engine.table.last


def number_from(Engine engine, uint64_t first):
    """Give new statements numbers that no server of the former process can have."""
    engine.table.number_behind(first)
