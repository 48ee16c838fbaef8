from typing import Final, final

from pgferry.engine.core.words import WordSet

IDENT: Final[int]
QUOTED: Final[int]
PLAIN: Final[int]
ESCAPED: Final[int]
UNICODE: Final[int]
DOLLAR: Final[int]
BITS: Final[int]
NUMBER: Final[int]
PARAM: Final[int]
CHAR: Final[int]
UNICODE_NAME: Final[int]
GAP: Final[int]
NAME_LENGTH: Final[int]

_Piece = tuple[int, int, int, int, bool, list[int]]

@final
class Outline:
    ambiguous: bool
    doubtful: bool
    overflow: bool
    bits: int
    count: int
    ends_transaction: bool
    pieces: list[_Piece]

def outline(text: bytes, words: WordSet, standard: bool) -> Outline: ...
def cut(
    text: bytes,
    start: int,
    end: int,
    standard: bool,
    windows: list[tuple[int, int]] | None,
    kinds: list[int],
    starts: list[int],
    ends: list[int],
    words: list[bytes],
    names: list[bytes],
) -> tuple[bool, bool]: ...
def windows(tokens: int, spots: list[int]) -> list[tuple[int, int]] | None: ...
def truncate(name: bytes) -> bytes: ...
def may_mislead(text: bytes) -> bool: ...
