"""The lexer: tokens as PostgreSQL's own lexer cuts them."""

import pytest

from pgferry.engine.core.lexer import may_mislead
from pgferry.engine.core.outline import outline, windows
from pgferry.engine.core.words import WordSet
from pgferry.session.lexer import (
    BITS,
    CHAR,
    DOLLAR,
    ESCAPED,
    GAP,
    IDENT,
    NUMBER,
    PARAM,
    PLAIN,
    QUOTED,
    UNICODE,
    Tokens,
    lex,
    truncate,
)


def cut(tokens: Tokens) -> list[tuple[int, bytes]]:
    return [(tokens.kinds[i], tokens.raw(i)) for i in range(len(tokens))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", []),
        (b" \t\n-- c\n", []),
        (b"Select a$1_b", [(IDENT, b"Select"), (IDENT, b"a$1_b")]),
        (b"1 1.5 .5 1. 1e5 1.5E-3 2e", [(NUMBER, x) for x in b"1 1.5 .5 1. 1e5 1.5E-3 2".split()] + [(IDENT, b"e")]),
        (b"1..2", [(NUMBER, b"1"), (CHAR, b"."), (CHAR, b"."), (NUMBER, b"2")]),
        (b"1...2", [(NUMBER, b"1"), (CHAR, b"."), (CHAR, b"."), (NUMBER, b".2")]),
        (b"b'01''11'", [(BITS, b"b'01'"), (PLAIN, b"'11'")]),
        (b"$1$2a", [(PARAM, b"$1"), (PARAM, b"$2"), (IDENT, b"a")]),
        (b"'a''b'", [(PLAIN, b"'a''b'")]),
        (b"'a' 'b'", [(PLAIN, b"'a'"), (PLAIN, b"'b'")]),
        (b"'a' \n\t 'b'", [(PLAIN, b"'a' \n\t 'b'")]),
        (b"'a' -- c\n -- d\n'b' 'c'", [(PLAIN, b"'a' -- c\n -- d\n'b'"), (PLAIN, b"'c'")]),
        (b"'a' /* \n */ 'b'", [(PLAIN, b"'a'"), (PLAIN, b"'b'")]),
        (rb"E'a\'b' c", [(ESCAPED, rb"E'a\'b'"), (IDENT, b"c")]),
        (b"e'a'\n'b\\'c'", [(ESCAPED, b"e'a'\n'b\\'c'")]),
        (b"fe'a'", [(IDENT, b"fe"), (PLAIN, b"'a'")]),
        (b"n'a'", [(IDENT, b"n"), (PLAIN, b"'a'")]),
        (b"b'01'X'ff'", [(BITS, b"b'01'"), (BITS, b"X'ff'")]),
        (b"U&'a\\0061' u & 'a'", [(UNICODE, b"U&'a\\0061'"), (IDENT, b"u"), (CHAR, b"&"), (PLAIN, b"'a'")]),
        (b"U&'!0061' UESCAPE '!' x", [(UNICODE, b"U&'!0061' UESCAPE '!'"), (IDENT, b"x")]),
        (b'"a""b" "c"', [(QUOTED, b'"a""b"'), (QUOTED, b'"c"')]),
        (b"$$a'b$$ $a$ $$ $b$ $a$", [(DOLLAR, b"$$a'b$$"), (DOLLAR, b"$a$ $$ $b$ $a$")]),
        (b"$a$x$a$a$", [(DOLLAR, b"$a$x$a$"), (IDENT, b"a$")]),
        (b"a$$b", [(IDENT, b"a$$b")]),
        (b"/* a /* b */ c */ d", [(IDENT, b"d")]),
        (b"/*/ */x/**/y/***/z", [(IDENT, b"x"), (IDENT, b"y"), (IDENT, b"z")]),
        (b"a+--b\n-/*c*/d", [(IDENT, b"a"), (CHAR, b"+"), (CHAR, b"-"), (IDENT, b"d")]),
        (b"d*/*e*/f", [(IDENT, b"d"), (CHAR, b"*"), (IDENT, b"f")]),
        (b"-- '\r'a'", [(PLAIN, b"'a'")]),
        ("SELECT é$ü".encode(), [(IDENT, b"SELECT"), (IDENT, "é$ü".encode())]),
    ],
)  # fmt: skip
def test_tokens(text: bytes, expected: list[tuple[int, bytes]]) -> None:
    tokens = lex(text)
    assert cut(tokens) == expected
    assert not tokens.doubtful


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b"AbC", b"abc"),
        ("ÄbC".encode(), "Äbc".encode()),
        (b'"AbC"', b"AbC"),
        (b'"a""b"', b'a"b'),
        (b'U&"d\\0061t\\+000061"', b"data"),
        (b"U&\"d!0061\\!!\" UESCAPE '!'", b"da\\!"),
        (b"a" * 64, b"a" * 63),
        (b'"' + b"A" * 64 + b'"', b"A" * 63),
    ],
)
def test_names(text: bytes, name: bytes) -> None:
    tokens = lex(text)
    assert tokens.names[0] == name
    assert len(tokens) == 1
    assert tokens.ends[0] == len(text)


def test_words_are_for_keywords_only() -> None:
    tokens = lex(b"SET \"set\" 'set' (1;")
    assert tokens.words[: len(tokens)] == [b"set", b"", b"", b"(", b"", b";"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"'a''b'", b"a'b"),
        (b"$x$ a'b $x$", b" a'b "),
        (rb"E'a\'\n\\\x41\101\u0042\U00000043\z'", b"a'\n\\AABCz"),
        (b"'a'\n'b'", None),
        (rb"'a\b'", None),
        (rb"E'\u00'", None),
        (rb"U&'\0061'", None),
        (b"b'1'", None),
        (b"1", None),
    ],
)
def test_values_of_strings(text: bytes, value: bytes | None) -> None:
    assert lex(text).string(0) == value


@pytest.mark.parametrize(
    ("text", "ambiguous"),
    [
        (rb"'a\b'", False),
        (rb"'a\'", True),
        (rb"'a\\'", True),
        (rb"'\''", True),
        (rb"E'a\'b'", False),
        (b"'a'\n'b\\'", True),
        (b"E'a'\n'b\\''", False),
        (rb"$$a\'$$", False),
    ],
)
def test_backslashes_before_quotes_are_ambiguous(text: bytes, ambiguous: bool) -> None:
    assert lex(text).ambiguous == ambiguous


def test_without_standard_conforming_strings() -> None:
    assert cut(lex(rb"'a\' b' c", standard=False)) == [(PLAIN, rb"'a\' b'"), (IDENT, b"c")]
    assert cut(lex(b"$$a\\$$ 'b\\\\'", standard=False)) == [(DOLLAR, b"$$a\\$$"), (PLAIN, rb"'b\\'")]
    assert cut(lex(b"'a'\n'b\\'c'", standard=False)) == [(PLAIN, b"'a'\n'b\\'c'")]


@pytest.mark.parametrize(
    "text",
    [
        b"'a",
        b"E'a\\'",
        b'"a',
        b'U&"a',
        b"U&'a",
        b"$$a",
        b"$a$ $b$",
        b"/* /* */",
        b"a $ b",
        b'U&"\\00"',
        b"U&\"a\" UESCAPE 'ab'",
        "$é".encode("latin-1") + b"@$ ' $",
        b'U&"\\00e9"',  # in a database of another encoding than UTF-8 it may be another name
    ],
)
def test_what_cannot_be_read_is_doubtful(text: bytes) -> None:
    assert lex(text).doubtful


def test_long_names_are_not_cut_within_a_character() -> None:
    assert truncate(b"a" + "ü".encode() * 40) == b"a" + "ü".encode() * 31
    assert truncate("ü".encode() * 40) == "ü".encode() * 31
    assert truncate("😀".encode() * 16) == "😀".encode() * 15
    assert truncate(b"\x80" * 70) == b"\x80" * 63


def statements(text: bytes) -> list[bytes]:
    words = WordSet()
    words.add(b"mark", 1, 0)
    return [text[start:end] for start, end, *_ in outline(text, words, True).pieces]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"mark", [b"mark"]),
        (b" ;; a; mark x ; (b; mark); c 'mark' /* ; mark */ ;\"mark\"", [b"mark x", b"(b; mark)", b'"mark"']),
        (b"create function f() returns int begin atomic mark; case when a then b end; mark; end; mark", [
            b"create function f() returns int begin atomic mark", b"mark", b"mark"]),
        (b"create view v as select begin atomic, mark; mark", [
            b"create view v as select begin atomic, mark", b"mark"]),
    ],
)  # fmt: skip
def test_statements_with_words_that_matter(text: bytes, expected: list[bytes]) -> None:
    assert statements(text) == expected


def test_whether_a_statement_is_in_a_body() -> None:
    words = WordSet()
    words.add(b"mark", 1, 0)
    text = b"create or replace procedure p() begin atomic select 1; mark; end; mark"
    assert [in_body for _, _, _, _, in_body, _ in outline(text, words, True).pieces] == [True, False]
    assert outline(text, words, True).count == 4


def test_of_a_long_statement_only_what_stands_around_the_words_is_cut() -> None:
    words = WordSet()
    words.add(b"mark", 1, 0)
    text = b"select f((" + b"1, " * 5000 + b"2), mark(x), " + b"1, " * 5000 + b"3)"
    ((start, end, _, count, _, spots),) = outline(text, words, True).pieces
    tokens = lex(text, True, (start, end), windows(count, spots))
    assert (tokens.kinds.count(GAP), len(tokens)) == (2, 64 + 40 + 80 + 2)
    assert tokens.words.count(b"(") - tokens.words.count(b")") == 1
    assert tokens.words[0] == b"select"
    at = tokens.words.index(b"mark")
    assert (tokens.words[at + 1 : at + 4], text[tokens.starts[at] : tokens.ends[at]]) == (
        [b"(", b"x", b")"],
        b"mark",
    )
    text = b"select " + b"(" * 100 + b"1, " * 500 + b"2" + b")" * 100 + b", mark"
    ((start, end, _, count, _, spots),) = outline(text, words, True).pieces
    tokens = lex(text, True, (start, end), windows(count, spots))
    assert tokens.words.count(b"(") == tokens.words.count(b")") == 63


@pytest.mark.parametrize(
    ("text", "misleads"),
    [
        (b"E'\x83\\'", True),
        (b"\x83[e'", True),
        (b"$\x83|$", True),
        (b"'\x83A'", False),
        (b"'\x83'", False),
        (b"\\ [ '\xc3 \\'", False),
    ],
)
def test_what_encodings_with_ascii_in_their_characters_make_of_a_text(text: bytes, misleads: bool) -> None:
    assert may_mislead(text) == misleads
