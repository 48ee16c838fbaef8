# What a client is told when its login is complete.
from pgferry.engine.core.model cimport Client, Pool, Server


cdef class Greeting:
    cdef object of              # Pool.greeting_version when it was made
    cdef tuple vars             # the client's tracked parameters
    cdef bint unchecked         # PostgreSQL has not seen some of their values yet
    cdef bytes text             # AuthenticationOk and all ParameterStatus messages


cdef Greeting greet(Pool pool, dict values, Greeting known)
cdef Greeting greet_as(Server s, bytes untracked)
cdef int new_key(Client c, bint long_key) except -1
cdef int put_key(Client c) except -1
