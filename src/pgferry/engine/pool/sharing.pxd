# Sharing of limited server connections between workers.
from pgferry.engine.core.model cimport Engine
from pgferry.engine.shared.ledger cimport Counter

cdef enum:
    BLOCKED_BY_POOL = 1
    BLOCKED_BY_DB = 2
    BLOCKED_BY_USER = 3

cdef bint must_leave(Engine engine, Counter wanting, Counter held, int limit) noexcept
