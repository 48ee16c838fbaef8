"""Handshakes of TLS, in their turn.

A handshake costs up to a millisecond of computing. Those that can go on wait in a list of the loop, first come, first
served, and have the share of each turn that logins have (see unauthenticated), one step at least, so that a storm of
new clients holds up nobody's queries for longer than that.
"""

from pgferry.engine.io.stream cimport Reactor, Stream
from pgferry.engine.io.sys cimport monotonic
from pgferry.engine.io.tls cimport Tls
from pgferry.engine.io.unauthenticated cimport share_end


cdef int start_tls(Stream s, object context, bint server_side, object hostname=None, bytes first=None) except -1:
    """From here on the stream speaks TLS; on_secure() tells when. `first`: records that have come already.

    Raises ValueError for a host name that cannot be one.
    """
    s.speak_tls(Tls(s.loop.tls_channel(), context, server_side, hostname, first))
    return s.wait_for_handshake()


cdef int shake_hands(Reactor loop) except -1:
    """A turn's share of the handshakes."""
    cdef Stream s
    cdef Py_ssize_t served = 0
    cdef double until = share_end()
    while served < len(loop.handshakes):
        s = <Stream>loop.handshakes[served]
        served += 1
        if s.closed or s.tls is None or not s.tls.begin_turn():
            continue            # it has another socket since, or none
        try:
            step(s)
        except Exception as error:
            loop.failed(s, error)
        if monotonic() >= until:
            break
    del loop.handshakes[:served]
    return 0


cdef int step(Stream s) except -1:
    """One step of a handshake."""
    cdef Tls tls = s.tls
    cdef int state = tls.shake(s.fd)
    if tls.reply is not None:
        s.send_reply()
    if s.closed:
        return 0
    if state < 0:
        return s.on_eof()
    s.left_unread(tls.more)
    if state == 0:
        return s.wait_for_handshake() if s.readable else 0
    s.on_secure()
    if s.readable and not s.closed:
        return s.loop.again(s)
    return 0
