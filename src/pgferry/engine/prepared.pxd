# Prepared statements at protocol level: one table of texts for the worker, a set of numbers for each server.
from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef class Statement:
    cdef readonly uint32_t number
    cdef readonly bytes body        # of the Parse message behind the name: text, NUL, parameter types
    cdef readonly bytes wire_name   # as servers know it, with its NUL
    cdef object key
    cdef int refs                   # clients' names and servers that hold it
    cdef object verdict             # what it may change (judge), valid with database.words_version == judged
    cdef int64_t judged
    cdef bytes shape                # parameter types and columns that a client was told; None: none was
    cdef bint changed               # it has others now: what clients know of it is wrong


cdef class StatementTable:
    cdef dict by_key                # (what names mean, body) -> Statement
    cdef dict by_number
    cdef uint32_t last

    cdef Statement intern(self, object meaning, bytes body)
    cdef Statement get(self, uint32_t number)
    cdef int acquire(self, Statement st) except -1
    cdef int release(self, Statement st) except -1


cdef struct Slot:
    uint32_t number     # 0: free
    uint64_t used       # tick of the last use


cdef class ServerStatements:
    # The statements a server has (or will have, when the plan's open entries succeed), with the last use of each.
    cdef StatementTable table
    cdef Slot *slots
    cdef uint32_t cap   # a power of two
    cdef readonly uint32_t count
    cdef uint64_t tick

    cdef bint touch(self, uint32_t number) noexcept
    cdef int add(self, uint32_t number) except -1
    cdef int discard(self, uint32_t number) except -1
    cdef bint leaves(self, uint32_t number) noexcept
    cdef int closed(self, uint32_t number) except -1
    cdef int stays(self, uint32_t number) except -1
    cdef uint32_t oldest(self) noexcept
    cdef int clear(self) except -1
    cdef int place(self, uint32_t number, uint64_t used) noexcept
    cdef int resize(self, uint32_t cap) except -1
