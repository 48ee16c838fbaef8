# A client's messages about prepared statements: Parse, Bind, Describe and Close.
from pgferry.engine.core.model cimport Client, Server


cdef size_t on_parse(Client c, Server s, const char *p, size_t n, size_t total) except? 0
cdef size_t on_bind(Client c, Server s, const char *p, size_t n, size_t total) except? 0
cdef size_t on_describe(Client c, Server s, const char *p, size_t n, size_t total) except? 0
cdef size_t on_close(Client c, Server s, const char *p, size_t n, size_t total) except? 0
