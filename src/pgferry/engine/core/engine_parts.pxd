# Parts of the engine that its rooms share.
from libc.stdint cimport uint32_t

from pgferry.engine.core.enums cimport DRAINING, URGENT
from pgferry.engine.core.words cimport WordSet
from pgferry.engine.io.stream cimport StreamList


cdef class EngineSettings:
    # Settings that the hot path reads. A field has the name and the unit of its setting in the table (config.settings)
    # and is filled from there, but for the last ones, which are worked out (see WORKED_OUT).
    cdef public uint32_t max_packet_size
    cdef public int max_prepared_statements
    cdef public bint server_round_robin
    cdef public bint disable_pqexec
    cdef public bint server_fast_close
    cdef public bint log_connections
    cdef public bint log_disconnections
    cdef public bint log_pooler_errors
    cdef public bint server_reset_query_always
    cdef public double server_check_delay
    cdef public double server_idle_timeout
    cdef public double server_connect_timeout
    cdef public double server_login_retry
    cdef public double reserve_pool_timeout
    cdef public double query_wait_notify
    cdef public double cancel_wait_timeout
    cdef public double client_idle_timeout
    cdef public double client_login_timeout
    cdef public double pool_idle_timeout
    cdef public double autodb_idle_timeout
    cdef public int max_client_conn
    cdef public int verbose
    cdef public double pin_log_threshold  # seconds, 0: never
    cdef public size_t statement_text_length   # bytes of statements that may be shown, 0: none
    cdef public frozenset harmless_functions  # lower-case names, see the setting
    cdef public bytes reset_query
    cdef public bytes check_query    # None: no check


cdef class TrackedParameters:
    # The parameters that each client has its own values of, wherever its server is.
    cdef dict seen_vars              # tracked values -> themselves: the same content is the same object
    cdef public list names           # names of tracked parameters, as PostgreSQL spells them
    cdef public dict index           # lower-case name -> index
    cdef dict spelled                # name as some server has reported it -> index
    cdef int always_tracked          # so many of them every server reports
    cdef public set reported_by_some  # tracked where the server reports them; not to be asked for with `ignore`


cdef class CancelKeys:
    # Cancel keys of clients, and requests with them.
    cdef readonly dict by_key        # cancel key -> Client
    cdef readonly set cancels        # cancel.Request connections under way or waiting
    cdef public int peer_id          # of this pooler among its peers, 0: there are none
    cdef public dict peers           # peer id -> peers.Peer
    cdef bytes random                # random bytes for cancel keys, fetched in bulk
    cdef int random_used

    cdef int put_random(self, char *at, int size) except -1

    cdef inline int peers_are(self, int own_id, dict peers) noexcept:
        # The poolers that cancel requests may be for; own_id 0: there are no others.
        self.peer_id = own_id
        self.peers = peers
        return 0


cdef class SqlWords:
    # Words that texts are scanned for.
    cdef WordSet base                # without those of a database's catalog
    cdef WordSet end_transaction     # words that begin a statement that ends a transaction
    cdef WordSet default             # DEFAULT


cdef class Phase:
    # What of the work is going on.
    cdef public bint paused
    cdef public int shutdown         # a Shutdown
    cdef public double drain_until   # monotonic
    cdef public bint accepting

    cdef inline int pause(self) noexcept:
        # PAUSE: clients get no servers.
        self.paused = True
        return 0

    cdef inline int resume(self) noexcept:
        # They do again.
        self.paused = False
        return 0

    cdef inline int begin_draining(self, double half_time) noexcept:
        # The end begins: until half-time (monotonic) whoever has a pause is told, and everybody else goes on.
        self.shutdown = DRAINING
        self.drain_until = half_time
        return 0

    cdef inline int pass_half_time(self, double seconds) noexcept:
        # Nobody begins another transaction, and in so many seconds all is over.
        self.shutdown = URGENT
        self.drain_until += seconds
        return 0


cdef class ConnectingClients:
    # Clients that belong to no pool.
    cdef readonly StreamList logins  # clients before they belong to a pool
    cdef readonly StreamList closing  # clients whose last bytes are being sent
    cdef readonly StreamList consoles  # console clients


cdef class Greetings:
    # What is the same for all who log in, as long as the configuration is.
    cdef readonly dict startups      # startup packet -> what it says (startup); for this configuration
    cdef bytes ready                 # ReadyForQuery of a finished login, a notice in front of it

    cdef int renew(self, str notice) except -1
