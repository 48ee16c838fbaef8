"""Parts of a server connection, each with one purpose."""


cdef class Probe:
    """What PostgreSQL is to be asked about the session, is being asked, and has answered."""


cdef class Replay:
    """Setting the client's parameters and state, in front of its first message."""


cdef class Unsure:
    """What has run while the catalog was not known (session.unsure)."""


cdef class Injected:
    """What pgferry has put beside the client's own messages, and what is to follow."""


cdef class CurrentStatement:
    """What the statements under way may do."""


cdef class ConnectionEnds:
    """Both ends of the connection, and how a cancel request reaches it."""


cdef class LoginParameters:
    """What PostgreSQL has told at login."""
