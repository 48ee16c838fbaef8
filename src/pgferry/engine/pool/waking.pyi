"""What Python sees of waking workers."""

from pgferry.engine.core.model import Engine

def look_again(engine: Engine) -> None: ...
