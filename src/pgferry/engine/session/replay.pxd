# What a server needs in front of its next client's first message: tracked parameters, session state.
from libc.stdint cimport int64_t, uint64_t

from pgferry.engine.core.model cimport Client, Server
from pgferry.engine.core.session_state cimport State


cdef class Restore:
    cdef tuple vars             # the client's tracked parameters,
    cdef uint64_t mask          # which of them the server has otherwise (bit: index),
    cdef bint exact             # and whether all others are equal
    cdef tuple base             # the tracked parameters that RESET leads to
    cdef State kept             # the client's state; None: the server has it
    cdef int64_t origin         # what the way there depends on, see state.origin(); 0: there is none to go
    cdef bint stateful          # the Query goes that way
    cdef bint in_block          # if it fails, nothing is carried out that was sent behind it
    cdef bint recoded           # parameters are among them whose bytes depend on client_encoding
    cdef bytes message          # the Query; None: none
    cdef list pending           # [(index, value)] of what `mask` tells
    cdef bint uncertain         # one server may refuse what others accept: the client is held until the answer
    cdef bint learned           # PostgreSQL has reported all of them as they were sent


cdef int bring(Client c, Server s, bint anew) except -1
cdef bint try_elsewhere(Server s, Client c, str reason) except -1
cdef bint is_expected(Server s, Py_ssize_t index, bytes value) except -1
cdef int settle_reported(Server s) except -1
cdef int brought(Server s, Client c, dict failed) except -1
cdef int not_brought(Server s, Client c, dict failed) except -1
