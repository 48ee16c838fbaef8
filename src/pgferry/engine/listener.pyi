"""What Python sees of the listening sockets."""

from pgferry.engine.loop import Loop, Service
from pgferry.engine.model import Engine

class Listener(Service):
    is_unix: bool
    port: int
    starved: bool
    def __init__(self, loop: Loop, engine: Engine, fd: int, is_unix: bool, port: int) -> None: ...
    def retry(self) -> None: ...
    def stop(self) -> None: ...
