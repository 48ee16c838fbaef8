"""What is known of a client before it is logged in."""

from pgferry.engine.core.model cimport Client, Job, Server


cdef class Login:
    """The login of one client."""

    cdef int proceed(self, Client c) except -1:
        raise NotImplementedError

    cdef int finish(self, Client c) except -1:
        raise NotImplementedError

    cdef bint take_answer(self) noexcept:
        """One of the answers that the greeting waits for; whether it was the last one."""
        self.asking -= 1
        return self.asking == 0

    def abandon(self, Client c):
        """The client is being closed."""
        cdef Server s = self.server
        cdef Job job
        self.over = True
        if s is not None:
            job = s.job
            job.abandoned(s)
        self.exchange = self.secret = self.found = self.keys = None


cdef int finish_login(Client c) except -1:
    """The client's pool knows what to greet it with: complete its login, unless the client has gone meanwhile."""
    cdef Login login = c.login          # held: the client drops it when it is greeted
    return login.finish(c) if login is not None else 0


cdef int refuse(Client c, object error) except -1:
    """End a login that an AuthError says is wrong: the reason is for the log only, it would tell who exists."""
    if error.detail:
        c.engine.log_about(c, "LOG", f"login refused: {error.detail}")
    c.close(error.message, error.message, error.sqlstate)
