"""Commands of pgferry's own beside a client's messages: staged behind what is staged already, their answers swallowed.

In front of a Query they are Queries. In the extended protocol a Query would end the implicit transaction of the batch,
so there a command goes as Parse, Bind and Execute of a statement and a portal of pgferry's own, and the client's
unnamed ones stay as they are. As long as nothing of the client's batch is sent, what comes in front of it has a Sync of
its own: behind an Execute, PostgreSQL would take the client's first statement for one in a transaction block.
"""

from libc.stdint cimport uint8_t, uint32_t

from pgferry.engine.core.model cimport Client, Server
from pgferry.engine.core.plan cimport (
    F_SWALLOW, K_BIND, K_CLOSE, K_EXECUTE, K_PARSE, K_QUERY, K_SYNC, TEXTS, Note, note_of_refusal,
)
from pgferry.engine.io.sys cimport put32
from pgferry.engine.wire.messages cimport error_message

cdef bytes OWN = b"PGFERRY_OWN\0"       # statement and portal


cdef int stage_in_batch(Server s, bytes text, uint32_t number, Note note) except -1:
    """Stage a command in the extended protocol; `number` and `note` (or None) are of the entry for its Execute."""
    cdef bytes message = (
        framed(b"C", b"S" + OWN)        # left by one that has failed
        + framed(b"P", OWN + text + b"\0\0\0") + framed(b"B", OWN + OWN + b"\0\0\0\0\0\0")
        + framed(b"E", OWN + b"\0\0\0\0") + framed(b"C", b"P" + OWN) + framed(b"C", b"S" + OWN))
    for kind in (K_CLOSE, K_PARSE, K_BIND, K_EXECUTE, K_CLOSE, K_CLOSE):
        s.expect(<uint8_t>kind, F_SWALLOW, number if kind == K_EXECUTE else 0)
        if kind == K_EXECUTE and note is not None:
            s.plan.note(note)
    return s.put(<const char *>message, len(message))


cdef int stage(Server s, bytes text, bint extended, int purpose, Note note) except -1:
    """Stage a command in front of a message of the client's; `purpose`: of its ReadyForQuery, if it has one."""
    if not extended:
        s.query(text, purpose)
        return s.plan.note(note) if note is not None else 0
    stage_in_batch(s, text, 0, note)
    return 0 if s.plan.begun else end_own(s, purpose)


cdef bint can_part(Server s) except -1:
    """Whether what is staged now keeps apart from the client's batch, as far as that is possible. Between a Parse and
    its Bind it can, once the Parse has succeeded. False: that is not known yet, and the client is to be held.
    """
    if s.plan.begun != TEXTS:
        return True
    if s.plan.size():
        s.put(b"H\0\0\0\4", 5)
        return False
    s.plan.begin_batch()
    return True


cdef int end_own(Server s, int purpose) except -1:
    """Stage the Sync that ends what is in front of the client's message: if that fails, PostgreSQL skips what is behind
    it up to there.
    """
    s.expect(K_SYNC, F_SWALLOW, purpose)
    return s.put(b"S\0\0\0\4", 5)


cdef bytes framed(bytes kind, bytes body):
    """A message of this type."""
    cdef char size[4]
    put32(size, <uint32_t>(4 + len(body)))
    return kind + size[:4] + body


cdef int refuse(Client c, Server s, bint parse, str text, str sqlstate) except -1:
    """Have the client's statement fail with this error: PostgreSQL gets a text that it cannot parse."""
    return send_refused(c, s, parse, error_message("ERROR", sqlstate, text))


cdef int send_refused(Client c, Server s, bint parse, bytes error) except -1:
    """Stage a statement that PostgreSQL cannot parse; `error` (an ErrorResponse) takes the place of what it says."""
    cdef bytes text = b"pgferry has refused a statement of its client\0"
    cdef bytes message
    cdef char size[4]
    s.current.note()                    # nothing of it is run
    if parse:
        text = b"PGFERRY_REFUSED\0" + text + b"\0\0"
    put32(size, <uint32_t>(4 + len(text)))
    message = (b"P" if parse else b"Q") + size[:4] + text
    s.put(<const char *>message, len(message))
    s.expect(K_PARSE if parse else K_QUERY, 0, 0)
    s.plan.note(note_of_refusal(error))
    return 0
