"""What Python sees of watches, tunnels and the main loop."""

from collections.abc import Callable

from pgferry.engine.core.model import Client, Engine
from pgferry.engine.io.stream import Reactor, Service, Stream

class Watch(Service):
    def __init__(
        self, loop: Reactor, fd: int, callback: Callable[[], None], writable: bool = False
    ) -> None: ...
    def stop(self) -> None: ...

class Tunnel(Stream):
    def __init__(self, loop: Reactor, fd: int, client: Client) -> None: ...

def run(engine: Engine, after_tick: Callable[[], None]) -> None: ...
def stop(engine: Engine) -> None: ...
