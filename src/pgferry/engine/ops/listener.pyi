"""What Python sees of the listening sockets."""

from pgferry.engine.core.model import Engine
from pgferry.engine.io.stream import Reactor, Service

class ListenSocket(Service):
    is_unix: bool
    port: int
    starved: bool
    def __init__(self, loop: Reactor, engine: Engine, fd: int, is_unix: bool, port: int) -> None: ...
    def retry(self) -> None: ...
    def stop(self) -> None: ...
