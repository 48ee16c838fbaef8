# Server connections of pgferry's own, in a known environment.
from pgferry.engine.core.model cimport Database, Engine, Pool, Server


cdef class SessionOwner:
    # Whom an InternalSession is for; the methods do nothing unless overridden.
    cdef bint wants_session(self) except -1                     # whether it is to stay, and to be made again when lost
    cdef int session_up(self) except -1                         # queries are sent at once from now on
    cdef int session_lost(self, str reason) except -1           # after session_up(); its queries have been told
    cdef int session_failed(self, str reason) except -1         # nobody can log in, or PostgreSQL cannot be reached
    cdef int session_notified(self, const char *p, size_t n) except -1      # a whole NotificationResponse


cdef class InternalSession:
    cdef readonly Engine engine
    cdef readonly Database db
    cdef readonly str purpose        # for logs and application_name
    cdef SessionOwner owner
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
    cdef bint is_needed(self) except -1
    cdef int close(self, str reason) except -1
    cdef Pool next_pool(self)
    cdef int send(self, bytes text) except -1
    cdef int fail_queries(self, str reason) except -1
    cdef int login_over(self, str reason) except -1

cdef int internal_logged_in(Server s) except -1
cdef int internal_login_failed(Server s, str reason, dict fields) except -1
cdef int internal_answered(Server s, dict error) except -1
cdef int internal_down(Server s, str reason) except -1
cdef int internal_notified(Server s, const char *p, size_t n) except -1
cdef int internal_tick(Database db) except -1
