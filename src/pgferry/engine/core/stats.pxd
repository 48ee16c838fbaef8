# The counters of SHOW STATS.
from libc.stdint cimport int64_t


cdef class Stats:
    # Totals of a pool since start (COMPAT 3.4); times in seconds.
    cdef public int64_t server_assignment_count
    cdef public int64_t xact_count
    cdef public int64_t query_count
    cdef public int64_t received
    cdef public int64_t sent
    cdef public double xact_time
    cdef public double query_time
    cdef public double wait_time
    cdef public int64_t client_parse_count
    cdef public int64_t server_parse_count
    cdef public int64_t bind_count
    cdef public int64_t client_login_count

    cdef inline int forget_durations(self) noexcept:
        # How long queries and transactions take is not counted here.
        self.query_time = self.xact_time = 0
        return 0
