"""Databases, users, pools, clients and servers: their fields, and which module acts on which event.

The engine is one object graph owned by one thread. A client belongs to a pool and may be linked to a server; a
server belongs to a pool and may be linked to a client. Links are made and undone in `pooling` only. Bytes of
clients are judged in `client_relay`, bytes of servers in `server_relay`; both only while login is over.
"""

import os
import traceback
from weakref import WeakValueDictionary

from pgferry.engine.wire.address cimport address_text, local_address
from pgferry.engine.client.login cimport login_feed
from pgferry.engine.client.relay cimport client_feed, tunnel_feed
from pgferry.engine.session.classify cimport base_words, ending_words, only_default, use_knowledge
from pgferry.engine.shared.ledger cimport Ledger
from pgferry.engine.io.loop cimport PAUSE_PEER, PAUSE_WAIT, Loop, Stream, StreamList
from pgferry.engine.wire.messages cimport notice_message
from pgferry.engine.core.plan cimport Plan
from pgferry.engine.pool.pooling cimport client_gone, client_hung_up, finish_closing, maybe_release, server_gone
from pgferry.engine.core.statements cimport ServerStatements, StatementTable
from pgferry.engine.server.login cimport server_connected, server_login_feed, server_secure
from pgferry.engine.server.relay cimport server_feed
from pgferry.engine.server.splice cimport splice_on
from pgferry.engine.core.session_state cimport intern_state
from pgferry.engine.io.sys cimport EPOLLERR, EPOLLHUP, EPOLLOUT, realtime
from pgferry.engine.io.text cimport Text
from pgferry.engine.shared.times cimport Times

from pgferry.tls.certificate import peer_certificate

cdef enum:
    SHORT = 4096        # bytes of values of tracked parameters that are remembered to be shared

MODES = {"session": MODE_SESSION, "transaction": MODE_TRANSACTION, "statement": MODE_STATEMENT}
MODE_NAMES = ("session", "transaction", "statement")
ALWAYS_TRACKED = ("client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings", "application_name")


cdef class Stats:
    """Totals of a pool since start."""

    def add(self, Stats other):
        """Add another pool's totals."""
        self.server_assignment_count += other.server_assignment_count
        self.xact_count += other.xact_count
        self.query_count += other.query_count
        self.received += other.received
        self.sent += other.sent
        self.xact_time += other.xact_time
        self.query_time += other.query_time
        self.wait_time += other.wait_time
        self.client_parse_count += other.client_parse_count
        self.server_parse_count += other.server_parse_count
        self.bind_count += other.bind_count
        self.client_login_count += other.client_login_count

    def as_row(self):
        """The counters by name, times in whole microseconds (the `stats` rows of the control channel)."""
        return {
            "server_assignment_count": self.server_assignment_count,
            "xact_count": self.xact_count,
            "query_count": self.query_count,
            "received": self.received,
            "sent": self.sent,
            "xact_time": int(self.xact_time * 1e6),
            "query_time": int(self.query_time * 1e6),
            "wait_time": int(self.wait_time * 1e6),
            "client_parse_count": self.client_parse_count,
            "server_parse_count": self.server_parse_count,
            "bind_count": self.bind_count,
            "client_login_count": self.client_login_count,
        }


cdef class User:
    """A user name with its secret and its limits."""

    def __init__(self, Engine engine, str name):
        self.name = name
        self.clients = engine.ledger.counter("user-clients", name)
        self.servers = engine.ledger.counter("user-servers", name)
        self.wanting = engine.ledger.counter("user-wanting", name)


cdef class Database:
    """An entry of [databases], or one made from `*`."""

    def __init__(self, Engine engine, str name):
        self.name = name
        self.pools = {}
        self.found = {}
        self.former = Stats()
        self.clients = engine.ledger.counter("db-clients", name)
        self.servers = engine.ledger.counter("db-servers", name)
        self.wanting = engine.ledger.counter("db-wanting", name)
        self.used_at = engine.loop.now
        self.sessions = []
        self.listening = engine.ledger.counter("listening", name)
        self.hubs = engine.ledger.counter("hubs", name)
        self.ddl = engine.ledger.counter("ddl", name)
        self.ddl_seen = self.ddl.total()
        self.definers = engine.ledger.counter("definers", name)
        use_knowledge(self, engine, None)


cdef class Pool:
    """The servers of one (database, user) pair and the clients that share them."""

    def __init__(self, Engine engine, Database db, User user, key):
        cdef str kind = "lookup-" if key == ("lookup", user.name) else ""
        self.engine = engine
        self.db = db
        self.user = user
        self.key = key
        self.clients = StreamList()
        self.waiting = StreamList()
        self.logging_in = StreamList()
        self.fresh = StreamList()
        self.idle = StreamList()
        self.used = StreamList()
        self.tested = StreamList()
        self.active = StreamList()
        self.being_canceled = StreamList()
        self.internals = StreamList()
        self.cancels_waiting = []
        self.cancels_sent = []
        self.greeted = object()
        self.canon = {}
        self.start_settings = {}
        self.stats = Stats()
        self.times = Times()
        self.state_counts = {}
        self.pins = engine.ledger.counter("pins", db.name, user.name)
        self.slots = engine.ledger.counter(kind + "pool", db.name, user.name)
        self.wanting = engine.ledger.counter(kind + "wanting", db.name, user.name)

    cdef int server_count(self) noexcept:
        return (self.fresh.count + self.idle.count + self.used.count + self.tested.count + self.active.count
                + self.being_canceled.count)

    def servers(self):
        """All servers, in the order of SHOW SERVERS."""
        cdef list found = []
        for group in (self.active, self.idle, self.used, self.tested, self.fresh, self.being_canceled,
                      self.internals):
            found.extend(group.items())
        return found

    def welcome_stale(self):
        """New clients wait for a fresh login to PostgreSQL, which may report other parameters."""
        self.welcome = None
        self.canon.clear()
        self.greet_anew()

    cdef Stats counted(self):
        """The totals for SHOW STATS: how long a replication command takes says nothing about queries."""
        if self.ordinary is not None:
            self.stats.query_time = self.stats.xact_time = 0
        return self.stats

    cdef int greet_anew(self) except -1:
        """welcome, base_vars or canon have changed: no greeting made so far is right any more."""
        self.greeted = object()
        return 0

    cdef int learn(self, int index, bytes value, bytes canonical) except -1:
        """PostgreSQL reports a value that was set for a client as `canonical`."""
        cdef tuple key = (index, value)
        if len(value) + len(canonical) > SHORT:
            return 0
        if self.canon.get(key) != canonical:
            if len(self.canon) > 4096:
                self.canon.clear()
            self.canon[key] = canonical
            self.greet_anew()
        return 0

    @property
    def total_servers(self):
        return self.server_count()

    @property
    def name(self):
        return f"{self.db.name}/{self.user.name}"


cdef class Server(Stream):
    """A connection to PostgreSQL."""

    def __init__(self, Loop loop, Pool pool):
        self.pool = pool
        self.id = pool.engine.new_id()
        self.plan = Plan()
        self.prepared = ServerStatements(pool.engine.table)
        self.state = SV_LOGIN
        self.created = self.since = loop.now
        self.connect_time = realtime()
        self.vars = ()
        self.kept = pool.engine.no_state

    cdef int on_event(self, uint32_t events) except -1:
        if self.login is not None and self.login.connecting:
            if events & (EPOLLOUT | EPOLLERR | EPOLLHUP):
                return server_connected(self)
            return 0
        return Stream.on_event(self, events)

    cdef ssize_t feed(self, const char *data, size_t n) except -1:
        if self.login is not None:
            return server_login_feed(self, data, n)
        return server_feed(self, data, n)

    cdef int on_ready(self) except -1:
        if self.muted and self.passing and splice_on(self):
            return 0
        return Stream.on_ready(self)

    cdef int on_eof(self) except -1:
        return server_gone(self)

    cdef int on_secure(self) except -1:
        return server_secure(self)

    cdef int on_drained(self) except -1:
        if self.client is not None:
            self.client.unpause(PAUSE_PEER)
            return maybe_release(self)
        return 0


cdef class Client(Stream):
    """A connection from an application."""

    def __init__(self, Loop loop, Engine engine):
        self.engine = engine
        self.id = engine.new_id()
        self.state = CL_LOGIN
        self.accepted = self.idle_since = loop.now
        self.connect_time = realtime()
        self.vars = ()
        self.kept = self.start = engine.no_state
        self.start_vars = ()

    def remote(self):
        """(host, port) of the application's end."""
        return address_text(self.address)

    def certificate(self):
        """The tls.certificate.Certificate that the client has shown and that is valid; None: none."""
        return peer_certificate(self.tls.ssl) if self.tls is not None and not self.tls.shaking else None

    def local(self):
        """(host, port) of our end."""
        if self.is_unix or self.fd < 0:
            return ("unix", self.listen_port)
        if self.own_address is None:
            self.own_address = local_address(self.fd)
        return address_text(self.own_address)

    cdef ssize_t feed(self, const char *data, size_t n) except -1:
        cdef ssize_t used
        if self.login is not None:
            used = login_feed(self, data, n)
            if self.ending and self.paused & PAUSE_WAIT and self.login is not None and not self.closed:
                client_gone(self)           # the end came with the packet: nobody would tell of it any more
                return used
            if 0 < used < <ssize_t>n and not self.closed:
                self.loop.again(self)       # the login takes one packet at a time
            return used
        if self.tunnel is not None:
            return tunnel_feed(self, data, n)
        return client_feed(self, data, n)

    cdef int on_eof(self) except -1:
        return client_gone(self)

    cdef int on_hangup(self) except -1:
        return client_hung_up(self)

    cdef int on_drained(self) except -1:
        if self.state == CL_CLOSING:
            return finish_closing(self)
        if self.server is not None:
            return self.server.unpause(PAUSE_PEER)
        if self.tunnel is not None:
            return self.tunnel.unpause(PAUSE_PEER)
        return 0


cdef class Engine:
    """Everything a worker holds. Settings are copied into fields by worker.configure."""

    def __init__(self, Loop loop, Ledger ledger, int index, int workers, host, log):
        self.loop = loop
        self.ledger = ledger
        self.index = index
        self.workers = workers
        self.host = host
        self.log = log
        loop.on_bug = self.report_bug
        self.table = StatementTable()
        self.databases = {}
        self.users = {}
        self.by_key = {}
        self.logins = StreamList()
        self.closing = StreamList()
        self.consoles = StreamList()
        self.startups = {}
        self.seen_vars = {}
        self.new_greetings("")
        self.cancels = set()
        self.peers = {}
        self.tracked = list(ALWAYS_TRACKED)
        self.tracked_index = {name.lower(): i for i, name in enumerate(self.tracked)}
        self.spelled = {}
        self.always_tracked = len(ALWAYS_TRACKED)
        self.reported_by_some = set()
        self.client_count = ledger.counter("clients")
        self.base_words = base_words()
        self.enders = ending_words()
        self.default_word = only_default()
        self.states = WeakValueDictionary()
        self.no_state = intern_state(self, {}, frozenset())
        self.omit = set(filter(None, os.environ.get("PGFERRY_TEST_OMIT", "").split(",")))
        self.harmless_functions = frozenset()
        self.max_packet_size = 2147483647
        self.accepting = True
        self.lag = Times()
        self.ends = {}

    cdef int64_t new_id(self) noexcept:
        """Ids are shared by clients and servers and unique over all workers."""
        self.last_id += 1
        return self.last_id * self.workers + self.index

    cdef tuple same_vars(self, tuple values):
        """These tracked values as the object that stands for them, so that equal ones are nearly always the same."""
        found = self.seen_vars.get(values)
        if found is not None:
            return found
        if sum([len(<bytes>value) for value in values if value is not None]) > SHORT:
            return values
        if len(self.seen_vars) >= 1024:
            self.seen_vars.clear()
        self.seen_vars[values] = values
        return values

    cdef object index_of(self, bytes name):
        """The index of a tracked parameter as a server names it; None: it is not tracked."""
        found = self.spelled.get(name)
        if found is None:
            found = self.tracked_index.get(name.decode("utf-8", "replace").lower())
            if found is not None and len(self.spelled) < 1024 and len(name) < 256:
                self.spelled[name] = found
        return found

    cdef Pool pool_for(self, Database db, User user):
        """The pool of this pair; made on first use."""
        cdef Pool pool = db.pools.get(user.name)
        if pool is None:
            pool = Pool(self, db, user, user.name)
            db.pools[user.name] = pool
            self.host.configure_pool(pool)
        return pool

    def new_greetings(self, str notice):
        """The configuration is a new one: startup packets are read again, and `notice` is told at login."""
        self.startups.clear()
        self.ready = (notice_message(notice) if notice else b"") + b"Z\0\0\0\x05I"

    def report_bug(self, stream, error):
        """Log an exception that serving a stream, or doing something else, has raised."""
        named = getattr(stream, "__qualname__", type(stream).__name__)
        who = label(stream) if isinstance(stream, (Client, Server)) else named
        text = "".join(traceback.format_exception(error))
        self.log.write("ERROR", f"internal error: {who}: {text}")

    def client_of(self, bytes key):
        """The client that has this cancel key, or None."""
        return self.by_key.get(key)

    def make_pool(self, Database db, User user):
        """pool_for() for Python."""
        return self.pool_for(db, user)

    def pools(self):
        """Every pool, by database and user."""
        return [pool for db in self.databases.values() for pool in db.pools.values()]

    cdef int say(self, Stream who, str level, str text) except -1:
        """Log a line about a connection, with its prefix (COMPAT 2.11)."""
        if self.log.wants(level):
            self.begin_line(who, level).put(text)
            self.log.end()
        return 0

    cdef Text begin_line(self, Stream who, str level):
        """Begin such a line of a level that is wanted; Log.end() ends it."""
        cdef Text line = self.log.begin(level)
        put_label(line, who)
        line.raw(b" ", 1)
        return line


cpdef str label(Stream who):
    """`C-0x..: db/user@host:port`: how log lines name a connection."""
    cdef Text text = Text()
    put_label(text, who)
    return text.data[:text.size].decode("utf-8", "surrogateescape")


cdef int put_label(Text line, Stream who) except -1:
    if isinstance(who, Client):
        return put_client(line, <Client>who)
    return put_server(line, <Server>who)


cdef int put_client(Text line, Client c) except -1:
    """host:port of a client is `unix(pid):port` for unix sockets."""
    cdef str db = c.db.name if c.db is not None else None
    cdef str user = c.user.name if c.user is not None else None
    if c.console_user is not None:
        db, user = "pgbouncer", c.console_user
    elif c.login is not None:
        db, user = c.login.database, c.login.username
    line.raw(b"C-", 2)
    line.hexadecimal(c.id)
    line.raw(b": ", 2)
    line.put(db or "(nodb)")
    line.raw(b"/", 1)
    line.put(user or "(nouser)")
    line.raw(b"@", 1)
    if not c.is_unix:
        return line.address(c.address)
    line.raw(b"unix(", 5)
    line.number(c.peer_pid)
    line.raw(b"):", 2)
    return line.number(c.listen_port)


cdef int put_server(Text line, Server s) except -1:
    line.raw(b"S-", 2)
    line.hexadecimal(s.id)
    line.raw(b": ", 2)
    line.put(s.pool.db.name)
    line.raw(b"/", 1)
    line.put(s.pool.user.name)
    line.raw(b"@", 1)
    if s.peer_addr is not None and ":" in s.peer_addr:
        line.put(f"[{s.peer_addr}]")
    else:
        line.put(str(s.host) if s.peer_addr is None else s.peer_addr)
    line.raw(b":", 1)
    return line.number(s.peer_port)
