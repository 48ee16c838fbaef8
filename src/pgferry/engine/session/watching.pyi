"""What Python sees of the watching."""

from typing import Any

from pgferry.engine.core.model import Engine

def longest(engine: Engine) -> list[dict[str, Any]]: ...
def ends(engine: Engine) -> list[dict[str, Any]]: ...
