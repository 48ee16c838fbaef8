from typing import Final

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
def truncate(name: bytes) -> bytes: ...
def may_mislead(text: bytes) -> bool: ...
