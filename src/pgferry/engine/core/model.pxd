# The class diagram: databases, users, pools, clients and servers with their fields.
#
# Methods marked "above" belong to rooms above this one: subclasses there override them (ServerConnection and
# ClientConnection in pool.connections, ServerPool in pool.server_pool, WorkerEngine in ops.worker_engine).
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from pgferry.engine.core.plan cimport Plan
from pgferry.engine.core.session_state cimport Restore, State, StateTable
from pgferry.engine.core.statements cimport ParseSettings, ServerStatements, Statement, StatementTable
from pgferry.engine.core.words cimport WordSet
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
    P_BASE = 7        # the client's start-up values, behind its RESET
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


cdef class Stats:
    # Totals of a pool since start (COMPAT 3.4); times in seconds.
    cdef public int64_t server_assignment_count
    cdef public int64_t xact_count
    cdef public int64_t query_count
    cdef public int64_t received
    cdef public int64_t sent
    cdef public double xact_time
    cdef public double query_time
    cdef public double wait_time
    cdef public int64_t client_parse_count
    cdef public int64_t server_parse_count
    cdef public int64_t bind_count
    cdef public int64_t client_login_count


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
    # What may change a session (see judge and catalog)
    cdef WordSet words               # the words a text is scanned for
    cdef readonly object knowledge   # session.catalog.Knowledge; None: not known yet
    cdef int64_t words_version       # unique; changes with what verdicts depend on
    cdef dict verdicts               # text -> Verdict or None
    cdef size_t verdict_bytes        # of these texts
    cdef uint32_t everything         # Touch bits that any statement may have
    cdef bint odd_names              # functions and the like have names with other characters than ASCII
    cdef object hub                  # session.notifications.Listener, None: nobody has listened yet
    cdef list sessions               # internal.InternalSession: pgferry's own connections
    cdef Counter listening           # workers in which clients listen
    cdef Counter hubs                # counts listening connections that have come up, in all workers
    cdef bint sequences              # currval or lastval are used here
    cdef Counter ddl                 # counts changes of functions and the like, seen by all workers
    cdef int ddl_seen
    cdef bint scanning               # the catalog is being read
    cdef bint stale                  # it must be read again
    cdef object catalog_version
    cdef double version_at           # monotonic, of the last look at it
    cdef double version_every        # seconds until the next one
    cdef CatalogReader catalog       # None: nothing has been asked yet
    cdef bint unread                 # functions may have changed since it was read
    cdef double unread_since         # monotonic
    cdef double read_due             # monotonic: no reading before that
    cdef int readings                # begun so far
    cdef readonly object catalog_error   # why it could not be read the last time; None: it could
    cdef readonly int catalog_failures   # in a row
    cdef set held                    # servers whose clients keep them until it is known
    cdef set defining                # servers that run what may change functions; None: none yet
    cdef Counter definers            # how many of them all workers have

    cdef int use_knowledge(self, Engine engine, object knowledge) except -1


cdef class CatalogReader:
    # Reads a database's catalog, on a connection of pgferry's own (services.catalog_reader).
    cdef set certain                 # servers that have said that their transaction defines something
    cdef Counter definitions         # transactions over, of all workers, whose servers have said so

    cdef int begin(self, bint whole) except -1                      # above: a reading; not whole: of the version only
    cdef int forget(self) except -1                                 # above: what was read has to be worked out anew
    cdef int ask(self, bytes text, object on_answer) except -1      # above: a query of another kind


cdef class Pool:
    cdef readonly Engine engine
    cdef readonly Database db
    cdef readonly User user
    cdef readonly object key         # in db.pools
    cdef readonly int kind           # a PoolKind
    # Replication connections (see replication)
    cdef readonly Pool ordinary      # the pool of the same user's other clients; None: this is such a pool itself
    cdef Pool heir                   # replication clients wait for a server of this pool to be closed
    cdef public int mode
    cdef public int size             # effective pool_size, 0: no limit
    cdef public int min_size
    cdef public int reserve_size
    cdef public double lifetime      # effective server_lifetime, seconds
    cdef public double query_timeout
    cdef public double query_wait_timeout
    cdef public double idle_transaction_timeout
    cdef public double transaction_timeout
    cdef public double client_idle_timeout
    cdef public int session_state    # a Policy
    cdef public int scrub            # a Scrub
    cdef public bint pin_unknown     # unknown_state = pin
    cdef public int max_pinned       # 0: no limit
    cdef public double pin_timeout   # seconds, 0: none
    cdef public double slow_after    # transaction_log_threshold, seconds, 0: none
    # Clients
    cdef readonly StreamList clients     # logged in and not waiting
    cdef readonly StreamList waiting     # oldest first
    cdef readonly StreamList logging_in  # authenticated, waiting for the pool's welcome
    # Servers
    cdef readonly StreamList fresh
    cdef readonly StreamList idle        # last used last
    cdef readonly StreamList used
    cdef readonly StreamList tested
    cdef readonly StreamList active
    cdef readonly StreamList being_canceled
    cdef readonly StreamList internals   # of pgferry's own, not counted in pool_size (see internal)
    # Cancel requests (see cancel)
    cdef readonly list cancels_waiting
    cdef readonly list cancels_sent
    cdef bint cancels_starting
    cdef Counter slots               # servers of this pool over all workers
    cdef Counter wanting             # clients that pool_size keeps waiting, of all workers (see sharing)
    cdef readonly bytes welcome      # untracked ParameterStatus messages; None until a server has logged in
    cdef public tuple base_vars      # tracked parameters as the server reports them at login, connect_query included
    cdef public tuple reset_vars     # the same without connect_query: what RESET leads to
    cdef public dict start_settings  # what connect_query has left, see session_start
    cdef public dict start_sql       # and its prepared statements, as Client.sql; None: none
    cdef object greeted              # another object whenever a client would be greeted differently
    cdef readonly dict canon         # (index, value as a client gave it) -> value as the server reports it
    cdef public bint removed
    cdef public bint last_connect_failed
    cdef public bint last_login_failed
    cdef public object last_error    # (sqlstate, text) of the last failed login, or None
    cdef public double retry_at      # monotonic: no connection attempt before
    cdef public double lifetime_kill_at
    cdef public double empty_since   # monotonic; for pool_idle_timeout
    cdef readonly Stats stats
    cdef readonly Times times
    cdef public int give_back        # servers to close for the sake of other workers
    cdef double over_since           # monotonic, when it had more servers than it may first; 0: it has not
    cdef Counter pins                # pinned servers of this pool over all workers
    cdef readonly dict state_counts  # (counter, reason) -> count, for SHOW STATE_COUNTERS
    cdef int64_t restores            # one of them, counted apart: it may be every transaction
    cdef int blocked                 # the limit that forbade the last new server (sharing.BLOCKED_BY_...), 0: none

    cdef int server_count(self) noexcept
    cdef int greet_anew(self) except -1
    cdef Stats counted(self)
    cdef int learn(self, int index, bytes value, bytes canonical) except -1
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
    cdef int part(self, Client c, Server s) except -1               # the client of this server has left for good


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
    cdef readonly int64_t id
    cdef readonly int state
    cdef readonly Client client
    cdef readonly Plan plan
    cdef readonly ServerStatements prepared
    cdef readonly uint8_t status         # of the last ReadyForQuery: I, T or E; 0: not ready
    cdef uint8_t xact                    # the same, kept while it is not ready
    cdef public tuple vars               # tracked parameters as last reported
    cdef tuple reset_vars                # vars in front of connect_query
    cdef bytes told                      # ParameterStatus messages of the others, until the login is complete
    cdef object unnamed                  # the Parse body its unnamed statement came from; None: not known
    cdef public bint close_needed
    cdef public str close_reason
    # The message that is passing: bytes still to come, and whether they are forwarded.
    cdef size_t passing
    cdef bint passing_on
    cdef int streak                      # chunks of one long result received in a row
    cdef uint8_t copy_in                 # the server reads CopyData: COPY_IN; and sends it at the same time: COPY_BOTH
    cdef bint copy_ended                 # the client's CopyDone or CopyFail went by
    cdef bint streamed                   # CommandComplete has ended a COPY_BOTH
    cdef bint barrier_needed
    cdef bint reset_pending              # by a session's end; while the barrier is open
    cdef bint more                       # bytes lay behind the message judged last
    cdef bint told_of_drop               # the log has a line about a dropped notification
    cdef bint advance_due                # answers of pgferry's own follow the message that is passing
    cdef bint skipping                   # after an error: everything up to Sync goes unanswered
    cdef readonly int cancels            # cancel requests on their way to it
    cdef public object login             # server_login.ServerLogin, None when done
    cdef public bytes cancel_key         # process id and secret, as sent
    cdef public object address           # (family, sockaddr) for cancel requests
    cdef public str host                 # the entry of the host list it came from
    cdef public str peer_addr
    cdef public int peer_port
    cdef public str own_addr
    cdef public int own_port
    cdef public double connect_time      # Unix time
    cdef public double created           # monotonic
    cdef public double since             # monotonic, of the last change of state
    cdef public double query_start       # monotonic, 0: no query runs
    # Fields of the error to the query of pgferry's own that is ending: its ReadyForQuery is still to come, and nothing
    # else may set or clear it.
    cdef public object error
    cdef list pending_vars               # [(index, value)] being set
    cdef Restore restore                 # they are part of it; None: none, or Server.vars tells all that was reported
    cdef uint64_t reported               # which of them PostgreSQL has reported as they were sent (bit: index)
    # Session state (see state, judge, probe)
    cdef State kept                      # what the session holds, as far as PostgreSQL has said so; None: not known
    cdef State bringing                  # what the restore under way leads to; None: there is none
    cdef bint anew                       # that restore begins with RESET ALL
    cdef dict sql                        # SQL-level prepared statements, as Client.sql; None: none
    cdef uint32_t touched                # Touch bits that statements since the last probe may have changed
    cdef set names                       # settings among them; None: none
    cdef bint any_name                   # settings of any name
    cdef bint unlisted                   # custom settings whose names nobody knows may be set: RESET ALL for others
    cdef uint32_t asked                  # the same three, of the probe under way
    cdef set asked_names
    cdef object known                    # Knowledge that its transaction was judged by at first; None: nothing was
    cdef bint unsure                     # its transaction ran while the catalog was not known: asked when it is
    cdef int awaits                      # number of the reading that it has to wait for, 0: none yet
    cdef bint defined                    # it has made or changed functions or the like itself
    cdef list unjudged                   # texts that ran meanwhile, to be judged when it is known; None: none
    cdef size_t unjudged_size            # bytes of them
    cdef bint unjudged_lost              # there were more
    cdef bint asked_any
    cdef list asked_order                # the names in the order they are asked for
    cdef bint guarded                    # it sets time limits aside for itself
    cdef bint noted                      # what the present message may do to the session is noted
    cdef object lone                     # Verdict of a statement under way whose success tells all
    cdef uint8_t lone_done               # its CommandComplete has come, see server_relay
    cdef bint careful                    # what client_relay.must_hold() looks at may be under way
    cdef list ours                       # numbers of the query's statements behind which one of pgferry's own comes
    cdef int completed                   # statements of that query that are complete
    cdef set local                       # settings set until the end of the transaction; b"" for any; None: none
    cdef bint asking                     # what a text of its client's would be parsed under is being asked for
    cdef ParseSettings shown             # the answer, for the message held meanwhile; None: there is none
    cdef uint32_t shown_at               # Plan.tail by then: nothing of the client's has been sent since
    cdef bint verifying                  # a statement's parameter types and columns have been asked for again
    cdef bytes described                 # ParameterDescription of a Describe under way
    cdef bint own_turn                   # what comes now is the answer to pgferry's own
    cdef bytes base                      # query that follows a RESET: the client's start values; None: none due
    cdef list base_tracked               # indexes of tracked parameters it sets
    cdef int resetting                   # ReadyForQuery due up to that of a batch with start values behind RESET ALL
    cdef bint discarded                  # DISCARD ALL, which no later error undoes, is complete in the present batch
    cdef list rows                       # of a query of pgferry's own; None: nobody wants them, or they were too large
    cdef size_t rows_size                # bytes of their messages
    cdef int64_t rows_told               # how many its CommandComplete says they are; -1: it has not come
    cdef bint restoring                  # the answer to a restore of state is still to come
    cdef bint ddl                        # functions or the like may have been changed
    cdef bint scrubbing                  # DISCARD ALL is under way (P_RESET, or P_SCRUB with the next client waiting)
    cdef int64_t last_client             # id of the client it served last
    cdef User last_user                  # login user of that client; None: nobody since it was new, or scrubbed
    cdef bint foreign                    # sequences may remember values of another client
    cdef readonly int version            # of PostgreSQL: 15; 0: not known
    cdef readonly uint8_t replication    # a Replication
    cdef Job job                         # None: it serves clients
    cdef bint internal                   # of pgferry's own, outside the limits of the pool
    cdef bint fence                      # its client has notified
    cdef bint notifying                  # what is being sent to it may notify
    cdef int64_t announced               # id of the client it has announced; -1: not known, 0: none yet
    cdef int announced_epoch             # Database.hubs by then
    cdef int tries                       # probes cut short by a timeout, in a row
    cdef dict failures                   # name -> ErrorResponse of the P_ENSURE that was to bring it; None: none

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
    cdef readonly int64_t id
    cdef readonly int state
    cdef readonly Pool pool
    cdef readonly Database db
    cdef readonly User user              # login user
    cdef readonly Server server
    cdef public Stream tunnel            # console clients: the stream to the console
    cdef public object login             # client_login.Login, None when done
    cdef public tuple vars
    cdef bint vars_unchecked             # the server has not seen some of vars yet
    cdef size_t passing
    cdef bint passing_on
    cdef readonly bint session           # keeps its server until it leaves
    cdef bint tracking                   # named statements are renamed
    cdef dict statements                 # name -> Statement
    cdef dict names_given                # a Statement's number -> name in `statements`, if it is still there; or None
    cdef dict dropped                    # name -> wire name of statements it has just dropped all together
    cdef list pending                    # undo records of open F_CLIENT_OP entries, oldest first
    cdef bytes last_name                 # the name looked up last, and its Statement
    cdef Statement last_statement
    cdef object unnamed                  # Parse body of its unnamed statement, or None
    cdef ParseSettings unnamed_settings  # it was parsed under
    cdef ParseSettings parse_settings    # what its texts are parsed under, with parse_vars and parse_kept
    cdef tuple parse_vars
    cdef State parse_kept
    cdef bint unnamed_here               # parsed in the present batch
    cdef bint dropping                   # the statement being bound or executed drops all prepared statements
    cdef dict portals                    # name -> (dropping, reset_due, deallocating) of its Execute (portals); or None
    cdef readonly bytes cancel_key
    cdef bytes address                   # struct sockaddr as accepted; b"" for unix sockets
    cdef bytes own_address
    cdef public int peer_pid             # unix sockets
    cdef public int peer_uid
    cdef public str console_user         # console clients
    cdef public int listen_port
    cdef public bint is_unix
    cdef double connect_time             # Unix time
    cdef double accepted                 # monotonic
    cdef double request_time             # monotonic, of the last request's first byte
    cdef double wait_start
    cdef double query_start              # monotonic, 0: none is timed
    cdef double xact_start
    cdef double linked_at                # monotonic, since when it has its server
    cdef bint slow_told                  # the log has a line about its open transaction
    cdef bytes text                      # first bytes of the statement it sent last, as far as they may be shown
    cdef double idle_since
    cdef double closed_at
    cdef bint wait_notified
    cdef bint welcomed                   # has had its first ReadyForQuery
    cdef bint counted                    # holds places in the ledger
    # Session state (see state, judge, probe)
    cdef bint judged                     # statements are looked at: not in session mode, not with `ignore`
    cdef State kept                      # what its session holds, apart from tracked parameters
    cdef Restore restore                 # what it needed last; None: nothing yet
    cdef State start                     # what its startup packet asked for
    cdef tuple start_vars                # tracked parameters as its session began
    cdef bint kept_unchecked             # no server has accepted `start` yet
    cdef bint proving                    # nothing of it may be sent before its server has told that all is set
    cdef int retries                     # servers closed in a row that its restore has failed on
    # SQL-level prepared statements: name -> (text of the PREPARE, ParseSettings it was executed under; None: nobody
    # knows them, so that the statement cannot be made elsewhere). None: there are none.
    cdef dict sql
    cdef object unnamed_verdict          # of its unnamed statement, judged with words_version unnamed_version
    cdef int64_t unnamed_version
    cdef bint to_default                 # session mode: a SET may be one TO DEFAULT
    # SQL-level name -> what it may have been given since the last probe, as in `sql` (text None: unknown); b"": any,
    # by code that prepares under settings that nobody knows. None: none.
    cdef dict preparing
    cdef dict asked_preparing            # the same, of the probe under way
    cdef object reset_due                # names that the text being passed on sets back; True: all
    cdef uint32_t pins                   # Touch bits that hold it to its server
    cdef double pinned_at                # monotonic
    cdef int64_t pinned_xacts            # transactions since
    cdef bint pin_logged
    cdef public str reason               # the statement that last touched the session
    cdef int64_t last_server             # id of the server that serves it, or served it last
    cdef int64_t former_server           # and of the one before
    cdef int turns_here                  # answered since it was linked
    cdef set awaited                     # channels of LISTENs that are not settled; None: none
    cdef set sent_listens                # those of them whose LISTEN has been sent since the last probe
    cdef set asked_listens               # the same, of the probe under way
    cdef bint chained                    # COMMIT AND CHAIN has made its LISTEN count, so that what is EARLY does
    cdef list inbox                      # (hub.Notification, SURE, LISTENED or EARLY) as they came; None: none
    cdef size_t held_size                # bytes of the messages in it, at least
    cdef int early                       # those of them that are EARLY
    cdef bint fence_passed               # ReadyForQuery is due once the inbox is settled (listening)
    cdef list deallocating               # what DEALLOCATE names in the text or portal being passed on (plan.Note)

    cdef Statement statement(self, const char *name, size_t n)
    cdef bint may_read_sequences(self) noexcept
    cdef int close(self, str reason, str error=*, str sqlstate=*) except -1         # above: with a FATAL `error`
    cdef bint acquire(self) except -1                               # above: a server now, or it waits


cdef class Engine:
    cdef readonly Reactor loop
    cdef readonly Ledger ledger
    cdef readonly StatementTable table
    cdef readonly int index
    cdef readonly int workers
    cdef public object background    # what is done a slice a turn; returns whether there is more. None: nothing
    cdef public object wakes         # an eventfd of each worker, by index; None: this one is alone (see waking)
    cdef public object config            # config.model.Config
    cdef public dict databases           # name -> Database
    cdef public dict users               # name -> User
    cdef readonly dict by_key            # cancel key -> Client
    cdef readonly StreamList logins      # clients before they belong to a pool
    cdef readonly StreamList closing     # clients whose last bytes are being sent
    cdef readonly StreamList consoles    # console clients
    cdef readonly set cancels            # cancel.Request connections under way or waiting
    cdef public int peer_id              # of this pooler among its peers, 0: there are none
    cdef public dict peers               # peer id -> peers.Peer
    cdef bytes random                    # random bytes for cancel keys, fetched in bulk
    cdef int random_used
    cdef readonly dict startups          # startup packet -> what it says (startup); for this configuration
    cdef dict seen_vars                  # tracked values -> themselves: the same content is the same object
    cdef bytes ready                     # ReadyForQuery of a finished login, a notice in front of it
    cdef public list tracked             # names of tracked parameters, as PostgreSQL spells them
    cdef public dict tracked_index       # lower-case name -> index
    cdef dict spelled                    # name as some server has reported it -> index
    cdef int always_tracked              # so many of them every server reports
    cdef public set reported_by_some     # tracked where the server reports them; not to be asked for with `ignore`
    cdef Counter client_count
    cdef public int64_t last_id
    cdef public bint paused
    cdef public int shutdown             # a Shutdown
    cdef public double drain_until       # monotonic
    cdef public bint accepting
    # Settings that the hot path reads.
    cdef public uint32_t max_packet_size
    cdef public int max_prepared
    cdef public bint round_robin
    cdef public bint disable_pqexec
    cdef public bint fast_close
    cdef public bint log_connections
    cdef public bint log_disconnections
    cdef public bint log_pooler_errors
    cdef public bint reset_always
    cdef public frozenset harmless_functions     # lower-case names, see the setting
    cdef public bytes reset_query
    cdef public bytes check_query        # None: no check
    cdef public double check_delay
    cdef public double idle_timeout
    cdef public double connect_timeout
    cdef public double login_retry
    cdef public double reserve_timeout
    cdef public double wait_notify
    cdef public double cancel_wait_timeout
    cdef public double client_idle_timeout
    cdef public double client_login_timeout
    cdef public double pool_idle_timeout
    cdef public double autodb_idle_timeout
    cdef public int max_client_conn
    cdef public int verbose
    cdef public double pin_log_after     # seconds, 0: never
    cdef public size_t text_length       # bytes of statements that may be shown, 0: none
    cdef readonly Times lag              # by how much the loop was late for its ticks (its first histogram)
    cdef readonly dict ends              # (kind, reason) -> connections that ended
    cdef WordSet base_words              # without those of a database's catalog
    cdef WordSet enders                  # words that begin a statement that ends a transaction
    cdef WordSet default_word            # DEFAULT
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
    cdef int say(self, Stream who, str level, str text) except -1
    cdef Text begin_line(self, Stream who, str level)
