# What a startup packet says.
from libc.stdint cimport uint32_t

from pgferry.engine.client.greeting cimport Greeting
from pgferry.engine.core.model cimport Client


cdef class Startup:
    # Shared by all clients that sent the same packet: never changed once it is read, but for the greeting.
    cdef readonly str username
    cdef readonly str database
    cdef readonly dict values       # index of a tracked parameter -> value
    cdef readonly dict settings     # lower-case name of any other setting -> value; None: none
    cdef bint unsorted              # whether some belong here or there depends on the server
    cdef readonly int replication   # a model.Replication
    cdef bytes options              # the startup parameter `options` of a replication connection, as it was sent
    cdef str refusal                # what to say if those cannot be kept for the client
    cdef bytes negotiate            # NegotiateProtocolVersion, None: not needed
    cdef bint long_key              # protocol 3.2: a cancel key of 32 bytes
    cdef Greeting greeting          # of the last login with it

    cdef inline int greets_with(self, Greeting greeting) noexcept:
        # The next login with it gets the same, as long as that holds.
        self.greeting = greeting
        return 0


cdef Startup read_startup(Client c, bytes packet, uint32_t version)
