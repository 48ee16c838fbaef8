# A client's messages about prepared statements: Parse, Bind, Describe and Close.
from pgferry.engine.client.message cimport Message
from pgferry.engine.core.model cimport Client, Server

cdef int on_parse(Client c, Server s, Message *m, object verdict) except -1
cdef int on_bind(Client c, Server s, Message *m, object verdict) except -1
cdef int on_describe(Client c, Server s, Message *m) except -1
cdef int on_close(Client c, Server s, Message *m) except -1
