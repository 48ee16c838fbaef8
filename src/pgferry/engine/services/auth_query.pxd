# auth_query: questions to PostgreSQL about users, on server connections of their own.
from pgferry.engine.core.model cimport Job
from pgferry.engine.pool.server_pool cimport ServerPool


cdef class Lookup(Job):
    cdef bytes user
    cdef bytes message              # Parse to Sync
    cdef list waiting               # (Login, done(rows, error)) of each login that waits for the answer
    cdef size_t prune_at            # so many of them: look who has left
    cdef bint again                 # it was lost with its server once

    cdef bint wanted(self) except -1


cdef class LookupPool(ServerPool):
    cdef dict lookups                # (query, user name) -> Lookup: questions that wait for a server, oldest first
    cdef size_t prune_at             # so many of them: look which nobody wants any more
