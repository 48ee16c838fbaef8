# Reading what a database's functions and relations may do to a session.
from pgferry.engine.core.database cimport Database
from pgferry.engine.core.model cimport CatalogReader, Engine
from pgferry.engine.services.internal_session cimport InternalSession


cdef class InternalCatalogReader(CatalogReader):
    cdef readonly Engine engine
    cdef readonly Database db
    cdef InternalSession session
    cdef object version              # of the catalog, as this reading has found it
    cdef object rows_hash            # of the rows that the present knowledge comes from; None: there is none
    cdef object found_hash           # of those of this reading
    cdef bint forgotten              # while this reading was under way it was asked to work out everything anew
    cdef int definitions_due         # of these, what this reading shows at least
    cdef int definitions_read        # what the present knowledge shows at least
    cdef double begun                # monotonic
    cdef bint timed                  # the session was there by then

    cdef int took(self) except -1
    cdef int taken_over(self) except -1
    cdef int ended(self) except -1
    cdef int failed(self, dict error) except -1


cdef int catalog_tick(Database db, Engine engine) except -1
