"""Counts that hold for all workers together, in shared memory.

A slot is a key and one cell for each worker. Only worker i writes cell i; the count is the sum of the cells.
To take one, a worker adds to its own cell first and then sums: two workers that race for the last one may both
give up and try again a tick later, but the limit is never passed and no lock can be left behind by a worker
that dies. The supervisor zeroes the cells of a dead worker.
"""

import hashlib
import mmap
import os

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int32_t, uint64_t
from libc.string cimport memset

cdef extern from *:
    """
    #include <stdint.h>
    static inline void pgf_add(int32_t *p, int32_t n) { __atomic_add_fetch(p, n, __ATOMIC_SEQ_CST); }
    static inline int32_t pgf_load(int32_t *p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
    static inline void pgf_put(int32_t *p, int32_t n) { __atomic_store_n(p, n, __ATOMIC_SEQ_CST); }
    static inline uint64_t pgf_claim(uint64_t *p, uint64_t key) {
        uint64_t seen = 0;
        __atomic_compare_exchange_n(p, &seen, key, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
        return seen;  /* 0: claimed; else the key that was there */
    }
    """
    void pgf_add(int32_t *p, int32_t n) nogil
    int32_t pgf_load(int32_t *p) nogil
    void pgf_put(int32_t *p, int32_t n) nogil
    uint64_t pgf_claim(uint64_t *p, uint64_t key) nogil

cdef enum:
    SLOTS = 1 << 16          # keys; memory is touched only where used
    HEADER = 64
    SECRET = 32              # bytes at the start: random, the same for all workers (salts of unknown users)


class LedgerFull(Exception):
    """More limits than the ledger has slots."""


cdef size_t stride_for(int workers):
    return (8 + 4 * workers + 7) // 8 * 8


def create(int workers):
    """A new, zeroed ledger for so many workers. Returns its descriptor (a memfd, inheritable by pass_fds)."""
    cdef int fd = os.memfd_create("pgferry-ledger", os.MFD_CLOEXEC)
    os.ftruncate(fd, HEADER + SLOTS * stride_for(workers))
    os.pwrite(fd, os.urandom(SECRET), 0)
    return fd


cdef class Ledger:
    """One process's view of the ledger; index is the worker's number (the supervisor may use any)."""

    def __init__(self, int fd, int workers, int index):
        self.workers = workers
        self.index = index
        self.stride = stride_for(workers)
        self.memory = mmap.mmap(fd, HEADER + SLOTS * self.stride)
        PyObject_GetBuffer(self.memory, &self.view, PyBUF_WRITABLE)
        self.base = <char *>self.view.buf + HEADER

    def __dealloc__(self):
        if self.view.buf != NULL:
            PyBuffer_Release(&self.view)

    cpdef Counter counter(self, str kind, str first="", str second=""):
        """The counter of this key. Raises LedgerFull."""
        cdef bytes digest = hashlib.blake2b(
            f"{kind}\0{first}\0{second}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
        cdef uint64_t key = int.from_bytes(digest, "little") | 1
        cdef uint64_t seen
        cdef size_t i = <size_t>(key % SLOTS), _tried
        cdef char *slot
        cdef Counter c
        for _tried in range(SLOTS):
            slot = self.base + i * self.stride
            seen = pgf_claim(<uint64_t *>slot, key)
            if seen == 0 or seen == key:
                c = Counter.__new__(Counter)
                c.ledger = self
                c.cells = <int32_t *>(slot + 8)
                return c
            i = (i + 1) % SLOTS
        raise LedgerFull(f"no slot left for the count of {kind}")

    @property
    def secret(self):
        """32 random bytes that all workers of one pgferry share."""
        return self.memory[:SECRET]

    def clear_worker(self, int worker):
        """Worker `worker` is dead: what it held is free again."""
        cdef size_t i
        cdef char *slot
        for i in range(SLOTS):
            slot = self.base + i * self.stride
            if (<uint64_t *>slot)[0]:
                memset(slot + 8 + 4 * worker, 0, 4)


cdef class Counter:
    """One count. take() and give() are for limits; put() for figures that others only look at."""

    cdef bint take(self, int limit) noexcept:
        """Count one more unless that would pass the limit (0: no limit)."""
        pgf_add(&self.cells[self.ledger.index], 1)
        if limit > 0 and self.total() > limit:
            pgf_add(&self.cells[self.ledger.index], -1)
            return False
        return True

    cdef void give(self) noexcept:
        pgf_add(&self.cells[self.ledger.index], -1)

    cdef void put(self, int n) noexcept:
        """Set this worker's part."""
        pgf_put(&self.cells[self.ledger.index], n)

    cdef int total(self) noexcept:
        """Over all workers."""
        cdef int i, n = 0
        for i in range(self.ledger.workers):
            n += pgf_load(&self.cells[i])
        return n

    cdef int own(self) noexcept:
        return pgf_load(&self.cells[self.ledger.index])

    cdef int share(self, int limit, int turn) noexcept:
        """This worker's part of `limit` among those whose count is above 0; the odd ones go round with `turn`."""
        cdef int i, n = 0, place = 0
        for i in range(self.ledger.workers):
            if i == self.ledger.index:
                place = n
                n += 1
            elif pgf_load(&self.cells[i]) > 0:
                n += 1
        return limit if n == 1 else limit // n + ((place + turn) % n < limit % n)

    def taken(self, int limit):
        """take() for Python (tests, supervisor)."""
        return self.take(limit)

    def given(self):
        """give() for Python."""
        self.give()

    def value(self):
        """total() for Python."""
        return self.total()
