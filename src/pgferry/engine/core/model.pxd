# The class diagram: databases, users, pools, clients and servers with their fields.
#
# Methods marked "above" belong to rooms above this one: subclasses there override them (ServerConnection and
# ClientConnection in pool.connections, ServerPool in pool.server_pool, WorkerEngine in ops.worker_engine).
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from pgferry.engine.core.catalog_state cimport CatalogReader, CatalogState
from pgferry.engine.core.client_parts cimport (
    ClientPeer, ClientStatements, ClientTimes, Pin, SessionTracker, Subscription,
)
from pgferry.engine.core.engine_parts cimport (
    CancelKeys, ConnectingClients, EngineSettings, Greetings, Phase, SqlWords, TrackedParameters,
)
from pgferry.engine.core.plan cimport Plan
from pgferry.engine.core.pool_parts cimport Endpoint, PoolCancels, PoolSettings
from pgferry.engine.core.server_parts cimport (
    ConnectionEnds, CurrentStatement, Injected, LoginParameters, Probe, Replay, ServerRelay, Unsure,
)
from pgferry.engine.core.session_state cimport State, StateTable
from pgferry.engine.core.statements cimport ServerStatements, Statement, StatementTable
from pgferry.engine.core.stats cimport Stats
from pgferry.engine.io.log cimport Log
from pgferry.engine.io.stream cimport Reactor, Stream, StreamList
from pgferry.engine.io.text cimport Text
from pgferry.engine.shared.ledger cimport Counter, Ledger
from pgferry.engine.shared.times cimport Times


cpdef enum Mode:
    MODE_SESSION = 0
    MODE_TRANSACTION = 1
    MODE_STATEMENT = 2


cpdef enum ClientState:
    CL_LOGIN = 0      # not yet logged in (or waiting for its pool's first server login)
    CL_IDLE = 1       # logged in, without a server
    CL_WAITING = 2    # in pool.waiting
    CL_ACTIVE = 3     # linked to a server
    CL_CLOSING = 4    # only unsent bytes are left
    CL_GONE = 5


cpdef enum ServerState:
    SV_LOGIN = 0      # connecting or logging in (pool.fresh)
    SV_IDLE = 1       # pool.idle
    SV_USED = 2       # idle for longer than server_check_delay (pool.used)
    SV_TESTED = 3     # running a reset, check or barrier query (pool.tested)
    SV_ACTIVE = 4     # linked to a client (pool.active)
    SV_BEING_CANCELED = 5   # free, but a cancel request may still be on its way to it (pool.being_canceled)
    SV_GONE = 6
    SV_INTERNAL = 7   # a connection of pgferry's own (pool.internals)


cpdef enum Purpose:
    # Why pgferry sent a query of its own: the number of a swallowed K_QUERY entry.
    P_VARS = 1        # the client's tracked parameters
    P_RESET = 2       # server_reset_query
    P_CHECK = 3       # server_check_query
    P_CONNECT = 4     # connect_query
    P_BARRIER = 5     # an empty query that shows where the answers to a failed COPY end
    P_PROBE = 6       # what the session holds now
    P_START_VALUES = 7        # the client's start-up values, behind its RESET
    P_ENSURE = 8      # what a statement of the client's needs: SQL-level prepared statements, no foreign sequences
    P_INTERNAL = 11   # of an InternalSession
    P_LOOKUP = 12     # auth_query
    P_SCRUB = 13      # DISCARD ALL in front of a client of another user
    P_START = 14      # what connect_query has left (session_start)
    P_LIMITS = 15     # time limits of the client that has left it are taken off
    P_ANNOUNCE = 16   # which client uses the server (announcing)


cpdef enum Policy:
    # session_state: what becomes of statements that change the session, outside session mode.
    STATE_TRACK = 0
    STATE_REFUSE = 1
    STATE_IGNORE = 2


cpdef enum Scrub:
    # scrub: between whom a server is wiped, whatever is known of its session.
    SCRUB_WHEN_NEEDED = 0
    SCRUB_ON_USER_CHANGE = 1
    SCRUB_ALWAYS = 2


cdef enum:
    # Server.copy_in
    COPY_IN = 1
    COPY_BOTH = 2


cpdef enum Replication:
    # What the startup parameter `replication` asks for.
    REPL_NONE = 0
    REPL_LOGICAL = 1      # `database`: SQL is understood, too
    REPL_PHYSICAL = 2


cpdef enum PoolKind:
    POOL_CLIENTS = 0
    POOL_LOOKUPS = 1      # of auth_query (services.auth_query)
    POOL_REPLICATION = 2  # of replication connections (services.replication)


cpdef enum Shutdown:
    # Engine.shutdown
    RUNNING = 0
    WAIT_FOR_SERVERS = 1
    WAIT_FOR_CLIENTS = 2
    DRAINING = 3          # see pool.draining: until half of the time is over,
    URGENT = 4            # and after that


cdef class User:
    cdef public str name
    cdef public object conf          # config.model.User or None
    cdef public object secret        # str or None: what auth_file holds
    cdef Counter clients
    cdef Counter servers
    cdef Counter wanting             # clients that max_user_connections keeps waiting
    cdef public object keys          # (stored secret, client key, server key) of the last SCRAM login, or None
    cdef public int max_clients      # 0: no limit
    cdef public int max_servers


cdef class Database:
    cdef public str name
    cdef readonly CatalogState catalog
    cdef public object conf          # config.model.Database
    cdef public bint auto            # made from the `*` entry
    cdef public bint paused
    cdef public bint disabled
    cdef public bint removed
    cdef public bint closing         # WAIT_CLOSE was asked
    cdef public dict pools           # user name -> Pool; ("lookup" or "replication", user name) -> a Pool beside it
    cdef public dict found           # user name -> (secret, SCRAM keys or None) that its last login brought
    cdef readonly Stats former           # of pools that were dropped
    cdef Counter clients
    cdef Counter servers
    cdef Counter wanting             # clients that max_db_connections keeps waiting
    cdef public int max_clients
    cdef public int max_servers
    cdef public int64_t epoch        # counts DDL seen; part of every Statement's key
    cdef public double used_at       # monotonic; for autodb_idle_timeout
    cdef public int host_turn        # for load_balance_hosts
    cdef public int address_turn     # connections begun: each begins with another address of its host
    cdef object listener                  # session.notifications.Listener, None: nobody has listened yet
    cdef list sessions               # internal.InternalSession: pgferry's own connections
    cdef Counter listening           # workers in which clients listen
    cdef Counter listener_epoch                # counts listening connections that have come up, in all workers

    cdef int use_knowledge(self, Engine engine, object knowledge) except -1


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
    # Clients
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

    cdef int server_count(self) noexcept
    cdef int invalidate_greetings(self) except -1
    cdef Stats counted(self)
    cdef int learn_canonical(self, int index, bytes value, bytes canonical) except -1
    cdef int count(self, str counter, str reason) except -1
    cdef bint reports(self, bytes name) except -1
    cdef int hold_off(self) noexcept
    cdef bint may_start(self) noexcept
    cdef int want_servers(self) except -1                           # above: start what waiting clients need
    cdef bint start_server(self, bint only_free) except -1          # above: one more; only_free: nobody is evicted
    cdef int serve_waiting(self) except -1                          # above: idle servers to waiting clients
    # Above, for pools that are there for something else than clients that wait in turn:
    cdef int other_demand(self) except -1                           # servers wanted beside those for waiting clients
    cdef bint take_idle(self, Server s) except -1                   # whether it has taken the free server for itself
    cdef int fail_demand(self, str error) except -1                 # tell those that nobody can serve them now
    # the client of this server has left for good
    cdef int detach_for_good(self, Client c, Server s) except -1


cdef class LastUse:
    # Who has used it, and what that may have left.
    cdef bint scrubbing              # DISCARD ALL is under way (P_RESET, or P_SCRUB with the next client waiting)
    cdef int64_t last_client         # id of the client it served last
    cdef User last_user              # login user of that client; None: nobody since it was new, or scrubbed
    cdef bint sequence_cache_dirty                # sequences may remember values of another client
    cdef int64_t announced           # id of the client it has announced; -1: not known, 0: none yet
    cdef int announced_epoch         # Database.listener_epoch by then


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
    cdef ServerRelay relay
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
    # Session state (see state, judge, probe)
    # what the session holds, as far as PostgreSQL has said so; None: not known
    cdef State session_state
    cdef dict sql                        # SQL-level prepared statements, as Client.sql; None: none
    cdef readonly uint8_t replication    # a Replication
    cdef Job job                         # None: it serves clients
    cdef bint internal                   # of pgferry's own, outside the limits of the pool

    cdef bint is_clean(self) noexcept
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
    # Session state (see state, judge, probe)
    cdef bint tracks_state                   # statements are looked at: not in session mode, not with `ignore`
    cdef public str reason               # the statement that last touched the session
    cdef int64_t last_server             # id of the server that serves it, or served it last
    cdef int64_t former_server           # and of the one before
    cdef int turns_here                  # answered since it was linked

    cdef Statement statement(self, const char *name, size_t n)
    cdef bint may_read_sequences(self) noexcept
    cdef Subscription own_subscription(self)
    cdef int close(self, str reason, str error=*, str sqlstate=*) except -1         # above: with a FATAL `error`
    cdef bint acquire(self) except -1                               # above: a server now, or it waits


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
    cdef bytes announcements             # channel of announcing; None: not used yet
    cdef public set omit                 # parts of the work to leave out, so that tests can see that they notice
    cdef public object client_tls        # tls.contexts.Accept; None: clients get no TLS
    cdef public object server_tls        # tls.contexts.Connect
    # What the worker around the engine provides (worker.host.Host).
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
