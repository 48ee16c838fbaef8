# Notifications in transaction mode: what clients listen to, and what waits for them.
from libc.stdint cimport int64_t

from pgferry.engine.core.model cimport Client, Server


cdef class Notification:
    # Shared by all clients that get it.
    cdef readonly bytes channel      # in the database's encoding; None: a notice of pgferry's own
    cdef bytes message               # as PostgreSQL has sent it, with the pid that clients are to see

    cdef bytes bytes_for(self, Client c)            # above: in its encoding; None: PostgreSQL is asked, see wait()
    cdef int wait(self, Client c) except -1         # above: have what is deferred flushed when the message is converted


cdef class Listener:
    cdef dict listeners              # channel -> set of clients that listen, or soon may
    cdef set live                    # channels PostgreSQL has confirmed
    cdef set refused                 # channels whose LISTEN has just failed
    cdef int64_t sent                # queries so far, and how many of them are answered
    cdef int64_t answered
    cdef dict due                    # client that is held -> the query that has to be answered first
    cdef set blocked                 # clients that wait for an answer on this connection

    cdef bint is_up(self) noexcept                  # above, as all that follow
    cdef int barrier(self) except -1
    cdef int notify_barrier(self, Client c) except -1
    cdef int listen(self, channels) except -1
    cdef int wait(self, Client c) except -1
    cdef list channels_of(self, Client c, tuple names)


cdef bint listens(Client c) except -1
cdef bint may_listen(Client c, tuple names) except -1
cdef bint may_stop(Client c, Server s, bint also_listens) except -1
cdef int take_channels(Client c, frozenset channels) except -1
cdef int drop_early(Client c) except -1
cdef int stop_listening(Client c) except -1
cdef int send(Client c, Notification item, int how) except -1
cdef int flush_deferred(Client c) except -1
cdef int flush_converted(Client c) except -1
cdef bint hold_ready(Client c) except -1
cdef int release(Client c) except -1
