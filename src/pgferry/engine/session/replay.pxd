# What a server needs in front of its next client's first message: tracked parameters, session state.
from pgferry.engine.core.model cimport Client, Server

cdef int replay_state(Client c, Server s, bint anew) except -1
cdef bint try_elsewhere(Server s, Client c, str reason) except -1
cdef int settle_reported(Server s) except -1
cdef int on_replay_done(Server s, Client c, dict failed) except -1
cdef int on_replay_failed(Server s, Client c, dict failed) except -1
