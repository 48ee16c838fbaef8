# Keeping up with what a database's functions and relations may do to a session.
from pgferry.engine.core.database cimport Database
from pgferry.engine.core.model cimport Engine, Pool, Server


cdef enum:
    MISSED = 2                      # seconds behind its time after which a look at the version counts as missed


cdef int keep_up(Database db, Engine engine) except -1
cdef int begin_defining(Server s, bint surely) except -1
cdef int end_defining(Server s) except -1
cdef bint is_ready(Pool pool) noexcept
cdef bint is_given_up(Database db, double now) noexcept
cdef int forget_knowledge(Database db, Engine engine) except -1
cdef inline bint is_overdue(Database db, double now) noexcept:
    """Whether the next look at the catalog's version should long have been made."""
    return now - db.catalog.version_at > db.catalog.version_every + MISSED and db.catalog.knowledge is not None


cdef int miss_a_look(Database db, Engine engine) except -1
cdef bint ran_unseen(Server s) noexcept
cdef int doubt_session(Server s) except -1
