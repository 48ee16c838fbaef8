# The class diagram: databases, users, pools, clients and servers with their fields.
#
# Methods marked "above" belong to rooms above this one: subclasses there override them (ServerConnection and
# ClientConnection in pool.connections, ServerPool in pool.server_pool, WorkerEngine in ops.worker_engine).
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from pgferry.engine.core.catalog_state cimport CatalogReader
from pgferry.engine.core.client_parts cimport ClientPeer, ClientTimes, Pin, SessionTracker, Subscription
from pgferry.engine.core.client_statements cimport NO_STATEMENTS, ClientStatements
from pgferry.engine.core.database cimport Database, LastUse, User
from pgferry.engine.core.engine_parts cimport (
    CancelKeys, ConnectingClients, EngineSettings, Greetings, Phase, SqlWords, TrackedParameters,
)
from pgferry.engine.core.enums cimport (
    CL_ACTIVE, CL_CLOSING, CL_IDLE, CL_WAITING, MODE_SESSION, STATE_IGNORE, SV_ACTIVE, SV_BEING_CANCELED, SV_IDLE,
    SV_INTERNAL, SV_LOGIN, SV_TESTED, SV_USED,
)
from pgferry.engine.core.plan cimport Plan
from pgferry.engine.core.pool_parts cimport Endpoint, PoolCancels, PoolSettings
from pgferry.engine.core.server_parts cimport (
    ConnectionEnds, CurrentStatement, Injected, LoginParameters, Probe, Replay, Unsure,
)
from pgferry.engine.core.server_relay cimport ServerRelay
from pgferry.engine.core.session_state cimport State, StateTable
from pgferry.engine.core.statements cimport ServerStatements, StatementTable
from pgferry.engine.core.stats cimport Stats
from pgferry.engine.io.log cimport Log
from pgferry.engine.io.stream cimport Reactor, Stream, StreamList
from pgferry.engine.io.text cimport Text
from pgferry.engine.shared.ledger cimport Counter, Ledger
from pgferry.engine.shared.times cimport Times


cdef class Pool:
    cdef readonly Engine engine
    cdef readonly PoolCancels cancels
    cdef readonly Endpoint endpoint
    cdef readonly PoolSettings settings
    cdef readonly Database db
    cdef readonly User user
    cdef readonly object key         # in db.pools
    cdef readonly int kind           # a PoolKind
    # Replication connections (see replication)
    cdef readonly Pool main_pool      # the pool of the same user's other clients; None: this is such a pool itself
    cdef Pool reserved_for                   # replication clients wait for a server of this pool to be closed
    cdef readonly StreamList clients     # logged in and not waiting
    cdef readonly StreamList waiting     # oldest first
    cdef readonly StreamList logging_in  # authenticated, waiting for the pool's welcome
    cdef Counter slots               # servers of this pool over all workers
    cdef Counter wanting             # clients that pool_size keeps waiting, of all workers (see sharing)
    cdef public bint removed
    cdef public double lifetime_kill_at
    cdef public double empty_since   # monotonic; for pool_idle_timeout
    cdef readonly Stats stats
    cdef readonly Times times
    cdef public int surrender_count        # servers to close for the sake of other workers
    cdef double over_since           # monotonic, when it had more servers than it may first; 0: it has not
    cdef Counter pins                # pinned servers of this pool over all workers
    cdef readonly dict state_counts  # (counter, reason) -> count, for SHOW STATE_COUNTERS
    cdef int64_t restores            # one of them, counted apart: it may be every transaction
    cdef int blocked                 # the limit that forbade the last new server (sharing.BLOCKED_BY_...), 0: none

    cdef inline bint may_start(self) noexcept:
        # Whether clients may get servers, and connections be opened for them: it is not paused.
        return not (self.engine.phase.paused or self.db.paused)

    cdef int server_count(self) noexcept
    cdef Stats counted(self)
    cdef int count(self, str counter, str reason) except -1
    cdef bint reports(self, bytes name) except -1
    cdef int hold_off(self) noexcept
    cdef int want_servers(self) except -1                           # above: start what waiting clients need
    cdef bint start_server(self, bint only_free) except -1          # above: one more; only_free: nobody is evicted
    cdef int serve_waiting(self) except -1                          # above: idle servers to waiting clients

    cdef inline int count_restore(self) noexcept:
        self.restores += 1
        return 0

    cdef inline int blocked_by(self, int limit) noexcept:
        # This limit forbids one more server (sharing.BLOCKED_BY_...); 0: none, as far as has been seen.
        self.blocked = limit
        return 0

    cdef inline int surrender(self, int count) noexcept:
        # So many of its servers are to be closed for the sake of others, at least.
        self.surrender_count = max(self.surrender_count, count)
        return 0

    cdef inline int end_surrender(self) noexcept:
        # Nobody wants its servers any more.
        self.surrender_count = 0
        return 0

    cdef inline bint surrenders_one(self) noexcept:
        # Whether a free server has to be closed for the sake of others; it is counted as closed.
        if self.surrender_count <= 0:
            return False
        self.surrender_count -= 1
        return True

    cdef inline int reserve_for(self, Pool pool) noexcept:
        # What it surrenders is for this pool; None: for whoever comes.
        self.reserved_for = pool
        return 0

    cdef inline bint has_been_over(self, bint over, double longest) noexcept:
        # Whether it has had more servers than it may (`over`: it has now) for longer than so many seconds.
        if not over:
            self.over_since = 0
            return False
        if self.over_since == 0:
            self.over_since = self.engine.loop.now
        return self.engine.loop.now - self.over_since > longest

    cdef inline int is_empty(self) noexcept:
        # Its last server is gone.
        self.empty_since = self.engine.loop.now
        return 0

    cdef inline bint may_end_one(self, double age) noexcept:
        # Whether a server of this age is closed for server_lifetime now: not all at once.
        if age < self.settings.lifetime or self.engine.loop.now < self.lifetime_kill_at:
            return False
        self.lifetime_kill_at = self.engine.loop.now + self.settings.lifetime / max(self.settings.size, 1)
        return True

    cdef inline int is_removed(self) noexcept:
        # Nobody gets it any more.
        self.removed = True
        return 0

    # Above, for pools that are there for something else than clients that wait in turn:
    cdef int other_demand(self) except -1                           # servers wanted beside those for waiting clients
    cdef bint take_idle(self, Server s) except -1                   # whether it has taken the free server for itself
    cdef int fail_demand(self, str error) except -1                 # tell those that nobody can serve them now
    # the client of this server has left for good
    cdef int detach_for_good(self, Client c, Server s) except -1


cdef class Job:
    # What a server is for that was not started for clients that wait in turn. It knows its servers, which know it as
    # Server.job until they are closed, or the job is done: whoever calls a method holds the job in a variable of its
    # own. All methods are above.
    cdef readonly str purpose        # for logs and application_name; None: nobody is told

    cdef list parameters(self, Server s)                            # of the startup packet: names and values in turn
    cdef int reported(self, Server s, bytes parameters) except -1   # ParameterStatus messages of its login
    cdef int logged_in(self, Server s) except -1
    cdef int login_failed(self, Server s, str reason, object fields) except -1      # fields: of PostgreSQL's error
    cdef int answered(self, Server s, dict error) except -1         # ReadyForQuery behind a query of the job's
    cdef int notified(self, Server s, const char *p, size_t n) except -1            # a whole NotificationResponse
    cdef int closed(self, Server s, str reason) except -1
    cdef int abandoned(self, Server s) except -1                    # who waits for it has gone
    cdef bint is_needed(self) except -1                             # whether it has something to do, or is to stay
    cdef bint is_wanted(self) except -1                             # whether somebody wants it to stay


cdef class Server(Stream):
    cdef readonly Pool pool
    cdef readonly LastUse last
    cdef readonly LoginParameters login_parameters
    cdef readonly ConnectionEnds ends
    cdef readonly CurrentStatement current
    cdef readonly Injected injected
    cdef readonly Unsure unsure
    cdef readonly Replay replay
    cdef readonly Probe probe
    cdef readonly ServerRelay relay
    cdef readonly int64_t id
    cdef readonly int state
    cdef readonly Client client
    cdef readonly Plan plan
    cdef readonly ServerStatements prepared
    cdef readonly uint8_t status         # of the last ReadyForQuery: I, T or E; 0: not ready
    cdef uint8_t xact                    # the same, kept while it is not ready
    cdef public tuple vars               # tracked parameters as last reported
    cdef object unnamed                  # the Parse body its unnamed statement came from; None: not known
    cdef public bint close_needed
    cdef public str close_reason
    cdef readonly int cancels            # cancel requests on their way to it
    cdef public object login             # server_login.ServerLogin, None when done
    cdef public double since             # monotonic, of the last change of state
    # what the session holds, as far as PostgreSQL has said so; None: not known
    cdef State session_state
    cdef dict sql                        # SQL-level prepared statements, as SessionTracker.sql; None: none
    cdef readonly uint8_t replication    # a Replication
    cdef Job job                         # None: it serves clients
    cdef bint internal                   # of pgferry's own, outside the limits of the pool

    cdef inline int expect(self, uint8_t kind, uint8_t flags, uint64_t number) except -1:
        # A message is put that the server will answer so.
        self.status = 0
        return self.plan.push(kind, flags, number)

    cdef inline int enter(self, int state) except -1:
        # Another state, and the list of its endpoint that belongs to it.
        cdef Endpoint e = self.pool.endpoint
        self.state = state
        if state != SV_USED:            # which goes on being idle
            self.since = self.loop.now
        self.is_urgent(state == SV_IDLE)
        if state == SV_ACTIVE:
            return e.active.append(self)
        if state == SV_IDLE:
            return e.idle.append(self)
        if state == SV_TESTED:
            return e.tested.append(self)
        if state == SV_USED:
            return e.used.append(self)
        if state == SV_BEING_CANCELED:
            return e.being_canceled.append(self)
        if state == SV_INTERNAL:
            return e.internals.append(self)
        if state == SV_LOGIN:
            return e.fresh.append(self)
        return self.home.remove(self) if self.home is not None else 0

    cdef inline int on_ready_status(self, uint8_t status, bint ready) noexcept:
        # ReadyForQuery has come; `ready`: nothing else is asked for.
        self.xact = status
        self.status = status if ready else 0
        return 0

    cdef inline int unnamed_is(self, object body) noexcept:
        # Its unnamed statement came from this Parse; None: from another one, or there is none.
        self.unnamed = body
        return 0

    cdef inline int vars_are(self, tuple values) noexcept:
        self.vars = values
        return 0

    cdef inline int holds(self, State state) noexcept:
        # What its session holds; None: nobody knows.
        self.session_state = state
        return 0

    cdef inline int sql_is(self, dict statements) noexcept:
        # The prepared statements of SQL that it has.
        self.sql = statements or None
        return 0

    cdef inline int turn_began(self) noexcept:
        self.since = self.loop.now
        return 0

    cdef inline int serves(self, Job job) noexcept:
        # What it is for; None: for clients that wait in turn.
        self.job = job
        return 0

    cdef inline int begin_login(self, object login, Job job, bint internal) except -1:
        # It connects; `internal`: as a connection of pgferry's own.
        self.login = login
        self.job = job
        self.internal = internal
        self.enter(SV_LOGIN)
        return self.pool.endpoint.internals.append(self) if internal else 0

    cdef inline int end_login(self, tuple values) noexcept:
        # The first ReadyForQuery; `values`: tracked parameters as PostgreSQL has reported them.
        self.login = None
        self.vars = values
        self.since = self.loop.now
        return self.on_ready_status(b"I", True)

    cdef inline int drop_login(self) noexcept:
        # It is closed.
        self.login = None
        return 0

    cdef inline int replicates(self, int replication) noexcept:
        # It is for a replication client (a Replication).
        self.replication = replication
        return 0

    cdef inline int cancel_begins(self) noexcept:
        # A cancel request is on its way to it.
        self.cancels += 1
        return 0

    cdef inline int cancel_ends(self) noexcept:
        self.cancels -= 1
        return 0

    cdef inline int close_when_free(self, str reason) noexcept:
        # It must not be used again.
        self.close_needed = True
        self.close_reason = reason
        return 0

    cdef inline int not_ready(self) noexcept:
        # What it says from now on is of no interest.
        self.status = 0
        return 0

    cdef int restore(self, tuple values, State state, dict sql, double since) noexcept

    cdef inline bint is_clean(self) noexcept:
        # The proof that it owes nothing and holds nothing of a client's unfinished work.
        return (self.status == b"I" and self.plan.head == self.plan.tail and self.held.size == 0
                and self.relay.passing == 0
                and self.unsent() == 0 and not self.broken and not self.closed and not self.relay.copy_in
                and self.injected.start_values_sql is None and self.injected.own_after is None)

    cdef int query(self, bytes text, int purpose) except -1
    cdef int query_message(self, bytes message, int purpose) except -1
    cdef int close(self, str reason) except -1                      # above: it has no client, or loses it
    cdef int fail(self, str reason, str error) except -1            # above: for its own fault; `error` to its client
    cdef int release(self) except -1                                # above: back from its client, if it is clean
    cdef int make_available(self) except -1                         # above: clean, without a client
    cdef int logged_in(self) except -1                              # above: a new one is ready
    cdef int own_query_done(self, int purpose, dict failed) except -1       # above: `failed`: fields of the error


cdef class Client(Stream):
    cdef readonly Engine engine
    cdef readonly Subscription subscription
    cdef Pin pin
    cdef readonly SessionTracker tracker
    cdef readonly ClientStatements names
    cdef readonly ClientPeer peer
    cdef ClientTimes times
    cdef readonly int64_t id
    cdef readonly int state
    cdef readonly Pool pool
    cdef readonly Database db
    cdef readonly User user              # login user
    cdef readonly Server server
    cdef public Stream tunnel            # console clients: the stream to the console
    cdef public object login             # client_login.Login, None when done
    cdef public tuple vars
    cdef size_t passing
    cdef bint passing_on
    cdef readonly bint session           # keeps its server until it leaves
    cdef bint tracking                   # named statements are renamed
    cdef public str console_user         # console clients
    cdef bint slow_logged                  # the log has a line about its open transaction
    cdef bytes text                      # first bytes of the statement it sent last, as far as they may be shown
    cdef bint wait_notified
    cdef bint counted                    # holds places in the ledger
    cdef bint tracks_state                   # statements are looked at: not in session mode, not with `ignore`
    cdef public str reason               # the statement that last touched the session
    cdef int64_t last_server             # id of the server that serves it, or served it last
    cdef int64_t former_server           # and of the one before
    cdef int turns_here                  # answered since it was linked

    cdef inline int enter(self, int state) noexcept:
        # Another state, and when that was.
        self.state = state
        if state == CL_ACTIVE:
            self.times.linked_at = self.loop.now
        elif state == CL_IDLE:
            self.times.idle_since = self.loop.now
        elif state == CL_WAITING:
            self.times.wait_start = self.loop.now
            self.wait_notified = False
        elif state == CL_CLOSING:
            self.times.closed_at = self.loop.now
        return 0

    cdef inline int link(self, Server s) noexcept:
        # They are each other's from now on.
        s.client = self
        self.server = s
        return 0

    cdef inline int unlink(self, Server s) noexcept:
        s.client = None
        self.server = None
        return 0

    cdef inline int adopt_mode(self) noexcept:
        # How its statements are served from now on, by the settings of its pool as they are now.
        cdef PoolSettings settings = self.pool.settings
        self.session = settings.mode == MODE_SESSION
        self.tracks_state = not self.session and settings.session_state != STATE_IGNORE
        self.tracking = self.tracks_state or (not self.session and (
            self.engine.settings.max_prepared_statements > 0 or self.names.statements is not None))
        return 0

    cdef inline int served_by(self, int64_t server) noexcept:
        # Another turn with a server begins.
        self.turns_here = 0
        if self.names is NO_STATEMENTS:
            self.own_names()
        self.names.linked()
        self.former_server = self.last_server
        self.last_server = server
        return 0

    cdef inline int turn_answered(self) noexcept:
        self.turns_here += 1
        return 0

    cdef inline int pass_on(self, size_t rest) noexcept:
        # So many bytes of the message at hand are still to come, and will be passed on.
        self.passing = rest
        self.passing_on = True
        return 0

    cdef inline int passed(self, size_t n) noexcept:
        self.passing -= n
        return 0

    cdef inline int pass_over(self, size_t rest) noexcept:
        # They will be dropped.
        self.passing = rest
        self.passing_on = False
        return 0

    cdef inline int vars_are(self, tuple values) noexcept:
        # Its tracked parameters, as it knows them.
        self.vars = values
        return 0

    cdef inline int because(self, str reason) noexcept:
        # The statement that has touched its session.
        self.reason = reason
        return 0

    cdef inline int begin_request(self, double now) noexcept:
        self.times.query_start = self.times.request_time = now
        return 0

    cdef inline int begin_transaction(self, double now) noexcept:
        self.times.xact_start = now
        return 0

    cdef inline int end_request(self) noexcept:
        self.times.query_start = 0
        return 0

    cdef inline int end_transaction(self) noexcept:
        self.times.xact_start = 0
        return 0

    cdef inline int turn_over(self) noexcept:
        # It keeps its server, and has nothing to do there.
        self.times.idle_since = self.loop.now
        return 0

    cdef inline int begin_login(self, object login) noexcept:
        # A client_login.Login: nothing is known of it yet.
        self.login = login
        return 0

    cdef inline int end_login(self) noexcept:
        # It is known who it is, and greeted.
        self.login = None
        self.is_unauthenticated(False)
        return self.enter(CL_IDLE)

    cdef inline int drop_login(self) noexcept:
        # It is closed.
        self.login = None
        return 0

    cdef inline int is_counted(self) noexcept:
        # It has a place among all clients; in those of database and user, as soon as it has them.
        self.counted = True
        return 0

    cdef inline bint uncount(self) noexcept:
        # Whether it has places to give back; they are.
        if not self.counted:
            return False
        self.counted = False
        return True

    cdef inline int db_is(self, Database db) noexcept:
        # The database that it asks for; None: none that is there.
        self.db = db
        return 0

    cdef inline int user_is(self, User user) noexcept:
        # Who it says it is.
        self.user = user
        return 0

    cdef inline int restored(self) noexcept:
        # It is served from now on; idle it has been for longer.
        self.state = CL_IDLE
        return 0

    cdef inline int pool_is(self, Pool pool) noexcept:
        # Where it belongs.
        self.pool = pool
        return 0

    cdef inline int wait_for_greeting(self) noexcept:
        # Its pool has no server that has told its parameters.
        self.times.wait_start = self.loop.now
        return 0

    cdef inline int console_is(self, str user, Stream tunnel) noexcept:
        # A console client: its user, and the stream to the console once it is open.
        self.console_user = user
        self.tunnel = tunnel
        return 0

    cdef inline int leave_console(self) noexcept:
        # The stream to the console is closed.
        self.tunnel = None
        return 0

    cdef inline int begin_pin(self) noexcept:
        # From now on it keeps its server.
        self.pin.pinned_at = self.loop.now
        self.pin.pinned_xacts = 0
        self.pin.pin_logged = False
        return 0

    cdef inline int pins_are(self, uint32_t pins) noexcept:
        # What holds it to its server; 0: nothing.
        self.pin.pins = pins
        return 0

    cdef inline int stays_pinned(self) noexcept:
        # One more transaction with a server of its own.
        self.pin.pinned_xacts += 1
        return self.turn_over()

    cdef inline int pin_is_logged(self) noexcept:
        self.pin.pin_logged = True
        return 0

    cdef inline int text_is(self, bytes text) noexcept:
        # What people are shown of its statement.
        self.text = text
        return 0

    cdef inline int slow_is_logged(self, bint logged) noexcept:
        # Whether the log has a line about its open transaction.
        self.slow_logged = logged
        return 0

    cdef inline int wait_is_told(self) noexcept:
        # A notice has said that it waits.
        self.wait_notified = True
        return 0

    cdef int own_names(self) except -1
    cdef int restore(self, tuple values, object about) except -1
    cdef bint may_read_sequences(self) noexcept
    cdef Subscription own_subscription(self)
    cdef int close(self, str reason, str error=*, str sqlstate=*) except -1         # above: with a FATAL `error`
    # above: a server now, of the endpoint that a message with this Verdict goes to, or it waits: an Outcome
    cdef int acquire(self, object verdict) except -1


cdef class Engine:
    cdef readonly Reactor loop
    cdef readonly Greetings greetings
    cdef readonly ConnectingClients connecting
    cdef readonly Phase phase
    cdef readonly SqlWords words
    cdef readonly CancelKeys cancel_keys
    cdef readonly TrackedParameters parameters
    cdef readonly EngineSettings settings
    cdef readonly Ledger ledger
    cdef readonly StatementTable table
    cdef readonly int index
    cdef readonly int workers
    cdef public object background    # what is done a slice a turn; returns whether there is more. None: nothing
    cdef public object wakes         # an eventfd of each worker, by index; None: this one is alone (see waking)
    cdef public object config            # config.model.Config
    cdef public dict databases           # name -> Database
    cdef public dict users               # name -> User
    cdef Counter client_count
    cdef public int64_t last_id
    cdef readonly Times lag              # by how much the loop was late for its ticks (its first histogram)
    cdef readonly dict ends              # (kind, reason) -> connections that ended
    cdef StateTable states
    cdef State no_state
    cdef readonly bytes announcements    # channel of session.announcing: the same in all workers, unknown to clients
    cdef public set omit                 # parts of the work to leave out, so that tests can see that they notice
    cdef public object client_tls        # tls.contexts.Accept; None: clients get no TLS
    cdef public object server_tls        # tls.contexts.Connect
    # What the worker around the engine provides (worker.engine_services.EngineServices).
    cdef public object host
    cdef public Log log

    cdef int64_t new_id(self) noexcept
    cdef tuple same_vars(self, tuple values)
    cdef object index_of(self, bytes name)
    cdef bint is_reported_in(self, tuple values, bytes name) except -1
    cdef Pool pool_for(self, Database db, User user)
    cdef Pool new_pool(self, Database db, User user)                # above
    cdef Pool replication_pool(self, Database db, User user)        # above; made on first use, as the two below
    cdef CatalogReader reader_of(self, Database db)                 # above
    cdef object listener_of(self, Database db)                      # above: session.notifications.Listener
    cdef int log_about(self, Stream who, str level, str text) except -1
    cdef Text begin_line(self, Stream who, str level)
