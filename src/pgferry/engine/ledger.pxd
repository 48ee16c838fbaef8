# Counts that hold for all workers together, in shared memory.
from libc.stdint cimport int32_t, uint64_t


cdef class Ledger:
    cdef object memory               # the mmap
    cdef Py_buffer view
    cdef char *base
    cdef readonly int workers
    cdef readonly int index
    cdef size_t stride

    cpdef Counter counter(self, str kind, str first=*, str second=*)


cdef class Counter:
    cdef Ledger ledger
    cdef int32_t *cells              # one for each worker

    cdef bint take(self, int limit) noexcept
    cdef void give(self) noexcept
    cdef void put(self, int n) noexcept
    cdef int total(self) noexcept
    cdef int own(self) noexcept
    cdef int share(self, int limit, int turn) noexcept
