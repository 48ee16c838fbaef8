# Parts of a pool: its settings, its endpoint, its cancel requests.
from pgferry.engine.io.stream cimport StreamList


cdef class PoolSettings:
    # The settings that hold for this pool, worked out from those of database, user and pooler.
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


cdef class Endpoint:
    # Where the servers of a pool are: those that are there, how logins go, and what PostgreSQL tells at login.
    # Servers
    cdef readonly StreamList fresh
    cdef readonly StreamList idle    # last used last
    cdef readonly StreamList used
    cdef readonly StreamList tested
    cdef readonly StreamList active
    cdef readonly StreamList being_canceled
    cdef readonly StreamList internals  # of pgferry's own, not counted in pool_size (see internal)
    cdef readonly bytes server_parameters  # untracked ParameterStatus messages; None until a server has logged in
    cdef public tuple base_vars      # tracked parameters as the server reports them at login, connect_query included
    cdef public tuple reset_vars     # the same without connect_query: what RESET leads to
    cdef public dict start_settings  # what connect_query has left, see connect_state
    cdef public dict start_sql       # and its prepared statements, as SessionTracker.sql; None: none
    cdef object greeting_version              # another object whenever a client would be greeted differently
    cdef readonly dict canonical_values         # (index, value as a client gave it) -> value as the server reports it
    cdef public bint last_connect_failed
    cdef public bint last_login_failed
    cdef public object last_error    # (sqlstate, text) of the last failed login, or None
    cdef public double retry_at      # monotonic: no connection attempt before

    cdef int forget_parameters(self) except -1
    cdef int parameters_are(self, tuple values, tuple reset_values, bytes untracked) except -1
    cdef int start_is(self, dict settings, dict statements) noexcept
    cdef int learn_canonical(self, int index, bytes value, bytes canonical) except -1
    cdef int hold_off(self, double until) noexcept
    cdef int login_succeeded(self) noexcept
    cdef int login_refused(self, str sqlstate, str text) except -1
    cdef int connect_failed(self) noexcept


cdef class PoolCancels:
    # Cancel requests (see pool.cancel).
    # Cancel requests (see cancel)
    cdef readonly list waiting
    cdef readonly list sent
    cdef bint starting

    cdef inline bint begin_starting(self) noexcept:
        # Those that wait are sent. False: they are already.
        if self.starting:
            return False
        self.starting = True
        return True

    cdef inline int end_starting(self) noexcept:
        self.starting = False
        return 0
