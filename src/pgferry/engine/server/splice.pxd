# Long data messages: from the server's socket to the client's without a copy in between.
from pgferry.engine.core.model cimport Server

cdef bint splice_on(Server s) except -1
