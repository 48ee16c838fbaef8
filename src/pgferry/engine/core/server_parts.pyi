"""What Python sees of server parts."""

from typing import Any

class Injected: ...

class ConnectionEnds:
    address: Any
    host: str
    peer_addr: str
    peer_port: int
    own_addr: str
    own_port: int
    cancel_key: bytes
    connect_time: float
    created: float
