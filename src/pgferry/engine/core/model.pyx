"""Databases, users, pools, clients and servers: their fields, and what can be said of them without anything else.

The engine is one object graph owned by one thread. A client belongs to a pool and may be linked to a server; a
server belongs to a pool and may be linked to a client.
"""

import hashlib
import os
import traceback

from pgferry.engine.core.client_parts cimport NO_SUBSCRIPTION
from pgferry.engine.core.client_statements cimport NO_STATEMENTS, ClientStatements
from pgferry.engine.core.database cimport Database, LastUse, User
from pgferry.engine.core.enums cimport (
    CL_LOGIN, MODE_SESSION, MODE_STATEMENT, MODE_TRANSACTION, POOL_CLIENTS, POOL_LOOKUPS, SV_LOGIN,
)
from pgferry.engine.core.plan cimport F_SWALLOW, K_QUERY, Plan
from pgferry.engine.core.server_relay cimport ServerRelay
from pgferry.engine.core.session_state cimport StateTable
from pgferry.engine.core.statements cimport ServerStatements, StatementTable
from pgferry.engine.core.stats cimport Stats
from pgferry.engine.io.stream cimport Reactor, Stream, StreamList
from pgferry.engine.io.sys cimport realtime
from pgferry.engine.io.text cimport Text
from pgferry.engine.shared.ledger cimport Ledger
from pgferry.engine.shared.times cimport Times
from pgferry.engine.wire.address cimport address_text
from pgferry.engine.wire.messages cimport simple_query

from pgferry.tls.certificate import peer_certificate

from libc.stdint cimport int64_t

cdef enum:
    SHORT = 4096        # bytes of values of tracked parameters that are remembered to be shared
    MOST_REASONS = 200      # counted apart for each pool
    REASON_LENGTH = 64
    SHORTEST_RETRY_US = 1000    # longer than a turn of the loop knows

MODES = {"session": MODE_SESSION, "transaction": MODE_TRANSACTION, "statement": MODE_STATEMENT}
MODE_NAMES = ("session", "transaction", "statement")


cdef class Pool:
    """The servers of one (database, user) pair and the clients that share them."""

    def __init__(self, Engine engine, Database db, User user, int kind=POOL_CLIENTS):
        cdef str prefix = "lookup-" if kind == POOL_LOOKUPS else ""
        self.settings = PoolSettings()
        self.endpoint = Endpoint()
        self.cancels = PoolCancels()
        self.engine = engine
        self.db = db
        self.user = user
        self.kind = kind
        self.key = (None, ("lookup", user.name), ("replication", user.name))[kind] or user.name
        self.clients = StreamList()
        self.waiting = StreamList()
        self.logging_in = StreamList()
        self.stats = Stats()
        self.times = Times()
        self.state_counts = {}
        self.pins = engine.ledger.counter("pins", db.name, user.name)
        self.slots = engine.ledger.counter(prefix + "pool", db.name, user.name)
        self.wanting = engine.ledger.counter(prefix + "wanting", db.name, user.name)

    cdef int server_count(self) noexcept:
        cdef Endpoint e = self.endpoint
        return e.fresh.count + e.idle.count + e.used.count + e.tested.count + e.active.count + e.being_canceled.count

    def servers(self):
        """All servers, in the order of SHOW SERVERS."""
        cdef list found = []
        cdef Endpoint e = self.endpoint
        for group in (e.active, e.idle, e.used, e.tested, e.fresh, e.being_canceled, e.internals):
            found.extend(group.items())
        return found

    def forget_parameters(self):
        """New clients wait for a fresh login to PostgreSQL, which may report other parameters."""
        self.endpoint.forget_parameters()

    cdef Stats counted(self):
        """The totals for SHOW STATS: how long a replication command takes says nothing about queries."""
        if self.main_pool is not None:
            self.stats.forget_durations()
        return self.stats

    cdef int count(self, str counter, str reason) except -1:
        """One more in SHOW STATE_COUNTERS. Reasons hold names that clients choose: so many of them, and no longer ones.
        """
        cdef tuple key = (counter, reason[:REASON_LENGTH])
        if key not in self.state_counts and len(self.state_counts) >= MOST_REASONS:
            key = (counter, "other")
        self.state_counts[key] = self.state_counts.get(key, 0) + 1
        return 0

    cdef bint reports(self, bytes name) except -1:
        """Whether a setting is tracked and the servers of the pool report it."""
        return self.engine.is_reported_in(self.endpoint.base_vars, name)

    cdef int hold_off(self) noexcept:
        """No login of this pool begins before server_login_retry is over; with 0, not within the failure of another."""
        return self.endpoint.hold_off(
            self.engine.loop.now + max(self.engine.settings.server_login_retry, SHORTEST_RETRY_US * 1e-6))

    cdef int want_servers(self) except -1:
        raise NotImplementedError

    cdef bint start_server(self, bint only_free) except -1:
        raise NotImplementedError

    cdef int serve_waiting(self) except -1:
        raise NotImplementedError

    cdef int other_demand(self) except -1:
        return 0

    cdef bint take_idle(self, Server s) except -1:
        return False

    cdef int fail_demand(self, str error) except -1:
        return 0

    cdef int detach_for_good(self, Client c, Server s) except -1:
        raise NotImplementedError

    @property
    def total_servers(self):
        return self.server_count()

    @property
    def name(self):
        return f"{self.db.name}/{self.user.name}"


cdef class Job:
    """What a server is for that was not started for clients that wait in turn; the methods do nothing by themselves."""

    cdef list parameters(self, Server s):
        return None

    cdef int reported(self, Server s, bytes parameters) except -1:
        return 0

    cdef int logged_in(self, Server s) except -1:
        return 0

    cdef int login_failed(self, Server s, str reason, object fields) except -1:
        return 0

    cdef int answered(self, Server s, dict error) except -1:
        return 0

    cdef int notified(self, Server s, const char *p, size_t n) except -1:
        return 0

    cdef int closed(self, Server s, str reason) except -1:
        return 0

    cdef int abandoned(self, Server s) except -1:
        return 0

    cdef bint is_needed(self) except -1:
        return True

    cdef bint is_wanted(self) except -1:
        return False


cdef class Server(Stream):
    """A connection to PostgreSQL."""

    def __init__(self, Reactor loop, Pool pool):
        self.relay = ServerRelay()
        self.probe = Probe()
        self.replay = Replay()
        self.unsure = Unsure()
        self.injected = Injected()
        self.current = CurrentStatement()
        self.ends = ConnectionEnds()
        self.login_parameters = LoginParameters()
        self.last = LastUse()
        self.pool = pool
        self.id = pool.engine.new_id()
        self.plan = Plan()
        self.prepared = ServerStatements(pool.engine.table)
        self.state = SV_LOGIN
        self.since = loop.now
        self.ends.begin(loop.now, realtime())
        self.vars = ()
        self.session_state = pool.engine.no_state

    cdef int restore(self, tuple values, State state, dict sql, double since) noexcept:
        """What another process has known of it: it is idle."""
        self.vars = values
        self.session_state = state
        self.sql = sql
        self.since = since
        return self.on_ready_status(b"I", True)

    cdef int query(self, bytes text, int purpose) except -1:
        """Queue a Query of pgferry's own behind all that is queued; the caller (or the next message) sends it."""
        return self.query_message(simple_query(text), purpose)

    cdef int query_message(self, bytes message, int purpose) except -1:
        """The same with a Query that is made already."""
        self.expect(K_QUERY, F_SWALLOW, purpose)
        self.unnamed = None
        return self.put(message, len(message))

    cdef int close(self, str reason) except -1:
        raise NotImplementedError

    cdef int fail(self, str reason, str error) except -1:
        raise NotImplementedError

    cdef int release(self) except -1:
        raise NotImplementedError

    cdef int make_available(self) except -1:
        raise NotImplementedError

    cdef int logged_in(self) except -1:
        raise NotImplementedError

    cdef int own_query_done(self, int purpose, dict failed) except -1:
        raise NotImplementedError


cdef class Client(Stream):
    """A connection from an application."""

    def __init__(self, Reactor loop, Engine engine):
        self.peer = ClientPeer()
        self.names = NO_STATEMENTS
        self.tracker = SessionTracker()
        self.subscription = NO_SUBSCRIPTION
        self.engine = engine
        self.id = engine.new_id()
        self.state = CL_LOGIN
        self.times.accepted = self.times.idle_since = loop.now
        self.times.connect_time = realtime()
        self.vars = ()
        self.tracker.start_with_vars((), False)
        self.tracker.start_with(engine.no_state, None, False)

    def remote(self):
        """(host, port) of the application's end."""
        return address_text(self.peer.address)

    def certificate(self):
        """The tls.certificate.Certificate that the client has shown and that is valid; None: none."""
        return peer_certificate(self.tls.ssl) if self.tls is not None and not self.tls.shaking else None

    def local(self):
        """(host, port) of our end."""
        if self.peer.is_unix or self.fd < 0:
            return ("unix", self.peer.listen_port)
        return address_text(self.peer.own_end(self.fd))

    cdef int own_names(self) except -1:
        """From now on it may have statements."""
        self.names = ClientStatements()
        return 0

    cdef int restore(self, tuple values, object about) except -1:
        """What another process has known of it; `about`: the times."""
        self.vars = values
        self.own_names()
        self.times.connect_time = about["connected"]
        self.times.accepted = about["accepted"]
        self.times.request_time = about["requested"]
        self.times.idle_since = about["idle_since"]
        return 0

    cdef Subscription own_subscription(self):
        """Its subscription, to be changed."""
        if self.subscription is NO_SUBSCRIPTION:
            self.subscription = Subscription()
        return self.subscription

    cdef bint may_read_sequences(self) noexcept:
        """Whether currval or lastval are used here, or functions may have changed since the catalog was read."""
        return self.tracks_state and (self.db.catalog.sequences or self.db.catalog.unread)

    cdef int close(self, str reason, str error=None, str sqlstate="08P01") except -1:
        raise NotImplementedError

    cdef int acquire(self, object verdict) except -1:
        raise NotImplementedError


cdef class Engine:
    """Everything a worker holds. Settings are copied into fields by worker.configure."""

    def __init__(self, Reactor loop, Ledger ledger, int index, int workers, host, log):
        self.settings = EngineSettings()
        self.parameters = TrackedParameters()
        self.cancel_keys = CancelKeys()
        self.words = SqlWords()
        self.phase = Phase()
        self.connecting = ConnectingClients()
        self.greetings = Greetings()
        self.loop = loop
        self.ledger = ledger
        self.index = index
        self.workers = workers
        self.host = host
        self.log = log
        loop.tell_bugs(self.report_bug)
        self.table = StatementTable()
        self.databases = {}
        self.users = {}
        self.client_count = ledger.counter("clients")
        self.omit = set(filter(None, os.environ.get("PGFERRY_TEST_OMIT", "").split(",")))
        self.states = StateTable(self.omit)
        self.no_state = self.states.intern({}, frozenset())
        self.announcements = b"pgferry_" + hashlib.blake2b(
            b"notifications", key=ledger.secret, digest_size=16).hexdigest().encode()
        self.lag = Times()
        self.ends = {}

    cdef int64_t new_id(self) noexcept:
        """Ids are shared by clients and servers and unique over all workers."""
        self.last_id += 1
        return self.last_id * self.workers + self.index

    cdef tuple same_vars(self, tuple values):
        """These tracked values as the object that stands for them, so that equal ones are nearly always the same."""
        found = self.parameters.seen_vars.get(values)
        if found is not None:
            return found
        if sum([len(<bytes>value) for value in values if value is not None]) > SHORT:
            return values
        if len(self.parameters.seen_vars) >= 1024:
            self.parameters.seen_vars.clear()
        self.parameters.seen_vars[values] = values
        return values

    cdef object index_of(self, bytes name):
        """The index of a tracked parameter as a server names it; None: it is not tracked."""
        found = self.parameters.spelled.get(name)
        if found is None:
            found = self.parameters.index.get(name.decode("utf-8", "replace").lower())
            if found is not None and len(self.parameters.spelled) < 1024 and len(name) < 256:
                self.parameters.spelled[name] = found
        return found

    cdef Pool pool_for(self, Database db, User user):
        """The pool of this pair; made on first use."""
        cdef Pool pool = db.pools.get(user.name)
        if pool is None:
            pool = self.new_pool(db, user)
            db.pools[user.name] = pool
            self.host.configure_pool(pool)
        return pool

    cdef Pool new_pool(self, Database db, User user):
        raise NotImplementedError

    cdef Pool replication_pool(self, Database db, User user):
        raise NotImplementedError

    cdef CatalogReader reader_of(self, Database db):
        raise NotImplementedError

    cdef object listener_of(self, Database db):
        raise NotImplementedError

    cdef bint is_reported_in(self, tuple values, bytes name) except -1:
        """Whether a setting is tracked and a server has reported it, by the values it has; None: it has not yet."""
        cdef object index = self.parameters.index.get(name.decode("utf-8", "replace"))
        return index is not None and values is not None and index < len(values) and values[index] is not None

    def new_greetings(self, str notice):
        """The configuration is a new one: startup packets are read again, and `notice` is told at login."""
        self.greetings.renew(notice)

    def do_background(self):
        """A slice of what is done between turns, if there is such work."""
        cdef object work = self.background
        if work is None:
            return
        self.background = None          # one that fails is not done again
        if work():
            self.background = work

    def report_bug(self, stream, error):
        """Log an exception that serving a stream, or doing something else, has raised."""
        named = getattr(stream, "__qualname__", type(stream).__name__)
        who = label(stream) if isinstance(stream, (Client, Server)) else named
        text = "".join(traceback.format_exception(error))
        self.log.write("ERROR", f"internal error: {who}: {text}")

    def client_of(self, bytes key):
        """The client that has this cancel key, or None."""
        return self.cancel_keys.by_key.get(key)

    def make_user(self, str name):
        """A user of this name, without a secret; the caller keeps it."""
        return User(self.ledger, name)

    def make_database(self, str name):
        """An entry of this name, of which nothing is known yet; the caller keeps it."""
        return Database(self.ledger, self.words.base, self.loop.now, name)

    def make_pool(self, Database db, User user):
        """pool_for() for Python."""
        return self.pool_for(db, user)

    def pools(self):
        """Every pool, by database and user."""
        return [pool for db in self.databases.values() for pool in db.pools.values()]

    cdef int log_about(self, Stream who, str level, str text) except -1:
        """Log a line about a connection, with its prefix (COMPAT 2.11)."""
        if self.log.wants(level):
            self.begin_line(who, level).put(text)
            self.log.end()
        return 0

    cdef Text begin_line(self, Stream who, str level):
        """Begin such a line of a level that is wanted; Log.end() ends it."""
        cdef Text line = self.log.begin(level)
        put_log_prefix(line, who)
        line.raw(b" ", 1)
        return line


cpdef str label(Stream who):
    """`C-0x..: db/user@host:port`: how log lines name a connection."""
    cdef Text text = Text()
    put_log_prefix(text, who)
    return text.data[:text.size].decode("utf-8", "surrogateescape")


cdef int put_log_prefix(Text line, Stream who) except -1:
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
    if not c.peer.is_unix:
        return line.address(c.peer.address)
    line.raw(b"unix(", 5)
    line.number(c.peer.peer_pid)
    line.raw(b"):", 2)
    return line.number(c.peer.listen_port)


cdef int put_server(Text line, Server s) except -1:
    line.raw(b"S-", 2)
    line.hexadecimal(s.id)
    line.raw(b": ", 2)
    line.put(s.pool.db.name)
    line.raw(b"/", 1)
    line.put(s.pool.user.name)
    line.raw(b"@", 1)
    if s.ends.peer_addr is not None and ":" in s.ends.peer_addr:
        line.put(f"[{s.ends.peer_addr}]")
    else:
        line.put(str(s.ends.host) if s.ends.peer_addr is None else s.ends.peer_addr)
    line.raw(b":", 1)
    return line.number(s.ends.peer_port)
