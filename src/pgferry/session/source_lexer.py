"""Tokens of a function's source, in SQL or PL/pgSQL, which have the same lexical rules."""

import re
from typing import NamedTuple

from pgferry.session.lexer import BITS, CHAR, ESCAPED, IDENT, PLAIN, STRINGS, UNICODE, Tokens, lex
from pgferry.session.lexer import QUOTED as QUOTED_NAME

# A name, or a piece of one, that dynamic SQL computes. These bytes are part of a word to the lexer, and no text in
# UTF-8 holds them.
HOLE = b"\xff\xfe\xff"

WORD, QUOTED, STRING, NUMBER, OPERATOR = range(5)


class Token(NamedTuple):
    kind: int
    text: bytes  # words in lower case, names and strings without their quotes
    readable: bool = True  # False: a string or name with escapes that hide what it says


class Source(NamedTuple):
    """A source cut into tokens."""

    tokens: list[Token]
    ambiguous: bool  # it reads differently with the other standard_conforming_strings
    doubtful: bool  # no source that PostgreSQL would accept


_OPERATORS = frozenset((b"::", b":=", b"=>", b"||", b">>", b"<<"))
_NESTED = re.compile(rb"/\*(?:(?!\*/).)*?/\*", re.DOTALL)
# A string in several pieces, behind its opening.
_PIECE = re.compile(rb"'((?:[^']|'')*)'(?:[ \t\n\r\f\v]|--[^\r\n]*)*", re.DOTALL)

# Comments, and whatever may hold what looks like one.
_COMMENT = re.compile(
    rb"""--[^\r\n]*|/\*.*?\*/|'(?:[^']|'')*'|"[^"]*"|(?<![A-Za-z0-9_$\x80-\xff])\$([A-Za-z_\x80-\xff]?[A-Za-z0-9_\x80-\xff]*)\$.*?\$\1\$""",
    re.DOTALL,
)


def cut(source: bytes, standard: bool = True) -> Source:
    """The tokens of a source, without its comments; `standard` is the setting standard_conforming_strings."""
    found = lex(source, standard)
    tokens: list[Token] = []
    skipped = -1  # the second character of an operator that has been taken already
    for at in range(len(found)):
        kind = found.kinds[at]
        if kind == IDENT:
            tokens.append(Token(WORD, found.words[at]))
        elif kind == CHAR:
            if at != skipped:
                pair = found.words[at] + found.words[at + 1]
                joined = found.ends[at] == found.starts[at + 1] and pair in _OPERATORS
                tokens.append(Token(OPERATOR, pair if joined else found.words[at]))
                skipped = at + 1 if joined else -1
        elif kind == QUOTED_NAME:
            plain = found.raw(at)[:1] == b'"'
            tokens.append(Token(QUOTED, found.names[at].lower(), plain))
        elif kind in STRINGS or kind == BITS:
            tokens.append(_string(found, at))
        else:
            tokens.append(Token(NUMBER, found.raw(at)))
    return Source(tokens, found.ambiguous, found.doubtful)


def tokens(source: bytes) -> list[Token]:
    """The tokens of a source, as they are with standard_conforming_strings on."""
    return cut(source).tokens


def _string(found: Tokens, at: int) -> Token:
    """A string with its value, or what is in it where the value is not told."""
    kind, raw = found.kinds[at], found.raw(at)
    value = found.string(at)
    if value is not None:
        return Token(STRING, value)
    inner = b"".join(_PIECE.findall(raw[raw.index(b"'") :])).replace(b"''", b"'")
    if kind == ESCAPED:
        return Token(STRING, inner, False)
    return Token(STRING, inner, kind in (PLAIN, BITS) or (kind == UNICODE and b"\\" not in raw))


def uncommented(source: bytes) -> bytes:
    """The source without its comments, or with some of them when that cannot be told quickly and safely."""
    if (b"--" not in source and b"/*" not in source) or b"\\'" in source:
        return source
    if _NESTED.search(source):
        return source
    return _COMMENT.sub(lambda m: b" " if m.group()[:1] in b"-/" else m.group(), source)
