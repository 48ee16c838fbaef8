"""What Python sees of engine parts."""

from typing import Any

from pgferry.engine.io.stream import StreamList

class EngineSettings:
    max_packet_size: int
    max_prepared: int
    round_robin: bool
    disable_pqexec: bool
    fast_close: bool
    log_connections: bool
    log_disconnections: bool
    log_pooler_errors: bool
    reset_always: bool
    harmless_functions: frozenset[bytes]
    reset_query: bytes
    check_query: bytes | None
    check_delay: float
    idle_timeout: float
    connect_timeout: float
    login_retry: float
    reserve_timeout: float
    wait_notify: float
    cancel_wait_timeout: float
    client_idle_timeout: float
    client_login_timeout: float
    pool_idle_timeout: float
    autodb_idle_timeout: float
    max_client_conn: int
    verbose: int
    pin_log_after: float
    text_length: int

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
