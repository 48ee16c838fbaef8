"""What Python sees of the event loop."""

from collections.abc import Callable
from enum import IntFlag
from typing import Any, Self

class Pause(IntFlag):
    PAUSE_PEER = 1
    PAUSE_WAIT = 2
    PAUSE_STALL = 4
    PAUSE_CLOSE = 8
    PAUSE_BULK = 16
    PAUSE_TURN = 32
    PAUSE_NEWS = 64

class Stream:
    loop: Loop
    fd: int
    closed: bool
    paused: int
    def __new__(cls, loop: Loop, *args: Any, **kwargs: Any) -> Self: ...
    def drop_socket(self) -> None: ...

class Service(Stream): ...

class StreamList:
    count: int
    def __len__(self) -> int: ...
    def items(self) -> list[Any]: ...

class Loop:
    now: float
    rounds: int
    chunk: int
    buffered: int
    buffers: int
    turns: int
    stopping: bool
    on_bug: Callable[[Stream, BaseException], object] | None
    def report(self, s: object, error: BaseException) -> None: ...
    def run_once(self, timeout_ms: int) -> None: ...
