"""Parts of a pool: its settings, its endpoint, its cancel requests."""

from pgferry.engine.io.stream cimport StreamList

cdef enum:
    SHORT = 4096        # bytes of a value and what PostgreSQL makes of it that are remembered,
    MOST_VALUES = 4096  # and how many of them


cdef class PoolSettings:
    """The settings that hold for this pool, worked out from those of database, user and pooler."""


cdef class Endpoint:
    """Where the servers of a pool are: those that are there, how logins go, and what PostgreSQL tells at login."""

    def __cinit__(self):
        self.fresh = StreamList()
        self.idle = StreamList()
        self.used = StreamList()
        self.tested = StreamList()
        self.active = StreamList()
        self.being_canceled = StreamList()
        self.internals = StreamList()
        self.greeting_version = object()
        self.canonical_values = {}
        self.start_settings = {}

    cdef int forget_parameters(self) except -1:
        """What PostgreSQL tells at login may have changed."""
        self.server_parameters = None
        self.canonical_values.clear()
        self.greeting_version = object()
        return 0

    cdef int parameters_are(self, tuple values, tuple reset_values, bytes untracked) except -1:
        """What a server has told at its login: the tracked parameters, connect_query included and without it, and
        ParameterStatus messages of all others. No greeting made so far is right any more.
        """
        self.base_vars = values
        self.reset_vars = reset_values
        self.server_parameters = untracked
        self.greeting_version = object()
        return 0

    cdef int start_is(self, dict settings, dict statements) noexcept:
        """What connect_query has left in the session."""
        self.start_settings = settings
        self.start_sql = statements or None
        return 0

    cdef int learn_canonical(self, int index, bytes value, bytes canonical) except -1:
        """PostgreSQL reports a value that was set for a client as `canonical`."""
        cdef tuple key = (index, value)
        if len(value) + len(canonical) > SHORT:
            return 0
        if self.canonical_values.get(key) != canonical:
            if len(self.canonical_values) > MOST_VALUES:
                self.canonical_values.clear()
            self.canonical_values[key] = canonical
            self.greeting_version = object()
        return 0

    cdef int hold_off(self, double until) noexcept:
        """No login begins before that (monotonic)."""
        self.retry_at = until
        return 0

    cdef int login_succeeded(self) noexcept:
        self.last_connect_failed = self.last_login_failed = False
        self.last_error = None
        self.retry_at = 0
        return 0

    cdef int login_refused(self, str sqlstate, str text) except -1:
        """PostgreSQL has refused a login for good, as far as can be told."""
        self.last_login_failed = True
        self.last_connect_failed = False
        self.last_error = (sqlstate, text)
        return 0

    cdef int connect_failed(self) noexcept:
        """No connection was possible, or not yet."""
        self.last_connect_failed = True
        return 0


cdef class PoolCancels:
    """Cancel requests (see pool.cancel)."""

    def __cinit__(self):
        self.waiting = []
        self.sent = []
