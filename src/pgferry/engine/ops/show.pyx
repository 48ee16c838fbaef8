"""Rows for the console: what the engine holds, as maps for the control channel."""

import time

from libc.stdint cimport int64_t

from pgferry.engine.client.login_data cimport Login
from pgferry.engine.core.database cimport Database, User
from pgferry.engine.core.enums cimport (
    CL_ACTIVE, CL_LOGIN, CL_WAITING, SV_ACTIVE, SV_IDLE, SV_INTERNAL, SV_LOGIN, SV_TESTED, SV_USED,
)
from pgferry.engine.core.model cimport Client, Engine, Pool, Server
from pgferry.engine.core.session_state cimport State, size_of
from pgferry.engine.core.stats cimport Stats
from pgferry.engine.io.stream cimport Reactor, Stream, StreamList
from pgferry.engine.io.sys cimport monotonic
from pgferry.engine.session.pins cimport pin_reasons
from pgferry.engine.pool.cancel import Cancel
from pgferry.engine.core.model import MODE_NAMES

cdef double SLICE = 0.001       # seconds

REPLICATION = ("none", "logical", "physical")       # by model.Replication
SERVER_STATES = {SV_ACTIVE: ("active", "sv_active"), SV_IDLE: ("idle", "sv_idle"), SV_USED: ("used", "sv_used"),
                 SV_TESTED: ("tested", "sv_tested"), SV_LOGIN: ("new", "sv_login"),
                 SV_INTERNAL: ("internal", "sv_internal")}


cdef dict stream_fields(Stream s):
    """The buffer columns of SHOW SOCKETS: bytes held for the next message, bytes not sent."""
    return {"recv_pos": s.held.size, "pkt_pos": 0, "pkt_remain": 0, "send_pos": s.unsent_bytes.head,
            "send_remain": s.unsent(), "pkt_avail": s.held.size, "send_avail": s.unsent()}


def client_row(Client c):
    """One row of SHOW CLIENTS and SHOW SOCKETS."""
    cdef double now = c.loop.now
    cdef Server s = c.server
    cdef bint waiting = c.state == CL_WAITING or (c.state == CL_LOGIN and is_replication(c))
    cdef double start = c.times.wait_start if waiting else c.times.query_start
    host, port = c.remote() if not c.peer.is_unix else ("unix", c.peer.listen_port)
    own, own_port = c.local()
    state = "waiting" if waiting else "active" if c.state == CL_ACTIVE else "idle"
    row = stream_fields(c)
    row.update({
        "type": "C", "user": login_user(c), "database": login_database(c), "replication": replication(c),
        "state": state,
        "sock_state": "cl_login" if c.state == CL_LOGIN else "cl_waiting" if c.state == CL_WAITING else "cl_active",
        "addr": host, "port": port, "local_addr": own, "local_port": own_port, "connect_time": c.times.connect_time,
        "request_time": time.time() - (now - c.times.request_time) if c.times.request_time else 0.0,
        "wait_us": int((now - start) * 1e6) if start else 0, "close_needed": 0, "ptr": f"0x{c.id:x}",
        "link": f"0x{s.id:x}" if s is not None else "", "remote_pid": c.peer.peer_pid,
        "tls": c.tls.info if c.tls is not None else "",
        "application_name": application_name(c.engine, c.vars),
        "prepared_statements": len(c.names.statements) if c.names.statements is not None else 0, "id": c.id,
    })
    row["pkt_remain"] = c.passing
    return row


cdef bint is_replication(Client c) noexcept:
    return c.pool is not None and c.pool.main_pool is not None


cdef str replication(Client c):
    if not is_replication(c):
        return "none"
    if c.server is not None:
        return REPLICATION[c.server.replication]
    return REPLICATION[(<Login>c.login).startup.replication] if c.login is not None else "none"


cdef str login_user(Client c):
    if c.console_user is not None:
        return c.console_user
    if c.user is not None:
        return c.user.name
    return getattr(c.login, "username", None) or "(nouser)"


cdef str login_database(Client c):
    if c.tunnel is not None:
        return "pgbouncer"
    if c.db is not None:
        return c.db.name
    return getattr(c.login, "database", None) or "(nodb)"


cdef str application_name(Engine engine, tuple vars):
    cdef int index = engine.parameters.index["application_name"]
    if vars is None or len(vars) <= index or vars[index] is None:
        return ""
    return vars[index].decode("utf-8", "replace")


def server_row(Server s):
    """One row of SHOW SERVERS and SHOW SOCKETS."""
    cdef double now = s.loop.now
    cdef Client c = s.client
    state, sock_state = SERVER_STATES.get(s.state, ("being_canceled", "sv_being_canceled"))
    if s.cancels and s.state == SV_ACTIVE:
        state = "active_cancel"
    row = stream_fields(s)
    row.update({
        "type": "S", "user": s.pool.user.name, "database": s.pool.db.name,
        "replication": REPLICATION[s.replication], "state": state,
        "sock_state": sock_state, "addr": s.ends.peer_addr or "", "port": s.ends.peer_port,
        "local_addr": s.ends.own_addr or "",
        "local_port": s.ends.own_port, "connect_time": s.ends.connect_time,
        "request_time": time.time() - (now - s.since),
        "wait_us": int((now - c.times.query_start) * 1e6) if c is not None and c.times.query_start else 0,
        "close_needed": int(s.close_needed), "ptr": f"0x{s.id:x}", "link": f"0x{c.id:x}" if c is not None else "",
        "remote_pid": int.from_bytes(s.ends.cancel_key[:4], "big") if s.ends.cancel_key else 0,
        "tls": s.tls.info if s.tls is not None else "",
        "application_name": application_name(s.pool.engine, s.vars), "prepared_statements": s.prepared.count,
        "id": s.id,
    })
    row["pkt_remain"] = s.relay.passing
    return row


def clients(Engine engine, bint with_logins):
    """SHOW CLIENTS, in slices; with_logins: also those that are still logging in (SHOW SOCKETS)."""
    return in_slices(client_streams(engine, with_logins), client_row)


cdef list client_streams(Engine engine, bint with_logins):
    cdef list found = []
    cdef Pool pool
    for item in engine.pools():
        pool = <Pool>item
        found += pool.clients.items() + pool.waiting.items()
        if with_logins or pool.main_pool is not None:
            found += pool.logging_in.items()
    found += engine.connecting.consoles.items()
    if with_logins:
        found += engine.connecting.logins.items()
    return found


def servers(Engine engine):
    """SHOW SERVERS, in slices: those that serve clients, and the connections that listen for them.

    The one that reads the catalog is not shown: whoever counts these rows counts the pools' servers.
    """
    return in_slices([s for pool in engine.pools() for s in pool.servers() if is_shown(s)], server_row)


def in_slices(list streams, make):
    """Rows of these streams, as many at a time as are made in SLICE seconds; those that are gone by then have none."""
    cdef double began = monotonic()
    cdef list rows = []
    for stream in streams:
        if (<Stream>stream).closed:
            continue
        rows.append(make(stream))
        if monotonic() - began > SLICE:
            yield rows
            rows = []
            began = monotonic()
    yield rows


def crowd(Engine engine):
    """How many clients there are of each application_name, user and database, in slices: the rows with the last one."""
    cdef dict counts = {}
    cdef Client c
    cdef double began = monotonic()
    for stream in client_streams(engine, False):
        c = <Client>stream
        if c.closed:
            continue
        key = (login_database(c), login_user(c), application_name(c.engine, c.vars))
        counts[key] = counts.get(key, 0) + 1
        if monotonic() - began > SLICE:
            yield []
            began = monotonic()
    yield [{"database": database, "user": user, "application_name": name, "count": n}
           for (database, user, name), n in counts.items()]


cdef bint is_shown(Server s) except -1:
    return not s.internal or s.job.is_wanted()


def pools(Engine engine):
    """SHOW POOLS."""
    cdef list rows = []
    cdef Pool pool
    cdef StreamList queue
    for item in engine.pools():
        pool = <Pool>item
        # Replication clients wait in their login; SHOW POOLS adds their pool to the ordinary one.
        queue = pool.waiting if pool.main_pool is None else pool.logging_in
        oldest = queue.head
        wait = engine.loop.now - (<Client>oldest).times.wait_start if oldest is not None else 0.0
        hosts = pool.db.conf.hosts
        rows.append({
            "database": pool.db.name, "user": pool.user.name, "cl_active": pool.clients.count,
            "cl_waiting": queue.count, "cl_active_cancel_req": len(pool.cancels.sent),
            "cl_waiting_cancel_req": len(pool.cancels.waiting), "sv_active": pool.endpoint.active.count,
            "sv_active_cancel": len(pool.cancels.sent), "sv_being_canceled": pool.endpoint.being_canceled.count,
            "sv_idle": pool.endpoint.idle.count, "sv_used": pool.endpoint.used.count,
            "sv_tested": pool.endpoint.tested.count,
            "sv_login": pool.endpoint.fresh.count, "maxwait_us": int(wait * 1e6),
            "pool_mode": MODE_NAMES[(pool.main_pool or pool).settings.mode],
            "load_balance_hosts": (pool.db.conf.load_balance_hosts or "round-robin") if len(hosts) > 1 else None,
        })
    return rows


def current(counted):
    """(clients, servers) that this worker holds of a database or user."""
    cdef Database db
    cdef User user
    if isinstance(counted, Database):
        db = <Database>counted
        return db.clients.own(), db.servers.own()
    user = <User>counted
    return user.clients.own(), user.servers.own()


def stats(Engine engine):
    """Totals of each database (SHOW STATS)."""
    cdef list rows = []
    cdef Stats total
    for db in engine.databases.values():
        total = Stats()
        total.add((<Database>db).former)
        for pool in db.pools.values():
            total.add((<Pool>pool).counted())
        row = total.as_row()
        if not db.pools and not any(row.values()):
            continue        # nobody has ever asked for it
        row["database"] = db.name
        rows.append(row)
    return rows


def times(Engine engine):
    """The histograms of every pool, packed (see times), with the sums that belong to them in seconds."""
    cdef list rows = []
    cdef Pool pool
    for item in engine.pools():
        pool = <Pool>item
        if pool.main_pool is not None:
            continue        # how long a replication command takes says nothing about queries
        rows.append({
            "database": pool.db.name, "user": pool.user.name, "times": pool.times.row(),
            "seconds": {"query": pool.stats.query_time, "xact": pool.stats.xact_time,
                        "wait": pool.stats.wait_time, "connect": pool.times.seconds},
        })
    return rows


def worker(Engine engine):
    """What one worker tells about itself."""
    cdef Reactor loop = engine.loop
    return [{"worker": engine.index, "turns": loop.turns, "lag": engine.lag.packed(0),
             "lag_seconds": engine.lag.seconds,
             "clients": engine.client_count.own(), "statements": len(engine.table.by_number),
             "buffers": loop.memory.buffers, "buffered": loop.memory.bytes, "states": len(engine.states)}]


def lists(Engine engine):
    """The figures of SHOW LISTS that a worker knows."""
    cdef int logging_in = engine.connecting.logins.count, used_clients = engine.connecting.consoles.count
    cdef int free = 0, used = 0
    cdef Pool pool
    found = engine.pools()
    for item in found:
        pool = <Pool>item
        logging_in += pool.logging_in.count
        used_clients += pool.clients.count + pool.waiting.count
        free += pool.endpoint.idle.count + pool.endpoint.used.count
        used += pool.server_count() - pool.endpoint.idle.count - pool.endpoint.used.count
    return [{"databases": len(engine.databases), "users": len(engine.users), "peers": 0, "pools": len(found),
             "peer_pools": 0, "free_clients": 0, "used_clients": used_clients, "login_clients": logging_in,
             "free_servers": free, "used_servers": used, "dns_names": 0, "dns_zones": 0, "dns_queries": 0,
             "dns_pending": 0}]


def mem(Engine engine):
    """SHOW MEM: objects by kind with their size in bytes, and the buffers that are in use now."""
    cdef Reactor loop = engine.loop
    found = engine.pools()
    n_servers = sum([pool.total_servers for pool in found])
    without_pool = engine.connecting.logins.count + engine.connecting.consoles.count + engine.connecting.closing.count
    n_clients = without_pool + sum(
        [(<Pool>pool).clients.count + (<Pool>pool).waiting.count + (<Pool>pool).logging_in.count for pool in found])
    n_statements = sum([(<Server>s).prepared.count for pool in found for s in pool.servers()])
    kinds = [
        ("user_cache", User, len(engine.users)), ("credentials_cache", User, 0),
        ("db_cache", Database, len(engine.databases)),
        ("peer_cache", User, 0), ("peer_pool_cache", Pool, 0), ("pool_cache", Pool, len(found)),
        ("outstanding_request_cache", Cancel, len(engine.cancel_keys.cancels)), ("server_cache", Server, n_servers),
        ("client_cache", Client, n_clients),
    ]
    rows = [{"name": name, "size": kind.__basicsize__, "used": used, "free": 0, "memtotal": kind.__basicsize__ * used}
            for name, kind, used in kinds]
    size = loop.memory.bytes // loop.memory.buffers if loop.memory.buffers else loop.memory.chunk
    rows.append({"name": "iobuf_cache", "size": size, "used": loop.memory.buffers, "free": 0,
                 "memtotal": loop.memory.bytes})
    rows.append({"name": "var_list_cache", "size": 56 + 8 * len(engine.parameters.names), "used": n_clients + n_servers,
                 "free": 0, "memtotal": (56 + 8 * len(engine.parameters.names)) * (n_clients + n_servers)})
    rows.append({"name": "server_prepared_statement_cache", "size": 16, "used": n_statements, "free": 0,
                 "memtotal": 16 * n_statements})
    return rows + session_memory(engine)


cdef list session_memory(Engine engine):
    """The rows of SHOW MEM about session state: objects of sizes of their own, with the bytes of their texts."""
    cdef dict found = {name: [0, 0] for name in ("session_state", "session_restore", "sql_prepared_statement",
                                                 "pending_notification", "statement_verdict")}
    cdef Client c
    cdef Database db
    cdef State state
    for item in engine.states.all():
        state = <State>item
        add(found, "session_state", 1, state.size + state.transitions_size)
    for pool in engine.pools():
        for item in (<Pool>pool).clients.items() + (<Pool>pool).waiting.items():
            c = <Client>item
            if c.tracker.restore is not None:
                add(found, "session_restore", 1, len(c.tracker.restore.message or b""))
            if c.tracker.sql is not None:
                texts = {name: value[0] for name, value in c.tracker.sql.items()}
                add(found, "sql_prepared_statement", len(c.tracker.sql), size_of(texts, frozenset()))
            if c.subscription.deferred:
                add(found, "pending_notification", len(c.subscription.deferred), c.subscription.held_size)
    for item in engine.databases.values():
        db = <Database>item
        add(found, "statement_verdict", len(db.catalog.verdicts), db.catalog.verdict_bytes)
    return [{"name": name + "_cache", "size": total // used if used else 0, "used": used, "free": 0,
             "memtotal": total} for name, (used, total) in found.items()]


cdef int add(dict found, str name, size_t used, size_t total) except -1:
    found[name][0] += used
    found[name][1] += total
    return 0


# --- session state ----------------------------------------------------------------------------------------------

def pins(Engine engine):
    """SHOW PINS."""
    cdef list rows = []
    cdef Client c
    for pool in engine.pools():
        for item in (<Pool>pool).clients.items():
            c = <Client>item
            if c.pin.pins and c.server is not None:
                rows.append({
                    "database": c.pool.db.name, "user": c.pool.user.name, "client": f"0x{c.id:x}",
                    "server": f"0x{c.server.id:x}", "reasons": pin_reasons(c),
                    "age_us": int((c.loop.now - c.pin.pinned_at) * 1e6), "transactions": c.pin.pinned_xacts,
                    "application_name": application_name(engine, c.vars),
                })
    return rows


def state_counters(Engine engine):
    """SHOW STATE_COUNTERS."""
    cdef Pool pool
    cdef list rows = []
    for item in engine.pools():
        pool = <Pool>item
        counts = pool.state_counts | ({("restores", ""): pool.restores} if pool.restores else {})
        rows += [{"database": pool.db.name, "user": pool.user.name, "counter": counter, "reason": reason, "count": n}
                 for (counter, reason), n in sorted(counts.items())]
    return rows


def client_state(Engine engine, int64_t client_id):
    """SHOW CLIENT_STATE; None when this worker has no such client."""
    cdef Client c = None
    cdef list rows = []
    for pool in engine.pools():
        for group in ((<Pool>pool).clients, (<Pool>pool).waiting):
            for item in group.items():
                if (<Client>item).id == client_id:
                    c = <Client>item
    if c is None:
        return None

    def row(kind, name, value, source):
        rows.append({"kind": kind, "name": name, "value": value, "source": source})

    for name, value in sorted(c.tracker.start.settings.items()):
        row("start", name.decode("utf-8", "replace"), value.decode("utf-8", "replace"), "startup")
    for name, value in sorted(c.tracker.session_state.settings.items()):
        if c.tracker.start.settings.get(name) == value:
            continue
        kind = "role" if name in (b"role", b"session_authorization") else "setting"
        row(kind, name.decode("utf-8", "replace"), value.lstrip(b"\0").decode("utf-8", "replace"),
            "session" if value[:1] == b"\0" else "probe")
    for name, value in sorted((c.tracker.sql or {}).items()):
        row("prepared", name.decode("utf-8", "replace"), value[0].decode("utf-8", "replace"), "probe")
    for name in sorted(c.tracker.session_state.channels):
        row("listen", name.decode("utf-8", "replace"), "", "probe")
    if c.pin.pins:
        row("pin", pin_reasons(c), c.reason or "", "probe")
    return rows
