# The two kinds of connection at work.
from pgferry.engine.core.model cimport Client, Server


cdef class ServerConnection(Server):
    pass


cdef class ClientConnection(Client):
    pass
