# auth_query: questions to PostgreSQL about users, on server connections of their own.
from pgferry.engine.core.model cimport Pool, Server


cdef class Lookup:
    cdef bytes user
    cdef bytes message              # Parse to Sync
    cdef list waiting               # (Login, done(rows, error)) of each login that waits for the answer
    cdef size_t prune_at            # so many of them: look who has left
    cdef bint again                 # it was lost with its server once

    cdef bint wanted(self) except -1


cdef int serve_lookups(Pool pool) except -1
cdef bint next_lookup(Pool pool) except -1
cdef int start_lookup(Server s) except -1
cdef int lookup_answered(Server s, dict failed) except -1
cdef int lookup_lost(Server s, str reason) except -1
cdef int fail_lookups(Pool pool, str error) except -1
