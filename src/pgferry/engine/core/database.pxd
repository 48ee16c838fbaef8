# Users and databases: names, secrets, limits, what is known of the catalog; and who has used a server.
from libc.stdint cimport int64_t

from pgferry.engine.core.catalog_state cimport CatalogState
from pgferry.engine.core.stats cimport Stats
from pgferry.engine.core.words cimport WordSet
from pgferry.engine.shared.ledger cimport Counter


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

    cdef inline int proved_with(self, tuple keys) noexcept:
        # The keys of its login: with them it is logged in to servers.
        self.keys = keys
        return 0


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

    cdef inline int pause(self) noexcept:
        # PAUSE: its clients get no servers.
        self.paused = True
        return 0

    cdef inline int resume(self) noexcept:
        # They do again.
        self.paused = False
        return 0

    cdef inline int use(self, double now) noexcept:
        # Somebody has needed it until now.
        self.used_at = now
        return 0

    cdef inline int ddl_ran(self) noexcept:
        # Plans may be out of date: whoever prepares a text anew gets another Statement.
        self.epoch += 1
        return 0

    cdef inline int epoch_is_over(self, int64_t epoch) noexcept:
        # Another process has come as far as this; Statements of that time are not taken for older ones.
        self.epoch = max(self.epoch, epoch)
        return 0

    cdef inline int take_host_turn(self, int hosts, bint balance) noexcept:
        # Which of its hosts is tried first; `balance`: the next connection begins with the next one.
        cdef int turn = self.host_turn % hosts
        if balance:
            self.host_turn = turn + 1
        return turn

    cdef inline int begin_hosts_at(self, int turn) noexcept:
        # The host in front of this one does not serve.
        self.host_turn = turn
        return 0

    cdef inline int take_address_turn(self) noexcept:
        # Which address of its host is tried first.
        self.address_turn += 1
        return self.address_turn - 1

    cdef inline int listener_is(self, object listener) noexcept:
        # Somebody listens for the first time.
        self.listener = listener
        return 0


cdef class LastUse:
    # Who has used it, and what that may have left.
    cdef bint scrubbing              # DISCARD ALL is under way (P_RESET, or P_SCRUB with the next client waiting)
    cdef int64_t last_client         # id of the client it served last
    cdef User last_user              # login user of that client; None: nobody since it was new, or scrubbed
    cdef bint sequence_cache_dirty                # sequences may remember values of another client
    cdef int64_t announced           # id of the client it has announced; -1: not known, 0: none yet
    cdef int announced_epoch         # Database.listener_epoch by then

    cdef inline int scrub_begins(self) noexcept:
        # DISCARD ALL is on its way.
        self.scrubbing = True
        return 0

    cdef inline int scrubbed(self) noexcept:
        # Nothing is left of anybody.
        self.scrubbing = self.sequence_cache_dirty = False
        self.last_user = None
        return 0

    cdef inline int used_by(self, int64_t client, User user, bint again) noexcept:
        # Another client gets it, or one (`again`) whose own values of before are the last ones.
        if not again:
            self.sequence_cache_dirty = self.sequence_cache_dirty or self.last_client != 0
            self.last_client = client
        self.last_user = user
        return 0

    cdef inline int restore(self, User user) noexcept:
        # Another process has had it: sequences may remember values of a client that nobody knows here.
        self.last_user = user
        self.sequence_cache_dirty = True
        return 0

    cdef inline int announces(self, int64_t client, int epoch) noexcept:
        # It says which client uses it; -1: that is not sure.
        self.announced = client
        self.announced_epoch = epoch
        return 0

    cdef inline int user_is(self, User user) noexcept:
        self.last_user = user
        return 0

    cdef inline int announced_is(self, int64_t client) noexcept:
        # The announcement is answered; -1: it has failed.
        self.announced = client
        return 0

    cdef inline int sequences_are_dirty(self, bint dirty) noexcept:
        self.sequence_cache_dirty = dirty
        return 0
