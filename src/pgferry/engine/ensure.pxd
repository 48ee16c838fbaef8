# What a statement of a client's needs on the server before it runs.
from pgferry.engine.model cimport Client, Server

cdef int refuse(Client c, Server s, bint parse, str text, str sqlstate) except -1
cdef bytes edited(Client c, Server s, object verdict, bytes text)
cdef int bring_sql(Client c, Server s, bint extended) except -1
cdef bint sequences_ready(Client c, Server s, bint extended) except -1
cdef int dealt(Client c, Server s, const char *tag) except -1
cdef int stage_query(Server s, bytes text, int purpose) except -1
