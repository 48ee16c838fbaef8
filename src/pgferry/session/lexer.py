"""PostgreSQL's lexical rules: a statement's text cut into tokens, exactly as the server cuts it.

The cutting is compiled (engine.core.lexer). The one thing a text does not tell is standard_conforming_strings: where a
backslash in front of a quote would end a string under one setting and not under the other, the tokens are marked
`ambiguous` and the caller reads both ways.
"""

import re

from pgferry.engine.core.lexer import (
    BITS,
    CHAR,
    DOLLAR,
    ESCAPED,
    GAP,
    IDENT,
    NAME_LENGTH,
    NUMBER,
    PARAM,
    PLAIN,
    QUOTED,
    UNICODE,
    UNICODE_NAME,
    cut,
    truncate,
)

__all__ = [
    "BITS",
    "CHAR",
    "DOLLAR",
    "END",
    "ESCAPED",
    "GAP",
    "IDENT",
    "NAMES",
    "NAME_LENGTH",
    "NUMBER",
    "PARAM",
    "PLAIN",
    "QUOTED",
    "STRINGS",
    "UNICODE",
    "Tokens",
    "lex",
    "truncate",
]

END = 11  # behind the last token
STRINGS = frozenset((PLAIN, ESCAPED, UNICODE, DOLLAR))
NAMES = frozenset((IDENT, QUOTED))
_PADDING = 4  # tokens of kind END, so that looking ahead needs no check

_STANDARD = re.compile(rb"'[^']*+(?:''[^']*+)*+'")
# (Where a possessive group could fail half-way it is not possessive: Python before 3.11.5 goes on in the wrong place.)
_BACKSLASH = re.compile(rb"'[^'\\]*+(?:(?:''|\\.)[^'\\]*+)*+'", re.DOTALL)
_ESCAPE = re.compile(
    rb"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(.))", re.DOTALL
)
_LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


class Tokens:
    """The tokens of one text or a part of it, as parallel lists.

    `words` has what keywords and punctuation are compared with: a word in lower case, one character of punctuation,
    b"" for everything else. `names` has the names that words and quoted identifiers stand for, b"" for the rest.
    `starts` and `ends` are places in the whole text.
    """

    __slots__ = (
        "ambiguous",
        "doubtful",
        "ends",
        "kinds",
        "names",
        "quoted",
        "repeatable",
        "starts",
        "text",
        "words",
    )

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.kinds: list[int] = []
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.words: list[bytes] = []
        self.names: list[bytes] = []
        self.quoted: list[int] = []  # where the quoted identifiers are
        self.ambiguous = False  # reads differently with the other standard_conforming_strings
        self.repeatable = False  # means the same whatever the encoding and settings
        self.doubtful = False  # no text that PostgreSQL would accept

    def __len__(self) -> int:
        return len(self.kinds) - _PADDING

    def raw(self, index: int) -> bytes:
        """The token as it stands in the text."""
        return self.text[self.starts[index] : self.ends[index]]

    def string(self, index: int) -> bytes | None:
        """The value of a string; None where the text alone does not tell it, or where it is no string."""
        kind, raw = self.kinds[index], self.raw(index)
        if kind == DOLLAR:
            tag = raw.index(b"$", 1) + 1
            return raw[tag:-tag]
        if kind == PLAIN:
            body = _one_piece(raw)
            return None if body is None or b"\\" in body else body
        if kind == ESCAPED:
            body = _one_piece(raw[1:])
            return None if body is None else _unescape(body)
        return None


def lex(
    text: bytes,
    standard: bool = True,
    span: tuple[int, int] | None = None,
    windows: list[tuple[int, int]] | None = None,
) -> Tokens:
    """Cut a text, or the part of it between two places where tokens end, into tokens.

    `standard` is the setting standard_conforming_strings; `windows` are ranges of the numbers of the tokens that are
    wanted (see engine.core.lexer.cut).
    """
    start, end = span or (0, len(text))
    tokens = Tokens(text)
    part = text if span is None else text[start:end]
    tokens.repeatable = part.isascii() and b"\\" not in part
    kinds, ends = tokens.kinds, tokens.ends
    tokens.ambiguous, tokens.doubtful = cut(
        text, start, end, standard, windows, kinds, tokens.starts, ends, tokens.words, tokens.names
    )
    for _ in range(_PADDING):
        kinds.append(END)
        tokens.starts.append(end)
        ends.append(end)
        tokens.words.append(b"")
        tokens.names.append(b"")
    if UNICODE in kinds or UNICODE_NAME in kinds:
        _resolve(tokens)
    tokens.quoted = [index for index, kind in enumerate(kinds) if kind == QUOTED] if QUOTED in kinds else []
    return tokens


def _one_piece(raw: bytes) -> bytes | None:
    """What stands between the quotes of a string; None: it is written in several pieces."""
    body = _STANDARD.fullmatch(raw) or _BACKSLASH.fullmatch(raw)
    return None if body is None else raw[1:-1].replace(b"''", b"'")


def _unescape(body: bytes) -> bytes | None:
    """The value of an E'' string; None: PostgreSQL would not accept it."""
    valid = True

    def one(m: re.Match[bytes]) -> bytes:
        nonlocal valid
        octal, hexadecimal, short, long, char = m.groups()
        if char is not None:
            valid = valid and char not in b"xuU"
            return _LETTERS.get(char, char)
        if short or long:
            return _encode(int(short or long, 16))
        return bytes([(int(octal, 8) if octal else int(hexadecimal, 16)) & 255])

    value = _ESCAPE.sub(one, body)
    return value if valid else None


def _encode(code: int) -> bytes:
    """A character by its code, with what is no character of its own (half a pair) as a question mark."""
    return chr(code).encode("utf-8", "replace") if code < 0x110000 else b"?"


def _resolve(tokens: Tokens) -> None:
    """Give U& identifiers their names; a UESCAPE clause becomes part of the token in front of it."""
    dropped: list[int] = []
    for index, kind in enumerate(tokens.kinds):
        if kind not in (UNICODE, UNICODE_NAME):
            continue
        escape = b"\\"
        if tokens.words[index + 1] == b"uescape":
            value = tokens.string(index + 2)
            if value is None or len(value) != 1:
                tokens.doubtful = True
                return
            escape = value
            tokens.ends[index] = tokens.ends[index + 2]
            dropped += [index + 1, index + 2]
        if kind == UNICODE_NAME:
            name = _unicode_name(tokens.raw(index), escape)
            if name is None or not name.isascii():  # in a database's own encoding it may be another name
                tokens.doubtful = True
                return
            tokens.kinds[index] = QUOTED
            tokens.names[index] = name
    for index in reversed(dropped):
        for items in (tokens.kinds, tokens.starts, tokens.ends):
            del items[index]
        for texts in (tokens.words, tokens.names):
            del texts[index]


def _unicode_name(raw: bytes, escape: bytes) -> bytes | None:
    """The name that U&"..." stands for; None: PostgreSQL would not accept it."""
    body = raw[3 : raw.rindex(b'"')].replace(b'""', b'"')
    mark = re.escape(escape)
    pattern = re.compile(mark + rb"(?:([0-9A-Fa-f]{4})|\+([0-9A-Fa-f]{6})|(" + mark + rb")|(.?))", re.DOTALL)
    valid = True

    def one(m: re.Match[bytes]) -> bytes:
        nonlocal valid
        short, long, itself, other = m.groups()
        if itself:
            return escape
        if other is not None:
            valid = False
            return b""
        return _encode(int(short or long, 16))

    name = pattern.sub(one, body)
    return truncate(name) if valid else None
