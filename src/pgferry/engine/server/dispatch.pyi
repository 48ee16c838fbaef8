"""What Python sees of the meaning of a server's messages (for tests)."""

from enum import IntEnum

class Answer(IntEnum):
    OUT_OF_STEP = 0
    FORWARD = 1
    ENDS = 2
    DESCRIBES = 3
    PARAMETERS = 4
    EMPTY = 5
    COMPLETES = 6
    COPIES = 7
    LOOKS_UP = 8
    READY = 9
    FAILS = 10
    REPORTS = 11
    NOTICES = 12
    NOTIFIES = 13

ASKED: tuple[int, ...]
ANYWHERE: tuple[int, ...]
RUNS: tuple[int, int]
ANSWERS: tuple[tuple[bytes, tuple[int, ...], Answer], ...]
