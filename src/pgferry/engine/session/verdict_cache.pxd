# Verdicts that are remembered by text, and whether a message needs one that is not.
from pgferry.engine.core.database cimport Database
from pgferry.engine.core.model cimport Client

cdef bint awaits_verdict(Client c, char kind, const char *p, size_t n, size_t total) except -1
