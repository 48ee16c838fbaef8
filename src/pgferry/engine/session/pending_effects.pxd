# What a server is to be asked about before anybody else gets it.
from libc.stdint cimport uint32_t

from pgferry.engine.core.model cimport Server

cdef int add_effects(Server s, object verdict, uint32_t touch) except -1
cdef int demote_standalone(Server s) except -1
cdef int complete_standalone(Server s, bint in_query, const char *tag) except -1
