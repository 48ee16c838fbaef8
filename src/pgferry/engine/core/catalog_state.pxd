# What is known of a database's catalog.
from libc.stdint cimport int64_t, uint32_t

from pgferry.engine.core.words cimport WordSet
from pgferry.engine.shared.ledger cimport Counter


cdef class CatalogReader:
    # Reads a database's catalog, on a connection of pgferry's own (services.catalog_reader).
    cdef set certain                 # servers that have said that their transaction defines something
    cdef Counter definitions         # transactions over, of all workers, whose servers have said so

    cdef int begin(self, bint whole) except -1                      # above: a reading; not whole: of the version only
    cdef int forget(self) except -1                                 # above: what was read has to be worked out anew
    cdef int ask(self, bytes text, object on_answer) except -1      # above: a query of another kind


cdef class CatalogState:
    # What is known of what a database may do to sessions, and how old that is.
    # What may change a session (see classify and catalog)
    cdef WordSet words               # the words a text is scanned for
    cdef readonly object knowledge   # session.catalog.Knowledge; None: not known yet
    cdef int64_t words_version       # unique; changes with what verdicts depend on
    cdef dict verdicts               # text -> Verdict or None
    cdef size_t verdict_bytes        # of these texts
    cdef uint32_t everything         # Touch bits that any statement may have
    cdef bint odd_names              # functions and the like have names with other characters than ASCII
    cdef bint sequences              # currval or lastval are used here
    cdef Counter ddl                 # counts changes of functions and the like, seen by all workers
    cdef int ddl_seen
    cdef bint scanning               # the catalog is being read
    cdef bint stale                  # it must be read again
    cdef object version
    cdef double version_at           # monotonic, of the last look at it
    cdef double version_every        # seconds until the next one
    cdef CatalogReader reader        # None: nothing has been asked yet
    cdef bint unread                 # functions may have changed since it was read
    cdef double unread_since         # monotonic
    cdef double read_due             # monotonic: no reading before that
    cdef int readings                # begun so far
    cdef readonly object error       # why it could not be read the last time; None: it could
    cdef readonly int failures       # in a row
    cdef set held                    # servers whose clients keep them until it is known
    cdef set defining                # servers that run what may change functions; None: none yet
    cdef Counter definers            # how many of them all workers have

    cdef int use(self, WordSet base, object knowledge) except -1
    cdef int remember_verdict(self, bytes text, object verdict) except -1
    cdef int mark_unread(self, double now) except -1
    cdef int mark_stale(self, double now) except -1
    cdef int look_for_ddl(self, double now) except -1
    cdef int count_ddl(self) except -1
    cdef int begin_defining(self, object server, double now) except -1
    cdef int end_defining(self, object server) except -1
    cdef int believe(self) except -1
    cdef int begin_reading(self, bint whole, double now) except -1
    cdef int looked_for(self, double seconds, bint timed) except -1
    cdef int is_another_version(self, double now) except -1
    cdef bint end_reading(self, double begun, double now) except -1
    cdef bint reading_failed(self, str error, double now) except -1
    cdef int hold(self, object server) except -1
    cdef int reading_to_await(self) except -1

    cdef inline int reader_is(self, CatalogReader reader) noexcept:
        # Something is asked for the first time.
        self.reader = reader
        return 0

    cdef inline int version_is(self, object version) noexcept:
        # What is known is of this version of the catalog.
        self.version = version
        return 0

    cdef inline int can_be_read(self, double begun) noexcept:
        # And will be again, if it is still unread: who waits for that begins to wait anew.
        if self.unread:
            self.unread_since = begun
        return 0

    cdef inline int uses_sequences(self) noexcept:
        # A client has called currval or lastval.
        self.sequences = True
        return 0
