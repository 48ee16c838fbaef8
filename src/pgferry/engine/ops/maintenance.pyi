"""What Python sees of periodic maintenance."""

from pgferry.engine.core.model import Engine

def tick(engine: Engine) -> None: ...
