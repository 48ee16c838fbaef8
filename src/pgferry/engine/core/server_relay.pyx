"""What passes from a server to its client, and what is under way beside it."""


cdef class ServerRelay:
    """How far a server's answer has come."""
