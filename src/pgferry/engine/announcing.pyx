"""The process id in a notification: whoever has sent it through this pgferry knows another one as its own.

In front of a statement that may notify, the server itself notifies which client it works for, on a channel of
pgferry's own. PostgreSQL keeps the notifications of a session in their order, so that the listening connection of
every worker has heard it when the client's come, and believes it until the next one, however late it reads. Nothing
is sent while nobody listens through pgferry, nor again to a server that has told the same of itself in a transaction
that is known to be committed.
"""

import hashlib

from libc.stdint cimport uint8_t

from pgferry.engine.ensure cimport framed, stage_query
from pgferry.engine.model cimport P_ANNOUNCE, Client, Engine, Server
from pgferry.engine.plan cimport F_SWALLOW, K_BIND, K_CLOSE, K_EXECUTE, K_PARSE
from pgferry.engine.sys cimport be32

cdef bytes OURS = b"PGFERRY_NOTIFY\0"       # statement and portal


cdef bytes announcement_channel(Engine engine):
    """The same in all workers, and unknown to clients."""
    if engine.announcements is None:
        engine.announcements = b"pgferry_" + hashlib.blake2b(
            b"notifications", key=engine.ledger.secret, digest_size=16).hexdigest().encode()
    return engine.announcements


cdef int announce(Client c, Server s, bint extended) except -1:
    """Stage it, in front of a message that may notify."""
    cdef int epoch
    cdef bytes text
    s.notifying = False
    if s.xact == b"E" and s.plan.turns == 0:
        return 0                    # nothing is carried out
    if s.announced == 0 and c.db.listening.total() == 0:
        return 0
    epoch = c.db.hubs.total()
    if s.announced == c.id and s.announced_epoch == epoch:
        return 0
    s.announced = -1
    s.announced_epoch = epoch
    text = b"NOTIFY %b, '%d'" % (announcement_channel(c.engine), be32(<const char *>c.cancel_key))
    if extended:
        return stage_in_batch(s, text)
    return stage_query(s, text, P_ANNOUNCE)


cdef int stage_in_batch(Server s, bytes text) except -1:
    """In the extended protocol: in the transaction of the batch, beside the client's unnamed statement and portal."""
    cdef bytes message = (
        framed(b"C", b"S" + OURS)       # left by a batch that has failed
        + framed(b"P", OURS + text + b"\0\0\0") + framed(b"B", OURS + OURS + b"\0\0\0\0\0\0")
        + framed(b"E", OURS + b"\0\0\0\0") + framed(b"C", b"P" + OURS) + framed(b"C", b"S" + OURS))
    for kind in (K_CLOSE, K_PARSE, K_BIND, K_EXECUTE, K_CLOSE, K_CLOSE):
        s.plan.push(<uint8_t>kind, F_SWALLOW, 0)
    s.status = 0
    return s.loop.emit(<const char *>message, len(message))


cdef int announced(Server s) except -1:
    """The Query is answered without an error: outside of a transaction that is for good."""
    if s.xact == b"I" and s.client is not None and s.announced == -1:
        s.announced = s.client.id
    return 0
