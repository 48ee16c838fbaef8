# Transactions of which nobody could tell what they did, because the catalog was not known.
from pgferry.engine.core.model cimport Client, Database, Server

cdef int note_unsure(Client c, Server s, const char *text, size_t n) except -1
cdef int note_definition(Server s) except -1
cdef int note_outdated(Client c, Server s) except -1
cdef bint hold(Client c, Server s) except -1
cdef int settle_unsure(Client c, Server s) except -1
cdef int settle_held(Database db, int reading) except -1
cdef int forget_unsure(Server s) except -1
