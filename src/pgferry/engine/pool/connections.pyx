"""The two kinds of connection at work: which code acts on which event, and on what is asked of them.

Bytes of clients go to client.login or client.relay, those of servers to server.login or server.relay.

What ends a connection may drop the last reference to it, while the caller had it from a field only: such a method holds
it in a variable of its own.
"""

from libc.stdint cimport uint32_t

from pgferry.engine.client.login cimport login_feed
from pgferry.engine.client.login_data cimport finish_login
from pgferry.engine.client.relay cimport client_feed, tunnel_feed
from pgferry.engine.core.enums cimport CL_CLOSING
from pgferry.engine.core.model cimport Client, Job, Pool, Server
from pgferry.engine.io.stream cimport PAUSE_PEER, PAUSE_WAIT, Stream
from pgferry.engine.io.sys cimport EPOLLERR, EPOLLHUP, EPOLLOUT
from pgferry.engine.pool.checkout cimport acquire_server, route
from pgferry.engine.pool.endings cimport (
    client_gone, client_hung_up, close_client, close_server, fail_server, finish_closing, server_gone,
)
from pgferry.engine.pool.release cimport finish_own_query, offer_server, release_server
from pgferry.engine.server.login cimport server_connected, server_login_feed, server_secure
from pgferry.engine.server.relay cimport server_feed
from pgferry.engine.server.splice cimport splice_on


cdef class ServerConnection(Server):
    """A connection to PostgreSQL."""

    cdef int on_event(self, uint32_t events) except -1:
        if self.login is not None and self.login.connecting:
            if events & (EPOLLOUT | EPOLLERR | EPOLLHUP):
                return server_connected(self)
            return 0
        return Stream.on_event(self, events)

    cdef ssize_t feed(self, const char *data, size_t n) except -1:
        if self.login is not None:
            return server_login_feed(self, data, n)
        return server_feed(self, data, n)

    cdef int on_ready(self) except -1:
        if self.epollin_off and self.relay.passing and splice_on(self):
            return 0
        return Stream.on_ready(self)

    cdef int on_eof(self) except -1:
        cdef Server s = self
        return server_gone(s)

    cdef int on_secure(self) except -1:
        return server_secure(self)

    cdef int on_drained(self) except -1:
        if self.client is not None:
            self.client.unpause(PAUSE_PEER)
            return release_server(self)
        return 0

    cdef int close(self, str reason) except -1:
        cdef Server s = self
        return close_server(s, reason)

    cdef int fail(self, str reason, str error) except -1:
        cdef Server s = self
        return fail_server(s, reason, error)

    cdef int release(self) except -1:
        return release_server(self)

    cdef int make_available(self) except -1:
        return offer_server(self)

    cdef int logged_in(self) except -1:
        """The login is over: it serves its first client."""
        cdef Pool pool = self.pool
        cdef Job job = self.job
        if job is not None:
            return job.logged_in(self)
        pool.endpoint.login_succeeded()
        for c in pool.logging_in.items():
            finish_login(<Client>c)
        offer_server(self)
        return pool.want_servers()

    cdef int own_query_done(self, int purpose, dict failed) except -1:
        return finish_own_query(self, purpose, failed)


cdef class ClientConnection(Client):
    """A connection from an application."""

    cdef ssize_t feed(self, const char *data, size_t n) except -1:
        cdef ssize_t used
        if self.login is not None:
            used = login_feed(self, data, n)
            if self.ending and self.paused & PAUSE_WAIT and self.login is not None and not self.closed:
                client_gone(self)           # the end came with the packet: nobody would tell of it any more
                return used
            if 0 < used < <ssize_t>n and not self.closed:
                self.loop.again(self)       # the login takes one packet at a time
            return used
        if self.tunnel is not None:
            return tunnel_feed(self, data, n)
        return client_feed(self, data, n)

    cdef int on_eof(self) except -1:
        cdef Client c = self
        return client_gone(c)

    cdef int on_hangup(self) except -1:
        cdef Client c = self
        return client_hung_up(c)

    cdef int on_drained(self) except -1:
        if self.state == CL_CLOSING:
            return finish_closing(self)
        if self.server is not None:
            return self.server.unpause(PAUSE_PEER)
        if self.tunnel is not None:
            return self.tunnel.unpause(PAUSE_PEER)
        return 0

    cdef int close(self, str reason, str error=None, str sqlstate="08P01") except -1:
        cdef Client c = self
        return close_client(c, reason, error, sqlstate)

    cdef int acquire(self, object verdict) except -1:
        return acquire_server(self, route(self, verdict))
