"""What Python sees of cancel requests."""

from collections.abc import Callable

from pgferry.engine.loop import Loop, Stream
from pgferry.engine.model import Client, Engine, Server

class Cancel(Stream):
    client: Client
    server: Server
    asked: float
    def __init__(self, loop: Loop, client: Client, done: Callable[[], None]) -> None: ...

def request(engine: Engine, key: bytes, done: Callable[[], None]) -> None: ...
