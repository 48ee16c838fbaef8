# Keeping up with what a database's functions and relations may do to a session.
from pgferry.engine.services.internal_session cimport InternalSession
from pgferry.engine.shared.ledger cimport Counter
from pgferry.engine.core.model cimport Database, Engine, Pool, Server


cdef enum:
    MISSED = 2                      # seconds behind its time after which a look at the version counts as missed


cdef class CatalogReader:
    cdef readonly Engine engine
    cdef readonly Database db
    cdef InternalSession session
    cdef object version              # of the catalog, as this reading has found it
    cdef object rows_hash            # of the rows that the present knowledge comes from; None: there is none
    cdef object found_hash           # of those of this reading
    cdef bint forgotten              # while this reading was under way it was asked to work out everything anew
    cdef set certain                 # servers that have said that their transaction defines something
    cdef Counter definitions         # transactions over, of all workers, whose servers have said so
    cdef int definitions_due         # of these, what this reading shows at least
    cdef int definitions_read        # what the present knowledge shows at least
    cdef double begun                # monotonic
    cdef bint timed                  # the session was there by then

    cdef int begin(self, bint whole) except -1
    cdef int took(self) except -1
    cdef int taken_over(self) except -1
    cdef int ended(self) except -1
    cdef int failed(self, dict error) except -1


cdef CatalogReader reader_of(Database db, Engine engine)
cdef int keep_up(Database db, Engine engine) except -1
cdef int catalog_tick(Database db, Engine engine) except -1
cdef int look_for_ddl(Database db, Engine engine) except -1
cdef int begin_defining(Server s, bint surely) except -1
cdef int end_defining(Server s) except -1
cdef bint is_ready(Pool pool) noexcept
cdef bint is_given_up(Database db, double now) noexcept
cdef int forget_knowledge(Database db, Engine engine) except -1
cdef inline bint is_overdue(Database db, double now) noexcept:
    """Whether the next look at the catalog's version should long have been made."""
    return now - db.version_at > db.version_every + MISSED and db.knowledge is not None


cdef int miss_a_look(Database db, Engine engine) except -1
cdef bint ran_unseen(Server s) noexcept
cdef int doubt_session(Server s) except -1
