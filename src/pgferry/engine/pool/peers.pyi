"""What Python sees of the peers."""

from collections.abc import Callable, Iterable
from typing import Any

from pgferry.engine.core.model import Engine
from pgferry.engine.io.stream import Reactor
from pgferry.engine.pool.cancel import Request

TTL_EXHAUSTED: str
NO_PEER: str

class Peer:
    engine: Engine
    id: int
    host: str
    port: int
    size: int
    used: bool
    waiting: list[Any]
    sent: set[Any]
    def __init__(self, engine: Engine, id: int) -> None: ...
    def counts(self) -> tuple[int, int, int]: ...

class Forward(Request):
    def __init__(self, loop: Reactor, peer: Peer, key: bytes, done: Callable[[], None]) -> None: ...

def configure(engine: Engine, own_id: int, wanted: Iterable[tuple[int, str, int, int]]) -> None: ...
def destination(engine: Engine, key: bytes) -> int: ...
def own_key(engine: Engine, key: bytes) -> bytes: ...
def forward(engine: Engine, key: bytes, number: int, done: Callable[[], None]) -> str | None: ...
def start_waiting(engine: Engine) -> None: ...
def pools(engine: Engine) -> list[dict[str, int]]: ...
