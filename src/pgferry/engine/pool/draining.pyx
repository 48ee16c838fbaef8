"""The end with drain_timeout: each client is told while it is between transactions.

For the first half of the time whoever is found in a pause between two transactions is told 57P01 and closed; everybody
else goes on as before, so nearly all leave without a failed request. Then
those are left that have no pause: their next transaction is answered with the error, which is as good as being told
before it, because nothing of it was carried out. (Telling them right behind the last answer would be worse: libpq
takes an error that it did not wait for as a notice, and its SQLSTATE is lost.)

Replication: a stream of changes has no end and no pauses, but may be broken off anywhere and gone on with elsewhere. It
is told when, over all workers, nothing but such streams is left: a base backup needs its WAL until it is complete.
"""

from pgferry.engine.core.enums cimport CL_IDLE, COPY_BOTH, DRAINING
from pgferry.engine.core.model cimport Client, Engine, Pool
from pgferry.engine.io.sys cimport MSG_DONTWAIT, MSG_PEEK, recv
from pgferry.engine.shared.ledger cimport Counter

# What PostgreSQL itself says when it is shut down; drivers know it.
TEXT = "terminating connection due to administrator command"
REASON = "pooler is shutting down"
cdef double PAUSE = 0.05        # seconds


cdef bint in_pause(Client c, double since) noexcept:
    """Whether a client between transactions has been silent for a moment, and still is."""
    cdef char byte
    if c.held.size or c.loop.now - since < PAUSE:
        return False
    return recv(c.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) <= 0


cdef bint is_between(Client c) noexcept:
    """Whether a client that keeps its server is between two transactions."""
    return c.server is not None and c.passing == 0 and c.server.is_clean()


cdef bint is_streaming(Client c) noexcept:
    """Whether it reads a stream of changes that could end here: whoever reads one can go on from where it was."""
    return (c.pool.main_pool is not None and c.server is not None and c.server.relay.copy_in == COPY_BOTH
            and c.server.relay.passing == 0 and c.passing == 0)


def begin(Engine engine, double seconds):
    """Let go of everybody who does nothing now; the others follow, at the latest after so many seconds."""
    engine.phase.begin_draining(engine.loop.now + seconds / 2)
    go_on(engine, seconds, True)


def go_on(Engine engine, double seconds, bint first=False):
    """Every tick: those that have come to an end, half-time, and the deadline."""
    cdef Client c
    cdef Pool pool
    cdef Counter others = engine.ledger.counter("draining")
    cdef int n = 0
    cdef list streams = []
    cdef bint over = engine.loop.now >= engine.phase.drain_until
    if over and engine.phase.shutdown == DRAINING:
        over = False
        engine.phase.pass_half_time(seconds / 2)
    for item in engine.pools():
        pool = <Pool>item
        n += pool.waiting.count + pool.logging_in.count
        for stream in pool.clients.items():
            c = <Client>stream
            if (c.server is None and c.state == CL_IDLE and in_pause(c, c.times.idle_since)) or (
                    (c.session or c.pin.pins) and is_between(c) and in_pause(c, c.times.request_time)):
                c.close(REASON, TEXT, "57P01")
            elif is_streaming(c):
                streams.append(c)
            else:
                n += 1
        if over:
            for group in (pool.clients, pool.waiting, pool.logging_in):
                for stream in group.items():
                    (<Client>stream).close("drain_timeout", TEXT, "57P01")
    others.put(n)
    if others.total() == 0 and not first:       # by the second time every worker has said how many
        for stream in streams:
            (<Client>stream).close(REASON, TEXT, "57P01")
