# Wiping a server's session with DISCARD ALL.
from pgferry.engine.core.model cimport Server

cdef int scrub(Server s) except -1
cdef int scrubbed(Server s) except -1
