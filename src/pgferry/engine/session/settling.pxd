# Servers that wait until the catalog is known, because of what ran on them.
from pgferry.engine.core.database cimport Database
from pgferry.engine.core.model cimport Client, Server

cdef bint hold(Client c, Server s) except -1
cdef int settle_unsure(Client c, Server s) except -1
cdef int settle_held(Database db, int reading) except -1
