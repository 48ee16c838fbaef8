"""Streams with TLS: handshakes in their turn, receiving, what TLS itself has to say.

A handshake costs up to a millisecond of computing. Those that can go on wait in a list of the loop, first come, first
served, and have the share of each turn that logins have (see newcomers), one step at least, so that a storm of new
clients holds up nobody's queries for longer than that.
"""

from pgferry.engine.io.loop cimport Loop, Stream
from pgferry.engine.io.unauthenticated cimport share_end
from pgferry.engine.io.sys cimport MSG_DONTWAIT, MSG_NOSIGNAL, monotonic, send
from pgferry.engine.io.tls cimport Channel, Tls

cdef enum:
    MAX_REPLIES = 1024 * 1024   # unsent bytes of a peer that makes TLS itself answer and does not read


cdef int start_tls(Stream s, object context, bint server_side, object hostname=None, bytes first=None) except -1:
    """From here on the stream speaks TLS; on_secure() tells when. `first`: records that have come already.

    Raises ValueError for a host name that cannot be one.
    """
    if s.loop.channel is None:
        s.loop.channel = Channel()
    s.tls = Tls(s.loop.channel, context, server_side, hostname, first)
    return wait_turn(s)


cdef int wait_turn(Stream s) except -1:
    """The handshake can go on, or begin."""
    if not s.tls.queued:
        s.tls.queued = True
        s.loop.handshakes.append(s)
    return 0


cdef int shake_hands(Loop loop) except -1:
    """A turn's share of the handshakes."""
    cdef Stream s
    cdef double until = share_end()
    while loop.handshakes:
        s = <Stream>loop.handshakes.popleft()
        if s.closed or s.tls is None or not s.tls.queued:
            continue            # it has another socket since, or none
        s.tls.queued = False
        try:
            step(s)
        except Exception as error:
            loop.failed(s, error)
        if monotonic() >= until:
            break
    return 0


cdef int step(Stream s) except -1:
    """One step of a handshake."""
    cdef Tls tls = s.tls
    cdef int state = tls.shake(s.fd)
    if tls.reply is not None:
        answer(s)
    if s.closed:
        return 0
    if state < 0:
        return s.on_eof()
    s.readable = tls.more or s.ending
    if state == 0:
        return wait_turn(s) if s.readable else 0
    s.on_secure()
    if s.readable and not s.closed:
        return s.loop.again(s)
    return 0


cdef int receive_tls(Stream s) except -1:
    """Stream.receive(), of a stream with TLS."""
    cdef Tls tls = s.tls
    cdef int rounds = s.loop.rounds
    cdef char *at
    cdef size_t room
    cdef ssize_t n
    if tls.shaking:
        return wait_turn(s)
    while not s.closed and s.paused == 0:
        at = s.space(&room)
        n = tls.receive(s.fd, at, room)
        if tls.reply is not None:
            answer(s)
        if n <= 0:
            s.readable = False
            if tls.ended:
                say_goodbye(s)      # the answer to the peer's own
            if n == 0 or (s.fd < 0 and s.ending):
                return s.on_eof()
            return s.unmute()
        s.readable = tls.more or s.ending
        s.taken(n)
        if not s.readable:
            return 0
        rounds -= 1
        if rounds == 0:
            return s.loop.again(s)
    return 0


cdef int answer(Stream s) except -1:
    """Send what TLS itself has to say."""
    cdef bytes records = s.tls.reply
    s.tls.reply = None
    if s.unsent() > MAX_REPLIES:
        s.broken = True
        return s.loop.again(s)
    s.keep(records, len(records))
    return s.flush()


cdef int say_goodbye(Stream s) except -1:
    """close_notify, if it can be sent at once: without it a peer takes the end for a broken connection."""
    cdef bytes record
    if s.fd >= 0 and not s.broken and s.unsent() == 0:
        record = s.tls.goodbye()
        if record:
            send(s.fd, <const char *>record, len(record), MSG_NOSIGNAL | MSG_DONTWAIT)
    return 0
