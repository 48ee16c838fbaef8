# Prepared statements at protocol level: one table of texts for the worker, a set of numbers for each server.
from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef class ParseSettings:
    # What gives the names and literals in a text their meaning when PostgreSQL parses it, as a client has it set. Never
    # changed; the same content is the same object as a rule, see StatementTable.settings().
    cdef readonly str database
    cdef readonly str user          # the servers' login: ALTER ROLE gives them settings of their own
    cdef readonly tuple values      # in the order of PARSE_SETTINGS; None: the server's own


cdef class Statement:
    cdef readonly uint64_t number
    cdef readonly ParseSettings settings    # it was parsed under
    cdef readonly int64_t epoch     # of the DDL in its database
    cdef readonly bytes body        # of the Parse message behind the name: text, NUL, parameter types
    cdef readonly bytes name        # set apart from others of the same text by the client's name for it; b"": it is not
    cdef readonly bint alone        # of one client only, and not to be found by its content
    cdef readonly bytes wire_name   # as servers know it, with its NUL
    cdef int refs                   # clients' names and servers that hold it
    cdef object verdict             # what it may change (session.classify), valid with words_version == classified
    cdef int64_t classified
    cdef bytes shape                # parameter types and columns that a client was told; None: none was
    cdef bint changed               # it has others now: what clients know of it is wrong

    cdef bint still_is(self, bytes shape) except -1

    cdef inline int shown(self, bytes shape) noexcept:
        # A client is told these parameter types and columns; the first ones count.
        if self.shape is None:
            self.shape = shape
        return 0

    cdef inline int verdict_is(self, object verdict, int64_t version) noexcept:
        # What it may change; version 0: that holds for this time only.
        self.verdict = verdict
        self.classified = version
        return 0


cdef class StatementTable:
    cdef dict by_key                # key_of() -> Statement
    cdef dict by_number
    cdef dict known_settings        # (database, user, values) -> ParseSettings
    cdef uint64_t last

    cdef ParseSettings settings(self, str database, str user, tuple values)
    cdef Statement intern(self, ParseSettings settings, int64_t epoch, bytes body, bytes name)
    cdef Statement make(self, ParseSettings settings, int64_t epoch, bytes body, bytes name, bint alone)
    cdef Statement get(self, uint64_t number)
    cdef int acquire(self, Statement st) except -1
    cdef int release(self, Statement st) except -1
    cdef dict describe(self, Statement st)
    cdef ParseSettings described(self, dict about)
    cdef dict described_sql(self, statements)
    cdef Statement take_over(self, dict about)

    cdef inline int number_behind(self, uint64_t last) noexcept:
        # The next new Statement has the number behind this one.
        self.last = last
        return 0


cdef struct Slot:
    uint64_t number     # 0: free
    uint64_t used       # tick of the last use


cdef class ServerStatements:
    # The statements a server has (or will have, when the plan's open entries succeed), with the last use of each.
    cdef StatementTable table
    cdef Slot *slots
    cdef uint32_t cap   # a power of two
    cdef readonly uint32_t count
    cdef uint64_t tick
    # Statements that were used under other settings than they were parsed under: PostgreSQL may read them again, as
    # it does after DDL, and then they mean what they mean to that client. number -> its id (0: one that has gone), or
    # (id, whether it does so again) while the statement is being closed to be parsed anew. None: there are none.
    cdef dict strained

    cdef int restore_strained(self, object numbers) except -1
    cdef bint touch(self, uint64_t number) noexcept
    cdef int add(self, uint64_t number) except -1
    cdef int discard(self, uint64_t number) except -1
    cdef bint leaves(self, uint64_t number) noexcept
    cdef int closed(self, uint64_t number) except -1
    cdef int stays(self, uint64_t number) except -1
    cdef bint fits(self, uint64_t number, int64_t client, bint strains) except -1
    cdef int renewed(self, uint64_t number) except -1
    cdef int renew(self, uint64_t number, int64_t client, bint strains) except -1
    cdef uint64_t oldest(self) noexcept
    cdef int clear(self) except -1
    cdef int place(self, uint64_t number, uint64_t used) noexcept
    cdef int resize(self, uint32_t cap) except -1


cdef dict settings_as_data(ParseSettings settings)
cdef list sql_as_data(dict statements)
