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


cdef class Restore:
    cdef tuple vars             # the client's tracked parameters,
    cdef uint64_t mask          # which of them the server has otherwise (bit: index),
    cdef bint exact             # and whether all others are equal
    cdef tuple base             # the tracked parameters that RESET leads to
    cdef State session_state             # the client's state; None: the server has it
    # what the way there depends on, see state.transition_key(); 0: there is none to go
    cdef int64_t transition_key
    cdef bint stateful          # the Query goes that way
    cdef bint in_block          # if it fails, nothing is carried out that was sent behind it
    cdef bint recoded           # parameters are among them whose bytes depend on client_encoding
    cdef bytes message          # the Query; None: none
    cdef list pending           # [(index, value)] of what `mask` tells
    cdef bint uncertain         # one server may refuse what others accept: the client is held until the answer
    cdef bint learned           # PostgreSQL has reported all of them as they were sent


cdef bytes assignment(bytes name, bytes value)
cdef bytes transition_sql(State old, State new, set omit)
cdef bytes transition_from_unknown(State old, State new, set omit)
cdef int64_t transition_key(State old, State new) except 0
cdef bytes in_transaction(bytes sql)
cdef size_t size_of(dict settings, frozenset channels) except? 0
cdef bint is_uncertain(State new)
cdef bytes taken_off(State state)
cdef bytes call(bytes name, bytes value)
