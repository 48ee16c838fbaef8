"""What Python sees of cancel requests."""

from collections.abc import Callable

from pgferry.engine.core.model import Client, Engine, Server
from pgferry.engine.io.stream import Reactor, Stream

class Request(Stream):
    done: Callable[[], None]
    asked: float
    def __init__(self, loop: Reactor, done: Callable[[], None]) -> None: ...

class Cancel(Request):
    client: Client
    server: Server
    def __init__(self, loop: Reactor, client: Client, done: Callable[[], None]) -> None: ...

def request(engine: Engine, key: bytes, done: Callable[[], None]) -> None: ...
