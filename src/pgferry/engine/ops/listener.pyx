"""Listening sockets: accepts clients and begins their logins."""

import os

from libc.errno cimport ECONNABORTED, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, errno
from libc.stdint cimport uint32_t

from pgferry.engine.client.login cimport new_login
from pgferry.engine.core.model cimport Client, Engine
from pgferry.engine.io.stream cimport Service
from pgferry.engine.io.sys cimport (
    EPOLLIN, SOCK_CLOEXEC, SOCK_NONBLOCK, SOL_SOCKET, SO_PEERCRED, accept4, close, getsockopt, sockaddr,
    sockaddr_storage, socklen_t,
)
from pgferry.engine.pool.connections cimport ClientConnection

cdef extern from "sys/socket.h" nogil:
    struct ucred:
        int pid
        int uid
        int gid

cdef enum:
    BURST = 16       # connections accepted in one turn, so that those already in are served too
    BACKLOG = 65536  # more than any kernel queues
    COMPLAINT = 10   # seconds
    HALF_OPEN = 100  # logins under way beyond max_client_conn; max_client_conn counts from the startup packet on

TOO_MANY = "no more connections allowed (max_client_conn)"


cdef class ListenSocket(Service):
    """One listening socket, level-triggered: what one turn leaves in the backlog comes up again in the next.

    An accept that finds nobody costs nearly as much as one that finds a client, so the number tried in one turn
    starts at one and grows while all of them succeed.
    """

    cdef Engine engine
    cdef public bint is_unix
    cdef public int port
    cdef int burst                  # accepts to try in the next turn
    cdef public bint starved        # out of descriptors or memory: maintenance tries again
    cdef double complained          # monotonic, of the last line about that

    def __init__(self, loop, Engine engine, int fd, bint is_unix, int port):
        self.engine = engine
        self.is_unix = is_unix
        self.port = port
        self.complained = -COMPLAINT
        self.burst = 1
        self.edge = 0
        self.attach(fd, EPOLLIN)

    cdef int on_event(self, uint32_t events) except -1:
        self.accept_some()
        return self.served()

    def retry(self):
        """Called by maintenance: go on if descriptors had run out."""
        if self.starved and not self.closed:
            self.starved = False
            self.watch(EPOLLIN)

    def stop(self):
        """Accept nobody any more. Those whom the kernel has accepted for us already are taken in first."""
        self.burst = BACKLOG
        self.accept_some()
        self.detach()

    cdef int accept_some(self) except -1:
        cdef sockaddr_storage addr
        cdef socklen_t size
        cdef int fd, _i
        for _i in range(self.burst):
            size = sizeof(addr)
            fd = accept4(self.fd, <sockaddr *>&addr, &size, SOCK_NONBLOCK | SOCK_CLOEXEC)
            if fd < 0:
                if errno == EINTR or errno == ECONNABORTED:
                    continue
                if errno == EMFILE or errno == ENFILE or errno == ENOBUFS or errno == ENOMEM:
                    self.starve(os.strerror(errno))
                self.burst = 1
                return 0
            self.take_in(fd, (<const char *>&addr)[:size])
        self.burst = min(self.burst + 1, BURST)
        return 0

    cdef int starve(self, str why) except -1:
        """Descriptors or memory have run out. Said at once, then every ten seconds."""
        self.starved = True
        self.watch(0)
        if self.loop.now - self.complained >= COMPLAINT:
            self.complained = self.loop.now
            self.engine.log.write("WARNING", f"accept() failed: {why}; new clients must wait")
        return 0

    cdef int take_in(self, int fd, bytes address) except -1:
        """Begin a login. What is raised meanwhile costs this connection only."""
        cdef Client c = None
        try:
            c = ClientConnection(self.loop, self.engine)
            self.welcome(c, fd, address)
        except Exception as error:
            if c is None or c.fd != fd:
                close(fd)
            if c is None:
                self.loop.report(self, error)
            else:
                self.loop.failed(c, error)
        if self.engine.connecting.logins.count > self.engine.settings.max_client_conn + HALF_OPEN:
            # The oldest has had the most time: who means it is in after milliseconds.
            c = <Client>self.engine.connecting.logins.head
            try:
                c.close(TOO_MANY, TOO_MANY)
            except Exception as error:
                self.loop.failed(c, error)
        return 0

    cdef int welcome(self, Client c, int fd, bytes address) except -1:
        cdef ucred cred
        cdef socklen_t size = sizeof(cred)
        if not self.is_unix:
            c.peer.came_from(address, self.port)
        elif getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) == 0:
            c.peer.came_by_unix_socket(self.port, cred.pid, cred.uid)
        else:
            c.peer.came_by_unix_socket(self.port, 0, -1)
        new_login(c)
        c.is_unauthenticated(True)
        self.engine.connecting.logins.append(c)
        c.attach(fd, EPOLLIN)
        return 0
