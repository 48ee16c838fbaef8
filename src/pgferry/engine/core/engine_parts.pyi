"""What Python sees of engine parts."""

from typing import Any

from pgferry.config.global_settings import Settings
from pgferry.engine.io.stream import StreamList

class EngineSettings:
    max_packet_size: int
    max_prepared_statements: int
    server_round_robin: bool
    disable_pqexec: bool
    server_fast_close: bool
    log_connections: bool
    log_disconnections: bool
    log_pooler_errors: bool
    server_reset_query_always: bool
    server_check_delay: float
    server_idle_timeout: float
    server_connect_timeout: float
    server_login_retry: float
    reserve_pool_timeout: float
    query_wait_notify: float
    cancel_wait_timeout: float
    client_idle_timeout: float
    client_login_timeout: float
    pool_idle_timeout: float
    autodb_idle_timeout: float
    max_client_conn: int
    verbose: int
    pin_log_threshold: float
    statement_text_length: int
    harmless_functions: frozenset[bytes]
    reset_query: bytes
    check_query: bytes | None
    def take_over(self, settings: Settings) -> None: ...

class TrackedParameters:
    names: list[Any]
    index: dict[Any, Any]
    reported_by_some: set[Any]

class CancelKeys:
    by_key: dict[Any, Any]
    peer_id: int
    peers: dict[int, Any]
    cancels: set[Any]

class Phase:
    paused: bool
    shutdown: int
    drain_until: float
    accepting: bool

class ConnectingClients:
    logins: StreamList
    closing: StreamList
    consoles: StreamList
