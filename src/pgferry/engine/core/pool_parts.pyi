"""What Python sees of pool parts."""

from typing import Any

from pgferry.engine.io.stream import StreamList

class PoolSettings:
    mode: int
    size: int
    min_size: int
    reserve_size: int
    lifetime: float
    query_timeout: float
    query_wait_timeout: float
    idle_transaction_timeout: float
    transaction_timeout: float
    client_idle_timeout: float
    session_state: int
    scrub: int
    pin_unknown: bool
    max_pinned: int
    pin_timeout: float
    slow_after: float

class Endpoint:
    fresh: StreamList
    idle: StreamList
    used: StreamList
    tested: StreamList
    active: StreamList
    being_canceled: StreamList
    last_connect_failed: bool
    last_login_failed: bool
    last_error: Any
    retry_at: float
    server_parameters: bytes | None
    base_vars: tuple[Any, ...]
    canonical_values: dict[Any, Any]

class PoolCancels:
    waiting: list[Any]
    sent: list[Any]
