# Notifications in transaction mode: one listening server connection for each database.
from libc.stdint cimport int64_t

from pgferry.engine.model cimport Client, Database, Engine, Pool, Server


cdef class Hub:
    cdef Engine engine
    cdef Database db
    cdef Pool pool                   # whose login the connection uses
    cdef Server server               # None: not connected
    cdef bint up                     # logged in
    cdef dict listeners              # channel -> set of clients
    cdef set live                    # channels PostgreSQL has confirmed
    cdef list asked                  # channels of each LISTEN under way, oldest first; None: a fence
    cdef int64_t sent                # queries so far, and how many of them are answered
    cdef int64_t answered
    cdef dict due                    # client whose LISTEN is held -> the query that has to be answered first
    cdef set blocked                 # clients whose LISTEN waits for this connection
    cdef list fences                 # clients whose ReadyForQuery is held back, oldest first
    cdef double retry_at
    cdef double idle_since
    cdef bint lost                   # clients were told that notifications may be missing

cdef bint listens(Client c) except -1
cdef bint may_listen(Client c, tuple channels) except -1
cdef bint settled(Client c, Server s) except -1
cdef bint may_stop(Client c, Server s, bint also_listens) except -1
cdef int take_channels(Client c, frozenset channels) except -1
cdef int stop_listening(Client c) except -1
cdef int flush_inbox(Client c) except -1
cdef bint hold_ready(Client c) except -1
cdef int notified(Server s, const char *p, size_t n) except -1
cdef int hub_logged_in(Server s) except -1
cdef int hub_answered(Server s) except -1
cdef int hub_down(Server s, str reason) except -1
cdef int hub_tick(Database db) except -1
