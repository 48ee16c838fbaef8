"""Parts of a client connection, each with one purpose."""


cdef class ClientPeer:
    """Both ends of the connection, and the client's cancel key."""


cdef class SessionTracker:
    """What the client's session holds, wherever its server is."""


cdef class Subscription:
    """LISTENs under way, and notifications that wait."""


NO_SUBSCRIPTION = Subscription()
