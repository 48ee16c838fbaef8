"""PostgreSQL's own scanner (libpg_query), and random texts to compare ours with it."""

import random
import re
from typing import NamedTuple

import postgast
from postgast.pg_query_pb2 import ScanToken, Token

from pgferry.engine.core.lexer import BITS, CHAR, IDENT, NUMBER, PARAM, QUOTED, UNICODE, UNICODE_NAME
from pgferry.engine.core.lexer import cut as cut_tokens
from pgferry.engine.core.outline import outline
from pgferry.engine.core.words import WordSet
from pgferry.session.lexer import lex, truncate

# Kinds that are compared.
WORD, NAME, CODED_NAME, STRING, CODED_STRING, DIGITS, NUMBERED, PARAMETER, MARK = range(9)

_OF_OURS = {
    IDENT: WORD,
    QUOTED: NAME,
    UNICODE_NAME: CODED_NAME,
    UNICODE: CODED_STRING,
    BITS: DIGITS,
    NUMBER: NUMBERED,
    PARAM: PARAMETER,
    CHAR: MARK,
}
_OF_THEIRS = {
    Token.UIDENT: CODED_NAME,
    Token.SCONST: STRING,
    Token.USCONST: CODED_STRING,
    Token.BCONST: DIGITS,
    Token.XCONST: DIGITS,
    Token.ICONST: NUMBERED,
    Token.FCONST: NUMBERED,
    Token.PARAM: PARAMETER,
}
_COMMENTS = (Token.SQL_COMMENT, Token.C_COMMENT)

PIECES = [
    *[
        "'",
        '"',
        "$",
        "$$",
        "$a$",
        "$é$",
        "$1",
        "$1a",
        "--",
        "-",
        "/*",
        "*/",
        "/",
        "*",
        "+",
        "<",
        ":",
        "::",
        ":=",
        "..",
        ".",
        ";",
        "(",
        ")",
        "[",
        ",",
        "&",
        "!",
        "@",
        "\\",
        "\\'",
        "''",
        '""',
        "\\\\",
    ],
    *(" ", "  ", "\n", "\r", "\r\n", "\t", "\f", "\v", "\x01", "\x7f", "\xa0", " ' ", "UESCAPE '!'"),
    *("-- x\n", "-- '\r", "/* ; */", "/* /* */", "'a'\n'b'", "create function f() begin atomic "),
    *[
        "e",
        "E",
        "b",
        "B",
        "x",
        "X",
        "n",
        "N",
        "u",
        "U",
        "u&",
        "U&",
        "E'",
        "e'\\'",
        "b'",
        "B'01'",
        "x'1F'",
        "n'a'",
        "U&'",
        'U&"',
        'U&"\\0061"',
        "uescape",
        "'!'",
    ],
    *[
        "0",
        "1",
        "12",
        "1.",
        ".5",
        "1..2",
        "1e5",
        "1e",
        "1e+",
        "1E-5",
        "0x1F",
        "0b01",
        "0o7",
        "1_000",
        "1__0",
        "1e5into",
        "1into",
        "9$9",
    ],
    *[
        "a",
        "A",
        "set",
        "SET",
        "select",
        "insert",
        "into",
        "begin",
        "atomic",
        "end",
        "case",
        "create",
        "function",
        "as",
        "abc$1",
        "_a",
        "é",
        "É",
        "ß",
        "日本",
        "😀",
    ],
    *['"a"', '"A""b"', '"!"', '"9$9"', '"1$abc"', '"é"'],
    *("E'\\''", "E'\\\\'", "$a$;$a$", "$$'$$", "set a=1;"),
    *("a" * 63, "b" * 64, "é" * 32, '"' + "ü" * 40 + '"'),
]


class Cut(NamedTuple):
    """One token: its kind, and where it stands in the text, in bytes."""

    kind: int
    start: int
    end: int


def random_text(source: random.Random) -> bytes:
    """A text without sense, of what the rules of PostgreSQL's scanner are about."""
    pieces = source.choices(PIECES, k=source.randint(1, 14))
    if source.random() < 0.1:
        pieces.append(chr(source.choice((*range(1, 0x250), 0x3042, 0x1F600))))
        source.shuffle(pieces)
    return source.choice(("", "", "", " ")).join(pieces).encode()


def theirs(text: bytes) -> list[ScanToken] | None:
    """What PostgreSQL's scanner makes of a text; None: it does not accept it."""
    try:
        return [token for token in postgast.scan(text.decode()).tokens if token.token not in _COMMENTS]
    except postgast.PgQueryError:
        return None


def _their_cuts(text: bytes, tokens: list[ScanToken]) -> list[Cut]:
    cuts: list[Cut] = []
    for token in tokens:
        kind = _OF_THEIRS.get(token.token, MARK)
        if kind == MARK and (token.keyword_kind or token.token in (Token.IDENT, Token.NCHAR)):
            kind = NAME if text[token.start : token.start + 1] == b'"' else WORD
        if kind == MARK:
            cuts.extend(Cut(MARK, at, at + 1) for at in range(token.start, token.end))
        else:
            cuts.append(Cut(kind, token.start, token.end))
    return cuts


def our_cuts(text: bytes) -> tuple[list[Cut], bool]:
    """What the compiled lexer makes of a text, and whether it finds it doubtful."""
    kinds: list[int] = []
    starts: list[int] = []
    ends: list[int] = []
    _, doubtful = cut_tokens(text, 0, len(text), True, None, kinds, starts, ends, [], [])
    return [Cut(_OF_OURS.get(k, STRING), s, e) for k, s, e in zip(kinds, starts, ends, strict=True)], doubtful


def _joined(cuts: list[Cut], whole: list[Cut]) -> list[Cut]:
    """Our cuts, with the pieces of what versions before 15 cut up (0x1F, 1_000) put together as `whole` has them."""
    numbers = {cut.start: cut.end for cut in whole if cut.kind == NUMBERED}
    joined: list[Cut] = []
    for cut in cuts:
        last = joined[-1] if joined else None
        if last and last.kind == NUMBERED and last.end == cut.start and numbers.get(last.start, 0) >= cut.end:
            joined[-1] = Cut(NUMBERED, last.start, cut.end)
        else:
            joined.append(cut)
    return joined


# libpg_query, which makes tokens of comments, does not join the pieces of a string where one lies between them.
_COMMENT_BETWEEN = re.compile(rb"'\s*(?:--[^\r\n]*[\r\n]\s*)+'")


# PostgreSQL 16 and later take 1_000e5 for one number.
_UNDERSCORED = re.compile(rb"[0-9]_[0-9]")


def difference(text: bytes) -> str | None:
    """How our lexer and the scan for words differ from PostgreSQL's scanner on a text; None: in nothing.

    A text that PostgreSQL refuses as a whole runs nothing, however we read it.
    """
    tokens = theirs(text)
    if tokens is None or _COMMENT_BETWEEN.search(text):
        return None
    expected = _their_cuts(text, tokens)
    cuts, doubtful = our_cuts(text)
    if doubtful:
        # `$` alone is a token to the scanner and an error to the grammar.
        alone = any(text[cut.start : cut.end] in (b"$", b"\0") for cut in expected if cut.kind == MARK)
        return None if alone else "doubtful"
    if _joined(cuts, expected) != expected and not _UNDERSCORED.search(text):
        return f"tokens {cuts} for {expected}"
    return _missed_words(text, expected) or _split_elsewhere(text, tokens)


def _missed_words(text: bytes, cuts: list[Cut]) -> str | None:
    """A word that the scan does not find anywhere, or not at the start of a statement."""
    fresh = True
    for cut in cuts:
        raw = text[cut.start : cut.end]
        if cut.kind == WORD:
            words = WordSet()
            words.add(truncate(raw.lower()), 1, 2)
            if words.bits(text) & (3 if fresh else 1) != (3 if fresh else 1):
                return f"the scan misses {raw!r}"
        fresh = raw == b";" and cut.kind == MARK
    return None


def _split_elsewhere(text: bytes, tokens: list[ScanToken]) -> str | None:
    """Whether outline() ends statements elsewhere than PostgreSQL's grammar would: at semicolons outside of
    parentheses and of BEGIN ATOMIC ... END.
    """
    if b"atomic" in text.lower():
        return None  # END may be a name there, and CASE: tests with valid SQL are in test_session_lexer.py
    words = WordSet()
    expected: list[tuple[int, int]] = []
    depth, start, end = 0, -1, 0
    for token in tokens:
        raw = text[token.start : token.end]
        if token.token == Token.ASCII_59 and depth == 0:
            if start >= 0:
                expected.append((start, end))
            start = -1
            continue
        depth += (token.token == Token.ASCII_40) - (token.token == Token.ASCII_41 and depth > 0)
        if start < 0:
            start = token.start
        end = token.end
        if token.keyword_kind or token.token == Token.IDENT:
            words.add(truncate(raw.strip(b'"').lower()), 1, 0)
    if start >= 0:
        expected.append((start, end))
    found = outline(text, words, True)
    if found.count != len(expected):
        return f"{found.count} statements for {expected}"
    if any((start, end) != expected[number] for start, end, number, *_ in found.pieces):
        return f"statements {found.pieces} for {expected}"
    return None


def names_differ(text: bytes) -> str | None:
    """How the name that our lexer gives an identifier differs from that of PostgreSQL's parser."""
    tokens = lex(text)
    if len(tokens) != 1 or not tokens.names[0] or tokens.doubtful:
        return None
    try:
        tree = postgast.parse("SELECT 1 AS " + text.decode())
    except postgast.PgQueryError:
        return None
    name = tree.stmts[0].stmt.select_stmt.target_list[0].res_target.name.encode()
    return None if name == tokens.names[0] else f"{tokens.names[0]!r} for {name!r}"
