# Parts of a client connection, each with one purpose.
from libc.stdint cimport int64_t, uint32_t

from pgferry.engine.core.session_state cimport Restore, State
from pgferry.engine.core.statements cimport ParseSettings


cdef struct ClientTimes:
    # When what has happened.
    double connect_time              # Unix time
    double accepted                  # monotonic
    double request_time              # monotonic, of the last request's first byte
    double wait_start
    double query_start               # monotonic, 0: none is timed
    double xact_start
    double linked_at                 # monotonic, since when it has its server
    double idle_since
    double closed_at


cdef class ClientPeer:
    # Both ends of the connection, and the client's cancel key.
    cdef readonly bytes cancel_key
    cdef bytes address               # struct sockaddr as accepted; b"" for unix sockets
    cdef bytes own_address
    cdef public int peer_pid         # unix sockets
    cdef public int peer_uid
    cdef public int listen_port
    cdef public bint is_unix

    cdef int restore(self, object about) except -1
    cdef bytes own_end(self, int fd)

    cdef inline int came_by_unix_socket(self, int listen_port, int pid, int uid) noexcept:
        # The process at the other end and its user; -1: the kernel does not say.
        self.is_unix = True
        self.address = b""
        self.listen_port = listen_port
        self.peer_pid = pid
        self.peer_uid = uid
        return 0

    cdef inline int came_from(self, bytes address, int listen_port) noexcept:
        # By TCP, from this address as accept() gives it.
        self.address = address
        self.listen_port = listen_port
        return 0

    cdef inline int cancel_key_is(self, bytes key) noexcept:
        # What it is told to cancel with.
        self.cancel_key = key
        return 0


cdef class SessionTracker:
    # What the client's session holds, wherever its server is.
    cdef bint vars_unchecked         # the server has not seen some of vars yet
    cdef ParseSettings parse_settings  # what its texts are parsed under, with parse_vars and parse_state
    cdef tuple parse_vars
    cdef State parse_state
    cdef State session_state         # what its session holds, apart from tracked parameters
    cdef Restore restore             # what it needed last; None: nothing yet
    cdef State start                 # what its startup packet asked for
    cdef tuple start_vars            # tracked parameters as its session began
    cdef bint start_unchecked        # no server has accepted `start` yet
    cdef bint proving                # nothing of it may be sent before its server has told that all is set
    cdef int retries                 # servers closed in a row that its restore has failed on
    # SQL-level prepared statements: name -> (text of the PREPARE, ParseSettings it was executed under; None: nobody
    # knows them, so that the statement cannot be made elsewhere). None: there are none.
    cdef dict sql
    cdef bint to_default             # session mode: a SET may be one TO DEFAULT
    # SQL-level name -> what it may have been given since the last probe, as in `sql` (text None: unknown); b"": any,
    # by code that prepares under settings that nobody knows. None: none.
    cdef dict preparing
    cdef dict asked_preparing        # the same, of the probe under way

    cdef int may_prepare(self, bytes name, bytes text, ParseSettings settings) except -1
    cdef int may_prepare_any(self) except -1
    cdef int keep_prepared(self, bytes name, tuple value) except -1
    cdef int forget_prepared(self, bytes name) except -1
    cdef dict end_asking(self)
    cdef int ask_again(self) except -1

    cdef inline void start_with_vars(self, tuple vars, bint unchecked) noexcept:
        # Tracked parameters as its session begins; `unchecked`: PostgreSQL has not accepted all of them yet.
        self.start_vars = vars
        self.vars_unchecked = unchecked

    cdef inline void start_with(self, State state, dict sql, bint unchecked) noexcept:
        # The State that its session begins with, and SQL-level prepared statements; `unchecked`: as above.
        self.start = self.session_state = state
        self.sql = sql
        self.start_unchecked = unchecked

    cdef inline void learn_state(self, State state) noexcept:
        # PostgreSQL has told what its session holds now.
        self.session_state = state

    cdef inline void learn_prepared(self, dict sql) noexcept:
        # These SQL-level prepared statements are its own now; None: there are none.
        self.sql = sql

    cdef inline bint has_parsed_under(self, tuple vars) noexcept:
        # Whether what its texts are parsed under with these tracked parameters is worked out: parse_settings.
        return (self.parse_vars is vars and self.parse_state is self.session_state
                and self.parse_settings is not None)

    cdef inline void parse_under(self, tuple vars, ParseSettings settings) noexcept:
        # What its texts are parsed under with these tracked parameters.
        self.parse_settings = settings
        self.parse_vars = vars
        self.parse_state = self.session_state

    cdef inline void remember(self, Restore restore) noexcept:
        # The next server may need the same.
        self.restore = restore

    cdef inline void begin_proving(self) noexcept:
        # It is held until PostgreSQL has accepted what is set for it.
        self.proving = True

    cdef inline void end_proving(self, tuple vars, tuple written) noexcept:
        # PostgreSQL has accepted all of it. Its tracked parameters `vars` are `written` like this.
        if self.start_vars is vars:
            self.start_vars = written
        self.retries = 0
        self.proving = self.vars_unchecked = self.start_unchecked = False

    cdef inline void try_elsewhere(self) noexcept:
        # Its restore has failed on this server, or with it.
        self.retries += 1
        self.proving = False

    cdef inline void may_set_default(self) noexcept:
        # Session mode: one of its texts has the word DEFAULT.
        self.to_default = True

    cdef inline void begin_asking(self) noexcept:
        # A probe asks what has been prepared.
        self.asked_preparing = self.preparing
        self.preparing = None


cdef struct Pin:
    # What holds it to its server.
    uint32_t pins                    # Touch bits that hold it to its server
    double pinned_at                 # monotonic
    int64_t pinned_xacts             # transactions since
    bint pin_logged


cdef enum:
    # What is known of an entry of Subscription.deferred.
    SURE = 0            # it is for the client whatever becomes of its transaction
    LISTENED = 1        # the client listened to the channel, as far as was known
    EARLY = 2           # a LISTEN of the client is under way: it is for it if that has succeeded


cdef class Subscription:
    # LISTENs under way, and notifications that wait.
    cdef set awaited                 # channels of LISTENs that are not settled; None: none
    cdef set sent_listens            # those of them whose LISTEN has been sent since the last probe
    cdef set asked_listens           # the same, of the probe under way
    cdef bint chained                # COMMIT AND CHAIN has made its LISTEN count, so that what is EARLY does
    cdef list deferred               # (Notification, SURE, LISTENED or EARLY) as they came; None: none
    cdef size_t held_size            # bytes of the messages in it, at least
    cdef int early                   # those of them that are EARLY
    cdef bint barrier_passed         # ReadyForQuery is due once `deferred` is settled (session.notifications)

    cdef int listens_to(self, list channels) except -1
    cdef set settle(self)
    cdef int ask_again(self) except -1
    cdef int make_sure(self) except -1
    cdef int drop_early(self) except -1
    cdef int defer(self, object item, int how, size_t size) except -1
    cdef int gave(self, Py_ssize_t count) except -1
    cdef int forget(self) except -1

    cdef inline int commit(self) noexcept:
        # Its transaction is committed: if another one has begun with that (AND CHAIN), its LISTENs count already.
        self.chained = self.awaited is not None
        return 0

    cdef inline int begin_asking(self) noexcept:
        # A probe asks what the client listens to.
        self.asked_listens = self.sent_listens
        self.sent_listens = None
        return 0

    cdef inline int keep(self, list deferred, int early) noexcept:
        # What is left of the deferred, and how many of it are EARLY.
        self.deferred = deferred or None
        self.early = early
        return 0

    cdef inline int held_size_is(self, size_t size) noexcept:
        # As it was counted.
        self.held_size = size
        return 0

    cdef inline int pass_barrier(self) noexcept:
        # The listening connection has answered.
        self.barrier_passed = True
        return 0

    cdef inline int send_ready(self) noexcept:
        # ReadyForQuery goes to the client now.
        self.barrier_passed = False
        return 0


# What clients have that have never listened: nothing is ever put into it.
cdef Subscription NO_SUBSCRIPTION
