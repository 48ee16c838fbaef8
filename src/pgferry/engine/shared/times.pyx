"""Histograms of durations: what a pool's queries, transactions, waits and server logins took.

A value costs a handful of instructions and no Python object; a pool's four histograms take 7.5 kB, whatever
happens. A bucket is at most 1/8 wider than its lower bound, so a percentile is off by 6 % at most.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport uint64_t

KINDS = ("query", "xact", "wait", "connect")
BUCKETS = TIMES_BUCKETS


cdef class Times:
    """The histograms of a pool; of the worker's event loop (its first one only)."""

    cdef tuple packed(self, int kind):
        """(first bucket, native 64-bit counts from there to the last one that is not 0)."""
        cdef int low = 0, high = TIMES_BUCKETS
        cdef uint64_t *counts = self.counts[kind]
        while high > 0 and counts[high - 1] == 0:
            high -= 1
        while low < high and counts[low] == 0:
            low += 1
        return low, PyBytes_FromStringAndSize(<char *>(counts + low), (high - low) * sizeof(uint64_t))

    def note(self, int kind, double seconds):
        """record() for Python."""
        if not 0 <= kind < TIMES_KINDS:
            raise ValueError(kind)
        record(self.counts[kind], seconds)

    def row(self):
        """All histograms by kind, packed."""
        return {name: self.packed(i) for i, name in enumerate(KINDS)}
