# What a session holds that can be brought to another server: settings, role, listening channels.
from libc.stdint cimport int64_t

from pgferry.engine.core.model cimport Client, Engine, Server


cdef class State:
    cdef readonly dict settings      # lower-case name -> value, or REPLAY and the SET itself
    cdef frozenset names             # of the settings
    cdef readonly frozenset channels
    cdef bytes role                  # two of the settings
    cdef bytes authorization
    cdef State rest                  # without what must not stay on a server that waits; None: there is none of that
    cdef int64_t shape               # a number that stands for names and channels
    cdef dict ways                   # origin() -> the SQL that leads here
    cdef size_t ways_size            # bytes of these texts
    cdef readonly size_t size        # bytes of names, values and channels
    cdef object __weakref__          # engine.states holds nothing alive

cdef State intern_state(Engine engine, dict settings, frozenset channels)
cdef State with_setting(Engine engine, State old, bytes name, bytes value)
cdef bytes assignment(bytes name, bytes value)
cdef bytes way(State old, State new, set omit)
cdef bytes way_anew(State old, State new, set omit)
cdef int64_t origin(State old, State new) except 0
cdef bytes in_transaction(bytes sql)
cdef bytes base_again(Client c)
cdef bytes base_script(Client c, object names, list tracked)
cdef size_t size_of(dict settings, frozenset channels) except? 0
cdef bint is_uncertain(State new)
cdef bytes taken_off(State state)
cdef bytes reported_text(Engine engine, tuple vars, Py_ssize_t index, int version)
