# What connect_query leaves in a session: every client of the pool starts with it.
from pgferry.engine.core.model cimport Pool, Server
from pgferry.engine.core.session_state cimport State

cdef bint ask_start(Server s, bytes connect_query) except -1
cdef bint start_answered(Server s, dict failed) except -1
cdef State start_of(Pool pool, dict settings)
