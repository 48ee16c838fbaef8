"""The scan for words: where a word counts, and that case, comments and strings do not hide one."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgferry.engine.core.words import WordSet
from pgferry.session.lexer import truncate

ANYWHERE, START = 1, 2


@pytest.fixture
def words() -> WordSet:
    found = WordSet()
    found.add(b"set_config", ANYWHERE, 0)
    found.add(b"set", 0, START)
    found.add(b"u&", ANYWHERE, 0)
    found.add("caf\u00e9".encode(), ANYWHERE, 0)
    return found


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        (b"SELECT 1", 0),
        (b"", 0),
        (b"select set_config('a', 'b', false)", ANYWHERE),
        (b"select pg_catalog.SET_Config('a', 'b', false)", ANYWHERE),
        (b"select 1set_config", ANYWHERE),
        (b"select set_config2(1), my_set_config", 0),
        (b"select 'set_config' -- in a string", ANYWHERE),
        (b"SET x TO 1", START),
        (b"  \n\t set x to 1", START),
        (b"update t set x = 1", 0),
        (b"update t\nset x = 1", 0),
        (b"select 1; SET x TO 1", START),
        (b"/* hint */ SET x TO 1", START),
        (b"-- hint\nSET x TO 1", START),
        (b"-- hint\rSET x TO 1", START),
        (b"select $1set_config", ANYWHERE),
        (b"select 1e5set_config", ANYWHERE),
        (b"select .5e12set_config", ANYWHERE),
        (b'select 1e5U&"set\\005fconfig"(1)', ANYWHERE),
        (b"select e5set_config", 0),
        (b"select 1e5, x1e5set_config", 0),
        (b'select U&"set\\005fconfig"(1)', ANYWHERE),
        (b"select u & 1", 0),
        ("select caf\u00e9()".encode(), ANYWHERE),
        ("select caf\u00e9s()".encode(), 0),
    ],
)
def test_what_is_found(words: WordSet, text: bytes, bits: int) -> None:
    assert words.bits(text) == bits


def test_a_copy_grows_by_itself(words: WordSet) -> None:
    other = words.copy()
    for number in range(1000):
        other.add(b"word%d" % number, ANYWHERE, 0)
    assert other.bits(b"word999") == ANYWHERE
    assert words.bits(b"word999") == 0
    assert other.bits(b"set_config") == ANYWHERE
    assert other.count == words.count + 1000


@pytest.mark.parametrize(
    ("text", "bits"),
    [
        (b"insert into t values (1)", 0),
        (b"insert\n\tinto t values (1)", 0),
        (b"insert into t values (';'); insert into t values (2)", 0),
        (b"/* app='x' */ -- y\r insert into t values (1)", 0),
        (b"select 1 into t", ANYWHERE),
        (b"insert x into t", ANYWHERE),
        (b"insert, * into t", ANYWHERE),
        # Valid statements, in which `insert` is the name of a column and INTO makes a table.
        (b"select 1 insert into t", ANYWHERE),
        (b"select 1 as insert into t", ANYWHERE),
        (b"select a.insert into t from a", ANYWHERE),
        (b"select 1 -- x\ninsert into t", ANYWHERE),
        (b"select 1 -- ;\ninsert into t", ANYWHERE),
        (b"select 1 /* ; */ insert into t", ANYWHERE),
        (b"select ';' insert into t", ANYWHERE),
    ],
)
def test_a_shield_takes_the_meaning_of_the_word_behind_it(words: WordSet, text: bytes, bits: int) -> None:
    words.add(b"into", 1 << 31 | ANYWHERE, 0)
    words.add(b"insert", 1 << 30, 0)
    assert words.bits(text) == bits


@pytest.mark.parametrize("name", ["n" * 63, "n" * 62 + "\u00e9", "\u00e9" * 40])
@pytest.mark.parametrize("more", ["", "n", "\u00e9\u00e9", "n" * 64])
def test_a_name_is_cut_where_postgresql_cuts_it(name: str, more: str) -> None:
    words = WordSet()
    words.add(truncate(name.encode()), ANYWHERE, 0)
    assert words.bits(f"select {name}{more}()".encode()) == (
        ANYWHERE if truncate((name + more).encode()) == truncate(name.encode()) else 0
    )


PIECES = [
    *b"1e5|e7|\r|*/|$|set_config|SET|Set|set|xset|u&|U&'x'|1|12|;|--|-|/*|*/|/|*|'|&|$1|_|.|insert into|into| ".split(
        b"|"
    ),
    *(b"  ", b"\n", b'"', b"caf\xc3\xa9", b"a" * 31, b"b" * 70, b" word, another FROM somewhere " * 2),
    *(b"set" + b" " * 58, b" " * 61, b"7" * 65, b"\0"),
]
WORD = re.compile(rb"[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*")
BEHIND_EXPONENT = re.compile(rb"[eE][0-9][0-9$]*([A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*)")
OPENING = re.compile(rb"(?:\s|--[^\r\n]*)*")


def by_definition(text: bytes) -> int:
    """What the set of test_any_text stands for in a text, straight from the rules."""
    found, shield = 0, -1
    opening = end_of_opening(text)
    for word in WORD.finditer(text, opening):
        start, end = word.span()
        before = text[:start]
        between = before[end_of_last_word(before) :]
        line = re.search(rb"[\r\n]", between) and re.search(rb"--.*[\r\n]", text[opening:start], re.DOTALL)
        is_first = not WORD.search(before, opening) or line or re.search(rb";|\*/", between)
        commented = re.search(rb"--|\*/", text[opening:start])
        sure = not WORD.search(before, opening) or (
            re.search(rb";\s*\Z", text[opening:start]) and not commented
        )
        name = word.group().lower()
        shielded = shield >= 0 and text[shield:start].isspace()
        if name == b"into" and not shielded:
            found |= ANYWHERE
        if name == b"set" and is_first:
            found |= START
        found |= anywhere(text, start, end)
        for inner in inner_words(text, start, end):
            found |= anywhere(text, inner, end) | (ANYWHERE if text[inner:end].lower() == b"into" else 0)
        shield = end if name == b"insert" and sure else -1
    return found


def inner_words(text: bytes, start: int, end: int) -> list[int]:
    """Where words may begin within one: behind an exponent, and behind a `$` that ends a string."""
    found = []
    tail = BEHIND_EXPONENT.match(text, start, end)
    if tail and text[max(0, start - 1) : start].isdigit():
        found.append(tail.start(1))
    for at in range(start, end):
        if text[at : at + 1] == b"$" and (word := WORD.search(text, at, end)):
            found.append(word.start())
            tail = BEHIND_EXPONENT.match(text, word.start(), end)
            if tail and text[word.start() - 1 : word.start()].isdigit():
                found.append(tail.start(1))
    return found


def anywhere(text: bytes, start: int, end: int) -> int:
    name = text[start:end].lower()
    escaped = name == b"u" and re.match(rb"&['\"]", text[end:])
    return ANYWHERE if escaped or name in (b"set_config", "caf\u00e9".encode()) else 0


def end_of_last_word(text: bytes) -> int:
    ends = [w.end() for w in WORD.finditer(text)]
    return ends[-1] if ends else 0


def end_of_opening(text: bytes) -> int:
    """Where the first token begins: comments nest."""
    at = 0
    while True:
        at = OPENING.match(text, at).end()  # type: ignore[union-attr]
        if not text.startswith(b"/*", at):
            return at
        depth, at = 1, at + 2
        while depth:
            edge = re.compile(rb"/\*|\*/").search(text, at)
            if edge is None:
                return len(text)
            depth += 1 if edge.group() == b"/*" else -1
            at = edge.end()


@given(st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join))
@settings(max_examples=500, deadline=None)
def test_any_text(text: bytes) -> None:
    """The scan of 64 bytes at a time finds what the rules say, wherever in them a word lies."""
    words = WordSet()
    words.add(b"set_config", ANYWHERE, 0)
    words.add(b"set", 0, START)
    words.add(b"u&", ANYWHERE, 0)
    words.add("caf\u00e9".encode(), ANYWHERE, 0)
    words.add(b"into", 1 << 31 | ANYWHERE, 0)
    words.add(b"insert", 1 << 30, 0)
    found = words.bits(text)
    assert found & by_definition(text) == by_definition(text)
    if WORD.match(text) and text.count(b"$") <= 8:  # else it may say too much
        assert found == by_definition(text)
