# Portals whose Execute changes what pgferry knows of the session: the text has a RESET, DISCARD or DEALLOCATE.
from pgferry.engine.client.message cimport Message
from pgferry.engine.core.model cimport Client, Server


cdef inline bint may_matter(Client c) noexcept:
    """Whether the portal that was just bound, or one before it, is such a portal."""
    return (c.names.portals is not None or c.names.dropping or c.names.reset_due is not None
            or c.names.deallocating is not None)


cdef int bound(Client c, Message *m) except -1
cdef int on_execute(Client c, Server s, Message *m) except -1
