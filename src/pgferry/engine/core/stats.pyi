"""What Python sees of the counters of SHOW STATS."""

class Stats:
    server_assignment_count: int
    xact_count: int
    query_count: int
    received: int
    sent: int
    xact_time: float
    query_time: float
    wait_time: float
    client_parse_count: int
    server_parse_count: int
    bind_count: int
    client_login_count: int
    def add(self, other: Stats) -> None: ...
    def as_row(self) -> dict[str, int]: ...
