# Notifications in transaction mode: one listening server connection for each database.
from libc.stdint cimport int64_t

from pgferry.engine.internal cimport InternalSession, SessionOwner
from pgferry.engine.model cimport Client, Database, Engine, Server


cdef class Hub(SessionOwner):
    cdef Engine engine
    cdef Database db
    cdef InternalSession session
    cdef dict listeners              # channel -> set of clients
    cdef set live                    # channels PostgreSQL has confirmed
    cdef list asked                  # channels of each LISTEN under way, oldest first; None: a fence
    cdef int64_t sent                # queries so far, and how many of them are answered
    cdef int64_t answered
    cdef dict due                    # client whose LISTEN is held -> the query that has to be answered first
    cdef set blocked                 # clients whose LISTEN waits for this connection
    cdef list fences                 # clients whose ReadyForQuery is held back, oldest first
    cdef bint lost                   # clients were told that notifications may be missing

cdef bint listens(Client c) except -1
cdef bint may_listen(Client c, tuple channels) except -1
cdef bint settled(Client c, Server s) except -1
cdef bint may_stop(Client c, Server s, bint also_listens) except -1
cdef int take_channels(Client c, frozenset channels) except -1
cdef int stop_listening(Client c) except -1
cdef int flush_inbox(Client c) except -1
cdef bint hold_ready(Client c) except -1
cdef int hub_tick(Database db) except -1
