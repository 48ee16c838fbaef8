"""Answers of pgferry's own that are due, and changes of a client's statements that have succeeded."""

from pgferry.engine.core.model cimport Client, Server
from pgferry.engine.core.plan cimport F_CLIENT_OP, F_FAKE, K_COPY_END, K_PARSE, Entry


cdef int advance(Server s, bint feeding) except -1:
    """Give the answers of pgferry's own that are due: to the stage while feeding, else to the client directly."""
    cdef Entry *front
    cdef Client c = s.client
    cdef char message[5]
    if s.relay.passing and not feeding:
        s.relay.advance_is_due(True)      # not into the middle of the server's present message
        return 0
    while True:
        front = s.plan.front()
        if front == NULL or not (front.flags & F_FAKE or front.kind == K_COPY_END):
            return 0
        if front.kind != K_COPY_END and c is not None:
            message[0] = b"1" if front.kind == K_PARSE else b"3"
            message[1] = message[2] = message[3] = 0
            message[4] = 4
            if feeding:
                s.loop.out.emit(message, 5)
            else:
                c.put(message, 5)
        if front.flags & F_CLIENT_OP:
            settle(c)
        s.plan.pop()


cdef int settle(Client c) except -1:
    """The oldest open change of the client's statements has succeeded."""
    return c.names.settle(c.engine.table) if c is not None else 0
