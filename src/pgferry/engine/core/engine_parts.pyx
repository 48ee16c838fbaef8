"""Parts of the engine that its rooms share."""


cdef class EngineSettings:
    """Settings that the hot path reads; worker.configure sets them."""


cdef class TrackedParameters:
    """The parameters that each client has its own values of, wherever its server is."""


cdef class CancelKeys:
    """Cancel keys of clients, and requests with them."""


cdef class SqlWords:
    """Words that texts are scanned for."""


cdef class Phase:
    """What of the work is going on."""


cdef class ConnectingClients:
    """Clients that belong to no pool."""


cdef class Greetings:
    """What is the same for all who log in, as long as the configuration is."""
