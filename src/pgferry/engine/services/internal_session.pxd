# Server connections of pgferry's own, in a known environment.
from pgferry.engine.core.database cimport Database
from pgferry.engine.core.model cimport Engine, Job, Pool, Server


cdef class InternalSession(Job):
    cdef readonly Engine engine
    cdef readonly Database db
    cdef Server server               # None: not connected
    cdef readonly bint up            # logged in, and the environment is what it is to be
    cdef readonly bytes encoding     # of the database, as PostgreSQL names it; None: not known yet
    cdef object queries              # deque of what is called with the answers of the queries sent, oldest first
    cdef list waiting                # (text, on_answer) of those for when it is up
    cdef int settling                # queries of ENVIRONMENT under way
    cdef Pool pool                   # whose user logs in: the one that could last time, at first
    cdef set refused                 # pools whose users could not, since one could or all had been tried
    cdef bint of_user                # the login failed for a reason that another user may not have
    cdef double pause                # seconds until the next attempt after the last failure of all
    cdef double retry_at             # monotonic
    cdef double used_at              # monotonic

    cdef int connect(self) except -1
    cdef int query(self, bytes text, object on_answer) except -1
    cdef int close(self, str reason) except -1
    cdef Pool next_pool(self)
    cdef int send(self, bytes text) except -1
    cdef int fail_queries(self, str reason) except -1
    cdef int login_over(self, str reason) except -1
    # Whom it is for; these do nothing unless overridden.
    cdef int on_up(self) except -1                              # queries are sent at once from now on
    cdef int on_lost(self, str reason) except -1                # after on_up(); its queries have been told
    cdef int on_failed(self, str reason) except -1              # nobody can log in, or PostgreSQL cannot be reached
    cdef int on_notified(self, const char *p, size_t n) except -1       # a whole NotificationResponse

cdef int internal_tick(Database db) except -1
