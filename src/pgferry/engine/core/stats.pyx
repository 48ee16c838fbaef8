"""The counters of SHOW STATS."""


cdef class Stats:
    """Totals of a pool since start."""

    def add(self, Stats other):
        """Add another pool's totals."""
        self.server_assignment_count += other.server_assignment_count
        self.xact_count += other.xact_count
        self.query_count += other.query_count
        self.received += other.received
        self.sent += other.sent
        self.xact_time += other.xact_time
        self.query_time += other.query_time
        self.wait_time += other.wait_time
        self.client_parse_count += other.client_parse_count
        self.server_parse_count += other.server_parse_count
        self.bind_count += other.bind_count
        self.client_login_count += other.client_login_count

    def as_row(self):
        """The counters by name, times in whole microseconds (the `stats` rows of the control channel)."""
        return {
            "server_assignment_count": self.server_assignment_count,
            "xact_count": self.xact_count,
            "query_count": self.query_count,
            "received": self.received,
            "sent": self.sent,
            "xact_time": int(self.xact_time * 1e6),
            "query_time": int(self.query_time * 1e6),
            "wait_time": int(self.wait_time * 1e6),
            "client_parse_count": self.client_parse_count,
            "server_parse_count": self.server_parse_count,
            "bind_count": self.bind_count,
            "client_login_count": self.client_login_count,
        }
