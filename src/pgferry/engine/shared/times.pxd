# Histograms of durations: log-linear buckets in C arrays, 8 to an octave of microseconds.
from libc.stdint cimport int64_t, uint64_t

cdef extern from *:
    int clzll "__builtin_clzll" (unsigned long long) noexcept nogil

cdef enum:
    TIMES_BUCKETS = 240     # 0 to 2**32 us (71 minutes); the last one holds what took longer
    TIMES_KINDS = 4
    TIME_QUERY = 0
    TIME_XACT = 1
    TIME_WAIT = 2           # one for each assignment of a server, 0 when there was no need to wait
    TIME_CONNECT = 3        # from the decision to open a server connection to the end of its login


cdef class Times:
    cdef uint64_t counts[TIMES_KINDS][TIMES_BUCKETS]
    cdef double seconds                 # sum of what has no other: of a pool its server logins, of a loop its lag

    cdef tuple packed(self, int kind)

    cdef inline int took(self, double seconds) noexcept:
        self.seconds += seconds
        return 0


cdef inline void record(uint64_t *counts, double seconds) noexcept:
    # Bucket 8 * (e - 2) + the three bits below the highest one, for a value with its highest bit at e >= 3.
    cdef int64_t us = <int64_t>(seconds * 1e6)
    cdef int e
    if us < 8:
        counts[us if us > 0 else 0] += 1
        return
    e = 63 - clzll(<unsigned long long>us)
    if e > 31:
        counts[TIMES_BUCKETS - 1] += 1
    else:
        counts[(e - 2) * 8 + ((us >> (e - 3)) & 7)] += 1
