"""Counts that hold for all workers together, in shared memory.

A slot is a key and for each worker one cell and its number of holders. Only worker i writes cell i; the count is the
sum of the cells. To take one, a worker adds to its own cell first and then sums: two workers that race for the last
one may both give up and try again a tick later, but the limit is never passed and no lock can be left behind by a
worker that dies. The supervisor zeroes the cells of a dead worker.

A slot is free again when no worker has a Counter of it any more. Slots are found and freed under a lock (of the
kernel's, which a process that dies gives back); counting needs none.
"""

import hashlib
import mmap
import os

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int32_t, uint64_t
from libc.string cimport memset

from pgferry.engine.io.sys cimport close

cdef extern from *:
    """
    #include <errno.h>
    #include <fcntl.h>
    #include <stdint.h>
    #include <unistd.h>
    static inline void pgf_lock(int fd, int type) {
        struct flock lock = { .l_type = (short) type, .l_whence = SEEK_SET };
        while (fcntl(fd, F_SETLKW, &lock) < 0 && errno == EINTR)
            ;
    }
    static inline void pgf_add(int32_t *p, int32_t n) { __atomic_add_fetch(p, n, __ATOMIC_SEQ_CST); }
    static inline int32_t pgf_load(int32_t *p) { return __atomic_load_n(p, __ATOMIC_SEQ_CST); }
    static inline void pgf_put(int32_t *p, int32_t n) { __atomic_store_n(p, n, __ATOMIC_SEQ_CST); }
    """
    int F_WRLCK
    int F_UNLCK
    void pgf_lock(int fd, int type) nogil
    void pgf_add(int32_t *p, int32_t n) nogil
    int32_t pgf_load(int32_t *p) nogil
    void pgf_put(int32_t *p, int32_t n) nogil

cdef enum:
    SLOTS = 1 << 16          # keys; memory is touched only where used
    FREED = 2                # in the place of a key: the search for another one goes on behind it. Keys are odd
    HEADER = 64
    SECRET = 32              # bytes at the start: random, the same for all workers (salts of unknown users)


class LedgerFull(Exception):
    """More limits than the ledger has slots."""


cdef size_t stride_for(int workers):
    return 8 + 8 * workers


def create(int workers):
    """A new, zeroed ledger for so many workers. Returns its descriptor (a memfd, inheritable by pass_fds)."""
    cdef int fd = os.memfd_create("pgferry-ledger", os.MFD_CLOEXEC)
    os.ftruncate(fd, HEADER + SLOTS * stride_for(workers))
    os.pwrite(fd, os.urandom(SECRET), 0)
    return fd


@cython.no_gc_clear            # its memory has to be there until the last Counter has gone
cdef class Ledger:
    """One process's view of the ledger; index is the worker's number (the supervisor may use any)."""

    def __init__(self, int fd, int workers, int index):
        self.workers = workers
        self.index = index
        self.fd = os.dup(fd)
        self.stride = stride_for(workers)
        self.memory = mmap.mmap(fd, HEADER + SLOTS * self.stride)
        PyObject_GetBuffer(self.memory, &self.view, PyBUF_WRITABLE)
        self.base = <char *>self.view.buf + HEADER

    def __dealloc__(self):
        if self.view.buf != NULL:
            PyBuffer_Release(&self.view)
            close(self.fd)

    cpdef Counter counter(self, str kind, str first="", str second=""):
        """The counter of this key. Raises LedgerFull."""
        cdef bytes digest = hashlib.blake2b(
            f"{kind}\0{first}\0{second}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
        cdef uint64_t key = int.from_bytes(digest, "little") | 1
        cdef Counter c = Counter.__new__(Counter)
        cdef char *slot
        pgf_lock(self.fd, F_WRLCK)
        slot = self.find(key)
        if slot != NULL:
            (<uint64_t *>slot)[0] = key
            c.ledger = self
            c.cells = <int32_t *>(slot + 8)
            c.cells[self.workers + self.index] += 1
        pgf_lock(self.fd, F_UNLCK)
        if slot == NULL:
            raise LedgerFull("too many databases, users and pools are in use")
        return c

    cdef char *find(self, uint64_t key) noexcept:
        """The slot with this key, or else the first one that it may have; NULL: there is none."""
        cdef size_t i = <size_t>(key % SLOTS), _tried
        cdef char *slot
        cdef char *first = NULL
        cdef uint64_t seen
        for _tried in range(SLOTS):
            slot = self.base + i * self.stride
            seen = (<uint64_t *>slot)[0]
            if seen == key:
                return slot
            if seen == FREED and first == NULL:
                first = slot
            if seen == 0:
                return slot if first == NULL else first
            i = (i + 1) % SLOTS
        return first

    cdef int let_go(self, int32_t *cells) noexcept:
        """One Counter of this worker less; with the last one of all the slot is free.

        As long as others have one the worker's part stays: of what only grows, such as the changes that all workers
        have seen, a sum that goes down and up again would look like one that nobody has changed.
        """
        pgf_lock(self.fd, F_WRLCK)
        cells[self.workers + self.index] -= 1
        if cells[self.workers + self.index] <= 0:
            self.free_unheld(<char *>cells - 8)
        pgf_lock(self.fd, F_UNLCK)
        return 0

    cdef int free_unheld(self, char *slot) noexcept:
        """Free a slot that nobody holds, and those in front of it that had to be kept for the search."""
        cdef int32_t *holders = <int32_t *>(slot + 8) + self.workers
        cdef size_t i = <size_t>((slot - self.base) // self.stride)
        cdef int worker
        for worker in range(self.workers):
            if holders[worker]:
                return 0
        memset(slot, 0, self.stride)
        (<uint64_t *>slot)[0] = FREED
        if (<uint64_t *>(self.base + (i + 1) % SLOTS * self.stride))[0]:
            return 0
        while (<uint64_t *>(self.base + i * self.stride))[0] == FREED:
            (<uint64_t *>(self.base + i * self.stride))[0] = 0
            i = (i + SLOTS - 1) % SLOTS
        return 0

    @property
    def secret(self):
        """32 random bytes that all workers of one pgferry share."""
        return self.memory[:SECRET]

    def clear_worker(self, int worker):
        """Worker `worker` is dead: what it held is free again."""
        cdef size_t i
        cdef char *slot
        cdef int32_t *cells
        pgf_lock(self.fd, F_WRLCK)
        for i in range(SLOTS):
            slot = self.base + i * self.stride
            if (<uint64_t *>slot)[0] > FREED:
                cells = <int32_t *>(slot + 8)
                pgf_put(&cells[worker], 0)
                cells[self.workers + worker] = 0
                self.free_unheld(slot)
        pgf_lock(self.fd, F_UNLCK)

    def used(self):
        """How many keys it has (for tests)."""
        cdef size_t i
        cdef int n = 0
        for i in range(SLOTS):
            n += (<uint64_t *>(self.base + i * self.stride))[0] > FREED
        return n


@cython.no_gc_clear            # __dealloc__ needs its ledger
cdef class Counter:
    """One count. take() and give() are for limits; put() for figures that others only look at."""

    def __dealloc__(self):
        if self.cells != NULL:
            self.ledger.let_go(self.cells)

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

    cdef int of(self, int worker) noexcept:
        """One worker's part."""
        return pgf_load(&self.cells[worker])

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
