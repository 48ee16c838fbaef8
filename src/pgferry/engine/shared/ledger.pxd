# Counts that hold for all workers together, in shared memory.
from libc.stdint cimport int32_t, uint64_t


cdef class Ledger:
    cdef object memory               # the mmap
    cdef Py_buffer view
    cdef char *base
    cdef readonly int workers
    cdef readonly int index
    cdef size_t stride
    cdef int fd                      # our own, for the lock

    cpdef Counter counter(self, str kind, str first=*, str second=*)
    cdef char *find(self, uint64_t key) noexcept
    cdef int let_go(self, int32_t *cells) noexcept
    cdef int free_unheld(self, char *slot) noexcept


cdef class Counter:
    cdef Ledger ledger
    cdef int32_t *cells              # one for each worker; then the number of Counters that each of them has

    cdef bint take(self, int limit) noexcept
    cdef void give(self) noexcept
    cdef void put(self, int n) noexcept
    cdef int total(self) noexcept
    cdef int own(self) noexcept
    cdef int of(self, int worker) noexcept
    cdef int share(self, int limit, int turn) noexcept
