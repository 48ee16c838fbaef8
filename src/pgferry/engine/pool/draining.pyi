"""What Python sees of draining."""

from pgferry.engine.core.model import Engine

TEXT: str
REASON: str

def begin(engine: Engine, seconds: float) -> None: ...
def go_on(engine: Engine, seconds: float, first: bool = False) -> None: ...
