"""Long data messages of a long result: from the server's socket to the client's without a copy in between.

What follows the header of a message that is passed on need not be read. splice(2) moves it as pages of the kernel: out
of one socket into a pipe, out of the pipe into the other socket. The loop has one pipe, which is empty between calls:
what the client does not take is read from it and kept with the client's unsent bytes, as always. The receive behind
such a message is a small one (Stream.short_read): it finds the next header, and leaves what can be spliced.

Without a pipe (no descriptors left) and with TLS the bytes are received and sent.
"""

from libc.errno cimport EAGAIN, EINTR, errno

from pgferry.engine.core.model cimport Client, Server
from pgferry.engine.io.stream cimport PAUSE_PEER, Reactor
from pgferry.engine.io.sys cimport (
    EPOLLIN, EPOLLOUT, F_SETPIPE_SZ, O_CLOEXEC, O_NONBLOCK, SPLICE_F_MOVE, SPLICE_F_NONBLOCK, close, fcntl, pipe2, read,
    splice,
)

cdef enum:
    LONG = 128 * 1024       # bytes still to come, from which on it pays
    PORTION = 512 * 1024    # bytes at once: what a client that reads slowly may have to have kept for it
    PIPE = 1024 * 1024      # bytes of its pages, which need not be full


cdef bint splice_on(Server s) except -1:
    """Move some of the message that is passing. False: it has to be received."""
    cdef Client c = s.client
    cdef Reactor loop = s.loop
    cdef ssize_t n
    if (s.relay.passing < LONG or not s.relay.passing_on or s.closed or s.paused or s.broken or s.held.size
            or s.tls is not None
            or c is None or c.closed or c.broken or c.blocked or c.tls is not None or c.unsent()
            or not open_pipe(loop)):
        return False
    n = splice(s.fd, NULL, loop.pipe[1], NULL, min(s.relay.passing, <size_t>PORTION), SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
    if n <= 0:
        return False            # the end, nothing there, an error: receive() finds out
    s.relay.passed(n)
    s.read_short(s.relay.passing == 0)
    c.pool.stats.count_sent(n)
    try:
        give(loop, c, n)
    except BaseException:
        shut_pipe(loop)         # what is left in it must not go to the next pair
        raise
    if c.blocked:
        s.pause(PAUSE_PEER)
    else:
        loop.throttle(s, n >= PORTION)
    return True


cdef int give(Reactor loop, Client c, size_t n) except -1:
    """Empty the pipe, which holds n bytes, into the client's socket; keep what that refuses."""
    cdef ssize_t sent = 0
    while n:
        sent = splice(loop.pipe[0], NULL, c.fd, NULL, n, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
        if sent > 0:
            n -= sent
        elif sent == 0 or errno != EINTR:
            break
    if n and (sent == 0 or errno != EAGAIN):
        c.lost_connection()
        shut_pipe(loop)         # with what is in it
        return loop.again(c)
    while n:
        sent = read(loop.pipe[0], loop.rbuf, min(n, loop.rbuf_cap))
        if sent > 0:
            c.put_raw(loop.rbuf, sent)
            n -= sent
            c.is_refused()
        elif sent == 0 or errno != EINTR:
            raise OSError(errno, "read from a pipe of our own")
    if c.blocked:
        c.watch(EPOLLIN | EPOLLOUT)
    return 0


cdef bint open_pipe(Reactor loop) noexcept:
    """Have the pipe, if there can be one."""
    if loop.pipe[0] < 0:
        if pipe2(loop.pipe, O_CLOEXEC | O_NONBLOCK) < 0:
            loop.pipe[0] = loop.pipe[1] = -1
            return False
        fcntl(loop.pipe[1], F_SETPIPE_SZ, PIPE)     # a smaller one will do: less is moved at once then
    return True


cdef int shut_pipe(Reactor loop) except -1:
    close(loop.pipe[0])
    close(loop.pipe[1])
    loop.pipe[0] = loop.pipe[1] = -1
    return 0
