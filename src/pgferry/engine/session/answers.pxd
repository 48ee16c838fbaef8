# Answers of pgferry's own that are due, and changes of a client's statements that have succeeded.
from pgferry.engine.core.model cimport Client, Server
from pgferry.engine.core.plan cimport F_FAKE, K_COPY_END, Entry


cdef inline void advance_later(Server s) noexcept:
    """What pgferry answers itself may be due now, but only behind the message that is passing."""
    cdef Entry *front = s.plan.front()
    if front != NULL and (front.flags & F_FAKE or front.kind == K_COPY_END):
        s.relay.advance_is_due(True)


cdef int advance(Server s, bint feeding) except -1
cdef int settle(Client c) except -1
