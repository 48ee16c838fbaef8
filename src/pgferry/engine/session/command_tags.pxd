# Command tags that tell of more than the end of a statement.
from pgferry.engine.core.model cimport Server

cdef int look_at_tag(Server s, const char *tag, bint own) except -1
