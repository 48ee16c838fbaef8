# Connecting to PostgreSQL and logging in.
from pgferry.engine.core.model cimport Job, Server

cdef int start_login(Server s, Job job, bint internal) except -1
cdef int connect_query_done(Server s) except -1
cdef int server_connected(Server s) except -1
cdef int server_secure(Server s) except -1
cdef bint direct(Server s)
cdef int introduce(Server s) except -1
cdef ssize_t server_login_feed(Server s, const char *p, size_t n) except -1
cdef int start_done(Server s, dict failed) except -1
