"""What one stream may take of a turn of the loop, by time: so that nobody is held up by how much another one sends.

A stream whose messages take longer than SHARE is left (PAUSE_TURN) with the rest of its input held or unread, and goes
on in a later turn. Those that wait so are served first come, first served, behind everything else of a turn, and have
one such share together, so that a hundred of them cost the others no more than one.

Verdicts about texts that nobody has sent before have a share of their own, over all clients: when it is used up
(judged_enough), a message that needs another one ends its client's turn. While clients wait, texts that come new queue
behind them. What is served has the whole share again, so that each of them gets on.
"""

from pgferry.engine.io.stream cimport PAUSE_TURN, Reactor, Stream
from pgferry.engine.io.sys cimport monotonic

cdef double SHARE = 1e-3        # seconds


cdef bint share_used(Stream s) except -1:
    """Whether the stream has used up its share; it begins with the first look at the clock in a turn."""
    return s.loop.share.used_up(s, monotonic(), SHARE)


cdef int end_turn(Stream s) except -1:
    """The stream goes on in a later turn; until then it is not read."""
    if not s.paused & PAUSE_TURN:
        s.pause(PAUSE_TURN)
        s.loop.share.unfinished.append(s)
    return 0


cdef int serve_unfinished(Reactor loop) except -1:
    """The share of those that did not get ready in earlier turns."""
    cdef Stream s
    cdef Py_ssize_t served = 0
    cdef double until = monotonic() + SHARE
    loop.share.begin_part(False)
    for _ in range(len(loop.share.unfinished)):
        s = <Stream>loop.share.unfinished[served]
        served += 1
        s.next_turn()
        loop.share.begin_anew()
        try:
            s.on_ready()
        except Exception as error:
            loop.failed(s, error)
        if loop.share.classified_enough or monotonic() >= until:
            break
    del loop.share.unfinished[:served]
    loop.share.begin_anew()
    return 0


cdef int spend(Reactor loop, double seconds) noexcept:
    """A verdict has taken so long."""
    return loop.share.classified_for(seconds, SHARE)
