# Notifications in transaction mode: what clients listen to, and what waits for them.
from pgferry.engine.services.notification_listener cimport Notification
from pgferry.engine.core.model cimport Client, Server

cdef enum:
    # What is known of an entry of Client.inbox.
    SURE = 0            # it is for the client whatever becomes of its transaction
    LISTENED = 1        # the client listened to the channel, as far as was known
    EARLY = 2           # a LISTEN of the client is under way: it is for it if that has succeeded

cdef bint listens(Client c) except -1
cdef bint may_listen(Client c, tuple names) except -1
cdef bint settled(Client c, Server s) except -1
cdef bint may_stop(Client c, Server s, bint also_listens) except -1
cdef int take_channels(Client c, frozenset channels) except -1
cdef int drop_early(Client c) except -1
cdef int stop_listening(Client c) except -1
cdef int send(Client c, Notification item, int how) except -1
cdef int flush_inbox(Client c) except -1
cdef int flush_converted(Client c) except -1
cdef bint hold_ready(Client c) except -1
cdef int release(Client c) except -1
