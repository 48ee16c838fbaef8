# Noting transactions of which nobody could tell what they did.
from pgferry.engine.core.model cimport Client, Server

cdef int note_unsure(Client c, Server s, const char *text, size_t n) except -1
cdef int note_definition(Server s) except -1
cdef int note_outdated(Client c, Server s) except -1
cdef int forget_unsure(Server s) except -1
