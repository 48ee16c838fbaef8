from typing import final

from pgferry.engine.core.words import WordSet

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
def windows(tokens: int, spots: list[int]) -> list[tuple[int, int]] | None: ...
