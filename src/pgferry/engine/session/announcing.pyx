"""The process id in a notification: whoever has sent it through this pgferry knows another one as its own.

In front of a statement that may notify, the server itself notifies which client it works for, on a channel of
pgferry's own. PostgreSQL keeps the notifications of a session in their order, so that the listening connection of
every worker has heard it when the client's come, and believes it until the next one, however late it reads. Nothing
is sent while nobody listens through pgferry, nor again to a server that has told the same of itself in a transaction
that is known to be committed.
"""

from pgferry.engine.core.enums cimport P_ANNOUNCE
from pgferry.engine.core.model cimport Client, Server
from pgferry.engine.io.sys cimport be32
from pgferry.engine.session.staging cimport stage


cdef int announce(Client c, Server s, bint extended) except -1:
    """Stage it, in front of a message that may notify."""
    cdef int epoch
    cdef bytes text
    s.current.announced()
    if s.xact == b"E" and s.plan.turns == 0:
        return 0                    # nothing is carried out
    if not is_due(c, s):
        return 0
    epoch = c.db.listener_epoch.total()
    s.last.announces(c.id if s.xact == b"I" and s.plan.turns == 0 and not (extended and s.plan.begun) else -1, epoch)
    text = b"NOTIFY %b, '%d'" % (c.engine.announcements, be32(<const char *>c.peer.cancel_key))
    return stage(s, text, extended, P_ANNOUNCE, None)


cdef bint is_due(Client c, Server s) except -1:
    """Whether anybody listens, and the server has not told whom it works for."""
    return ((s.last.announced != 0 or c.db.listening.total() != 0)
            and not (s.last.announced == c.id and s.last.announced_epoch == c.db.listener_epoch.total()))


cdef int announced(Server s, bint succeeded) except -1:
    """It is answered: without an error, and outside of a transaction, that is for good."""
    if not succeeded:
        s.last.announced_is(-1)
    elif s.xact == b"I" and s.client is not None and s.last.announced == -1:
        s.last.announced_is(s.client.id)
    return 0
