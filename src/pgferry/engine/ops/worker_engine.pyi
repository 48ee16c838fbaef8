"""What Python sees of the engine of a worker."""

from pgferry.engine.core.model import Engine

class WorkerEngine(Engine): ...
