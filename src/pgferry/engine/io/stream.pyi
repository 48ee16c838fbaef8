"""What Python sees of streams."""

from collections.abc import Callable
from enum import IntFlag
from typing import Any, Self

from pgferry.engine.io.buffer import Memory

class Pause(IntFlag):
    PAUSE_PEER = 1
    PAUSE_WAIT = 2
    PAUSE_STALL = 4
    PAUSE_CLOSE = 8
    PAUSE_BULK = 16
    PAUSE_TURN = 32
    PAUSE_NEWS = 64

class Reactor:
    memory: Memory
    now: float
    rounds: int
    turns: int
    stopping: bool
    sink: Callable[[Stream, bytes], int] | None
    on_bug: Callable[[Stream, BaseException], object] | None
    def report(self, s: object, error: BaseException) -> None: ...

class Stream:
    loop: Reactor
    fd: int
    closed: bool
    paused: int
    def __new__(cls, loop: Reactor, *args: Any, **kwargs: Any) -> Self: ...
    def drop_socket(self) -> None: ...

class Service(Stream): ...

class StreamList:
    count: int
    def __len__(self) -> int: ...
    def items(self) -> list[Any]: ...
