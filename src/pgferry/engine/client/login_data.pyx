"""What is known of a client before it is logged in."""

from pgferry.engine.core.model cimport Client, Job, Server


cdef class Login:
    """The login of one client."""

    cdef int proceed(self, Client c) except -1:
        raise NotImplementedError

    def abandon(self, Client c):
        """The client is being closed."""
        cdef Server s = self.server
        cdef Job job
        self.over = True
        if s is not None:
            job = s.job
            job.abandoned(s)
        self.exchange = self.secret = self.found = self.keys = None


cdef int refuse(Client c, object error) except -1:
    """End a login that an AuthError says is wrong: the reason is for the log only, it would tell who exists."""
    if error.detail:
        c.engine.log_about(c, "LOG", f"login refused: {error.detail}")
    c.close(error.message, error.message, error.sqlstate)
