"""Tokens of a function's source, exact for SQL and PL/pgSQL as PostgreSQL's own lexer reads them."""

import re
from typing import NamedTuple

# A name, or a piece of one, that dynamic SQL computes: no source can hold this byte otherwise.
HOLE = b"\x01"

WORD, QUOTED, STRING, NUMBER, OPERATOR = range(5)


class Token(NamedTuple):
    kind: int
    text: bytes  # words in lower case, names and strings without their quotes
    readable: bool = True  # False: a string or name with escapes that hide what it says


_TOKEN = re.compile(
    rb"""\s*(?:
    (?P<word>[A-Za-z_\x80-\xff\x01][A-Za-z0-9_$\x80-\xff\x01]*+)(?!['&])
  | (?P<line>--[^\r\n]*)
  | (?P<comment>/\*)
  | (?P<escaped>[eE]'(?:[^'\\]|\\.|'')*')
  | (?P<unicode>[uU]&(?:'(?:[^']|'')*'|"(?:[^"]|"")*"))
  | (?P<string>[bBxXnN]?'(?:[^']|'')*')
  | (?P<dollar>\$(?P<tag>(?:[A-Za-z_\x80-\xff][A-Za-z0-9_\x80-\xff]*)?)\$.*?\$(?P=tag)\$)
  | (?P<quoted>"(?:[^"]|"")*")
  | (?P<name>[A-Za-z_\x80-\xff\x01][A-Za-z0-9_$\x80-\xff\x01]*)
  | (?P<number>[$]?[0-9][0-9A-Za-z_.\x01]*)
  | (?P<operator>::|:=|=>|\|\||>>|<<|.))
    """,
    re.VERBOSE | re.DOTALL,
)
_NESTED = re.compile(rb"/\*(?:(?!\*/).)*?/\*", re.DOTALL)
_COMMENT_EDGE = re.compile(rb"/\*|\*/")
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)
_CODED = re.compile(rb"\\[0-7xuU]")

# Comments, and whatever may hold what looks like one.
_COMMENT = re.compile(
    rb"""--[^\r\n]*|/\*.*?\*/|'(?:[^']|'')*'|"[^"]*"|(?<![A-Za-z0-9_$\x80-\xff])\$([A-Za-z_\x80-\xff]?[A-Za-z0-9_\x80-\xff]*)\$.*?\$\1\$""",
    re.DOTALL,
)


def tokens(source: bytes) -> list[Token]:
    """The tokens of a source, comments left out, adjacent strings joined as PostgreSQL joins them."""
    found: list[Token] = []
    at, source = 0, source.rstrip()
    while match := _TOKEN.match(source, at):
        at = match.end()
        kind = match.lastgroup
        if kind == "word":
            found.append(Token(WORD, match["word"].lower()))
            continue
        if kind == "line":
            continue
        if kind == "comment":
            at = _comment_end(source, at)
            continue
        token = _token(kind or "", match[0].lstrip())
        if token.kind == STRING and found and found[-1].kind == STRING:
            token = Token(STRING, found.pop().text + token.text, token.readable)
        found.append(token)
    return found


def _token(kind: str, text: bytes) -> Token:
    if kind == "operator":
        return Token(OPERATOR, text)
    if kind == "name":
        return Token(WORD, text.lower())
    if kind == "string":
        return Token(STRING, text[text.index(b"'") + 1 : -1].replace(b"''", b"'"))
    if kind == "dollar":
        edge = text.index(b"$", 1) + 1
        return Token(STRING, text[edge:-edge])
    if kind == "quoted":
        return Token(QUOTED, text[1:-1].replace(b'""', b'"').lower())
    if kind == "escaped":
        inner = text[2:-1].replace(b"''", b"'")
        return Token(STRING, _ESCAPE.sub(_unescaped, inner), _CODED.search(inner) is None)
    if kind == "unicode":
        return Token(STRING if text[2:3] == b"'" else QUOTED, text[3:-1].lower(), b"\\" not in text)
    return Token(NUMBER, text)


def _unescaped(match: re.Match[bytes]) -> bytes:
    letter = match.group(1)
    return b" " if letter in b"bfnrt" else letter


def _comment_end(source: bytes, at: int) -> int:
    """Where the comment ends whose opening ends at `at`; comments nest."""
    depth = 1
    while depth:
        edge = _COMMENT_EDGE.search(source, at)
        if edge is None:
            return len(source)
        depth += 1 if edge.group() == b"/*" else -1
        at = edge.end()
    return at


def uncommented(source: bytes) -> bytes:
    """The source without its comments, or with some of them when that cannot be told quickly and safely."""
    if (b"--" not in source and b"/*" not in source) or b"\\'" in source:
        return source
    if _NESTED.search(source):
        return source
    return _COMMENT.sub(lambda m: b" " if m.group()[:1] in b"-/" else m.group(), source)
