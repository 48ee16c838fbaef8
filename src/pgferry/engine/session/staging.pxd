# Commands of pgferry's own beside a client's messages.
from libc.stdint cimport uint32_t

from pgferry.engine.core.model cimport Client, Server
from pgferry.engine.core.plan cimport Note

cdef bytes framed(bytes kind, bytes body)
cdef int stage_in_batch(Server s, bytes text, uint32_t number, Note note) except -1
cdef int stage(Server s, bytes text, bint extended, int purpose, Note note) except -1
cdef bint can_part(Server s) except -1
cdef int end_own(Server s, int purpose) except -1
cdef int refuse(Client c, Server s, bint parse, str text, str sqlstate) except -1
cdef int send_refused(Client c, Server s, bint parse, bytes error) except -1
