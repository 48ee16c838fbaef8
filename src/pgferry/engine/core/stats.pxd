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

    cdef inline int count_login(self) noexcept:
        self.client_login_count += 1
        return 0

    cdef inline int count_received(self, size_t n) noexcept:
        # Bytes from clients.
        self.received += n
        return 0

    cdef inline int count_sent(self, size_t n) noexcept:
        # Bytes to clients.
        self.sent += n
        return 0

    cdef inline int count_query(self) noexcept:
        # One has begun.
        self.query_count += 1
        return 0

    cdef inline int count_transaction(self) noexcept:
        # One has begun.
        self.xact_count += 1
        return 0

    cdef inline int query_took(self, double seconds) noexcept:
        self.query_time += seconds
        return 0

    cdef inline int transaction_took(self, double seconds) noexcept:
        self.xact_time += seconds
        return 0

    cdef inline int waited(self, double seconds) noexcept:
        # A client, for a server.
        self.wait_time += seconds
        return 0

    cdef inline int count_assignment(self) noexcept:
        # A client has got a server.
        self.server_assignment_count += 1
        return 0

    cdef inline int count_client_parse(self) noexcept:
        # A client has prepared a statement.
        self.client_parse_count += 1
        return 0

    cdef inline int count_server_parse(self) noexcept:
        # A server has been given one to prepare.
        self.server_parse_count += 1
        return 0

    cdef inline int count_bind(self) noexcept:
        self.bind_count += 1
        return 0

    cdef inline int forget_durations(self) noexcept:
        # How long queries and transactions take is not counted here.
        self.query_time = self.xact_time = 0
        return 0
