# What a server needs in front of its next client's first message: tracked parameters, session state.
from libc.stdint cimport int64_t, uint64_t

from pgferry.engine.model cimport Client, Server
from pgferry.engine.state cimport State


cdef class Restore:
    cdef tuple vars             # the client's tracked parameters,
    cdef uint64_t mask          # which of them the server has otherwise (bit: index),
    cdef bint exact             # and whether all others are equal
    cdef tuple base             # the pool's tracked parameters
    cdef State kept             # the client's state; None: the server has it
    cdef int64_t origin         # what the way there depends on, see state.origin(); 0: there is none to go
    cdef bint stateful          # one of the Queries goes that way
    cdef bytes first, second    # the Queries; None: none
    cdef list pending           # [(index, value)] of what `mask` tells
    cdef bint learned           # PostgreSQL has reported all of them as they were sent


cdef int bring(Client c, Server s) except -1
cdef bint is_expected(Server s, Py_ssize_t index, bytes value) except -1
cdef int settle_reported(Server s) except -1
cdef int brought(Server s, Client c) except -1
cdef int not_brought(Server s, Client c) except -1
