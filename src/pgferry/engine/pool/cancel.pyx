"""Cancel requests of clients, carried to the server that runs their query and to no other.

PostgreSQL gives no answer to a cancel request; it signals the backend and closes the connection. So a request is
under way until that end is seen, and a server with one under way is given to nobody else meanwhile
(SV_BEING_CANCELED): when the connection has ended, the signal is pending in the backend, and a backend that is
waiting for a command drops it. A connection that ends in another way (reset, or no end within
cancel_wait_timeout) tells nothing about the signal, so that server is closed before it can serve anybody else.
A request whose query is over before it could be sent is dropped here.
"""

import errno
import os
import socket
import struct

from libc.stdint cimport uint32_t

from pgferry.engine.core.enums cimport SV_BEING_CANCELED, SV_GONE
from pgferry.engine.core.model cimport Client, Engine, Pool, Server
from pgferry.engine.core.plan cimport F_SWALLOW, K_QUERY
from pgferry.engine.io.handshakes cimport start_tls
from pgferry.engine.io.stream cimport Stream
from pgferry.engine.io.sys cimport EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLOUT
from pgferry.engine.server.login cimport direct

CANCEL_REQUEST = 80877102
cdef bytes SSL_REQUEST = struct.pack("!II", 8, 80877103)


cdef class Request(Stream):
    """What Cancel and peers.Forward have in common: connect, send the key, wait for the end of the connection."""

    def __init__(self, loop, done):
        self.done = done
        self.asked = self.loop.now

    cdef int connect_to(self, family, address) except -1:
        """Begin to connect. Raises OSError."""
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        code = sock.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            sock.close()
            raise OSError(code, os.strerror(code))
        self.connecting = True
        self.attach(sock.detach(), EPOLLIN | EPOLLOUT)
        return 0

    cdef bytes key_to_send(self):
        raise NotImplementedError

    cdef bint wanted(self) except -1:
        """Whether it is still worth sending."""
        return True

    cdef int connected(self) except -1:
        """The connection is there."""
        return self.send()

    cdef int send(self) except -1:
        """Send the request, if that still makes sense."""
        if not self.wanted():
            return self.finish()
        key = self.key_to_send()
        message = struct.pack("!II", 8 + len(key), CANCEL_REQUEST) + key
        self.sent = True
        self.put(message, len(message))
        return self.flush()

    cdef int failed(self, str why) except -1:
        """It could not be sent."""
        return self.finish()

    cdef int finish(self) except -1:
        """It is over, one way or the other."""
        raise NotImplementedError

    cdef int late(self) except -1:
        """cancel_wait_timeout has passed."""
        return self.finish()

    cdef int on_event(self, uint32_t events) except -1:
        if self.connecting and events & EPOLLOUT and not events & (EPOLLERR | EPOLLHUP):
            self.connecting = False
            self.watch(EPOLLIN)
            return self.connected()
        if self.connecting:
            return self.failed("connection refused")
        if events & EPOLLERR:
            self.broken = True
        return Stream.on_event(self, events)

    cdef int on_eof(self) except -1:
        return self.finish()


cdef class Cancel(Request):
    """A request on its way to PostgreSQL."""

    cdef readonly Client client
    cdef readonly Server server
    cdef bint asking                # whether PostgreSQL has TLS

    def __init__(self, loop, Client client, done):
        Request.__init__(self, loop, done)
        self.client = client
        self.server = client.server

    cdef bytes key_to_send(self):
        return self.server.ends.cancel_key

    cdef bint wanted(self) except -1:
        """Whether the query may still run."""
        return self.client.server is self.server and self.server.plan.size() > 0

    cdef int start(self) except -1:
        family, address = self.server.ends.address
        try:
            self.connect_to(family, address)
        except OSError as error:
            return self.failed(error.strerror)
        self.server.cancel_begins()
        return 0

    # The key goes the same way as the queries: with TLS if the server's connection has it.

    cdef int connected(self) except -1:
        if self.server.tls is None or not self.wanted():
            return self.send()
        if direct(self.server):
            return self.begin_tls()
        self.asking = True
        self.put(SSL_REQUEST, len(SSL_REQUEST))
        return self.flush()

    cdef ssize_t feed(self, const char *data, size_t n) except -1:
        if self.asking:
            self.asking = False
            if n > 1 or data[0] != b"S":
                self.failed("bad sslreq answer")
            else:
                self.begin_tls()
        return n

    cdef int begin_tls(self) except -1:
        if self.server.tls is None:
            return self.finish()        # it has been closed meanwhile
        return start_tls(self, self.server.tls.ssl.context, False, self.server.ends.host)

    cdef int on_secure(self) except -1:
        return self.send()

    cdef int on_eof(self) except -1:
        if not self.sent and not self.closed:
            return self.failed("connection closed" if self.tls is None else self.tls.ending("connection closed"))
        if self.broken and self.sent:
            distrust(self.server)
        return self.finish()

    cdef int late(self) except -1:
        if self.sent:
            distrust(self.server)
        return self.finish()

    cdef int failed(self, str why) except -1:
        """PostgreSQL cannot be reached: the request is dropped, as PgBouncer does."""
        self.server.pool.engine.log_about(self.server, "WARNING", f"failed cancel request: {why}")
        return self.finish()

    cdef int finish(self) except -1:
        """PostgreSQL has closed the connection (or there was none): the server may be used again."""
        cdef Server s = self.server
        cdef Pool pool = s.pool
        cdef bint under_way = self.fd >= 0
        if self.closed:
            return 0
        self.detach()
        pool.engine.cancel_keys.cancels.discard(self)
        if self in pool.cancels.waiting:
            pool.cancels.waiting.remove(self)
        if self in pool.cancels.sent:
            pool.cancels.sent.remove(self)
        self.done()
        if self.sent and pool.engine.settings.log_connections:
            pool.engine.log_about(s, "LOG", "successfully sent cancel request")
        if under_way:
            s.cancel_ends()
            if s.cancels == 0 and s.state == SV_BEING_CANCELED:
                s.make_available()
        return start_waiting(pool)


def request(Engine engine, bytes key, done):
    """Cancel the query of the client with this key, if it runs one; `done()` is called when that is over.

    An unknown key, an idle client and a server that is not doing the client's own work are passed over in silence,
    as PostgreSQL does.
    """
    cdef Client c = engine.cancel_keys.by_key.get(key)
    cdef Server s
    cdef Cancel cancel
    if c is None or c.server is None:
        done()
        return
    s = c.server
    if s.plan.size() == 0 or s.ends.cancel_key is None or (
            s.plan.front().flags & F_SWALLOW and s.plan.front().kind == K_QUERY):
        done()
        return
    cancel = Cancel(engine.loop, c, done)
    engine.cancel_keys.cancels.add(cancel)
    c.pool.cancels.waiting.append(cancel)
    start_waiting(c.pool)


cdef int start_waiting(Pool pool) except -1:
    """Send the requests that wait, oldest first, at most twice pool_size at a time."""
    cdef Cancel cancel
    if not pool.cancels.begin_starting():
        return 0            # called by the finish() of one that could not be sent: the loop below goes on
    try:
        while pool.cancels.waiting and (pool.settings.size <= 0 or len(pool.cancels.sent) < 2 * pool.settings.size):
            cancel = pool.cancels.waiting.pop(0)
            if cancel.wanted() and cancel.server.state != SV_GONE:
                pool.cancels.sent.append(cancel)
                cancel.start()
            else:
                cancel.finish()
    finally:
        pool.cancels.end_starting()
    return 0


cdef int distrust(Server s) except -1:
    """Nobody knows whether a signal will still come: this server must not be used by anybody else."""
    if s.replication:
        return 0            # nor will it be
    s.close_when_free("cancel request got no answer")
    return 0


cdef int check_timeouts(Engine engine) except -1:
    """Drop requests that have waited longer than cancel_wait_timeout, and connections that hang."""
    cdef Request request
    cdef double limit = engine.settings.cancel_wait_timeout
    if limit <= 0:
        return 0
    for request in list(engine.cancel_keys.cancels):
        if engine.loop.now - request.asked > limit:
            request.late()
    return 0
