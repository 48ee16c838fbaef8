# What a server is to be asked about before anybody else gets it.
from libc.stdint cimport uint32_t

from pgferry.engine.core.model cimport Server

cdef int note_names(Server s, object names) except -1
cdef int touches(Server s, object verdict, uint32_t touch) except -1
cdef int doubt_lone(Server s) except -1
