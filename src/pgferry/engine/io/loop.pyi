"""What Python sees of the event loop."""

from pgferry.engine.io.stream import Reactor

class Loop(Reactor):
    def run_once(self, timeout_ms: int) -> None: ...
