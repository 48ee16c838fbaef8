"""Parts of a pool: its settings, its endpoint, its cancel requests."""


cdef class PoolSettings:
    """The settings that hold for this pool, worked out from those of database, user and pooler."""


cdef class Endpoint:
    """Where the servers of a pool are: those that are there, how logins go, and what PostgreSQL tells at login."""


cdef class PoolCancels:
    """Cancel requests (see pool.cancel)."""
