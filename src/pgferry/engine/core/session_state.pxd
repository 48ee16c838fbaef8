# What a session holds that can be brought to another server: settings, role, listening channels.
from libc.stdint cimport int64_t, uint64_t


cdef class State:
    cdef readonly dict settings      # lower-case name -> value, or REPLAY and the SET itself
    cdef frozenset names             # of the settings
    cdef readonly frozenset channels
    cdef bytes role                  # two of the settings
    cdef bytes authorization
    cdef State rest                  # without what must not stay on a server that waits; None: there is none of that
    cdef int64_t shape               # a number that stands for names and channels
    cdef dict transitions              # transition_key() -> the SQL that leads here
    cdef size_t transitions_size            # bytes of these texts
    cdef readonly size_t size        # bytes of names, values and channels
    cdef object __weakref__          # StateTable holds nothing alive


cdef class StateTable:
    # The States that are in use: the same content is the same object.
    cdef object states               # what -> State; holds nothing alive
    cdef set omit                    # Engine.omit

    cdef State intern(self, dict settings, frozenset channels)
    cdef State with_setting(self, State old, bytes name, bytes value)
    cdef State without_limits(self, State state)


cdef enum:
    PLAIN = 63          # tracked parameters that have a bit of their own in a mask; the last bit is for all others


cdef class Restore:
    # The Query that brings a server to a client's tracked parameters and State, and what it was made for.
    cdef tuple vars             # the client's tracked parameters,
    cdef uint64_t mask          # which of them the server has otherwise (bit: index),
    cdef bint exact             # and whether all others are equal
    cdef tuple base             # the tracked parameters that RESET leads to
    cdef State session_state    # the client's state; None: the server has it
    cdef int64_t transition_key     # what the way there depends on, see transition_key(); 0: there is none to go
    cdef bint stateful          # the Query goes that way
    cdef bint in_block          # if it fails, nothing is carried out that was sent behind it
    cdef bint recoded           # parameters are among them whose bytes depend on client_encoding
    cdef bytes message          # the Query; None: none
    cdef list pending           # [(index, value)] of what `mask` tells
    cdef bint uncertain         # one server may refuse what others accept: the client is held until the answer
    cdef bint learned           # PostgreSQL has reported all of them as they were sent

    cdef int write(self, bytes sql, bint stateful, bint in_block) except -1
    cdef int add(self, Py_ssize_t index, bytes value, bint recoded) except -1

    cdef inline bint fits(self, tuple vars, uint64_t mask, bint exact, State state, int64_t key, tuple base) noexcept:
        # Whether it is what these differences need, too. Parameters without a bit of their own cannot be told apart.
        return (self.vars is vars and self.mask == mask and self.session_state is state and self.transition_key == key
                and self.exact == exact and self.base is base and not mask >> PLAIN)

    cdef inline void report(self, tuple vars) noexcept:
        # PostgreSQL has reported these.
        self.learned = vars is self.vars


cdef Restore restore_for(tuple vars, uint64_t mask, bint exact, State state, int64_t key, tuple base)

cdef bytes assignment(bytes name, bytes value)
cdef bytes transition_sql(State old, State new, set omit)
cdef bytes transition_from_unknown(State old, State new, set omit)
cdef int64_t transition_key(State old, State new) except 0
cdef bytes in_transaction(bytes sql)
cdef size_t size_of(dict settings, frozenset channels) except? 0
cdef bint is_uncertain(State new)
cdef bytes taken_off(State state)
cdef bytes call(bytes name, bytes value)
