"""The scan for words: where a word counts, and that case, comments and strings do not hide one."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgferry.engine.words import WordSet

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


def test_a_shield_takes_the_meaning_of_the_word_behind_it(words: WordSet) -> None:
    words.add(b"into", 1 << 31 | ANYWHERE, 0)
    words.add(b"insert", 1 << 30, 0)
    assert words.bits(b"insert into t values (1)") == 0
    assert words.bits(b"select 1 into t") == ANYWHERE
    assert words.bits(b"insert x into t") == ANYWHERE


PIECES = [
    *b"set_config|SET|Set|set|xset|u&|U&'x'|1|12|;|--|-|/*|*/|/|*|'|&|$1|_|.|insert into|into| ".split(b"|"),
    *(b"  ", b"\n", b'"', b"caf\xc3\xa9", b"a" * 31, b"b" * 70, b" word, another FROM somewhere " * 2),
    *(b"set" + b" " * 58, b" " * 61, b"7" * 65, b"\0"),
]
WORD = re.compile(rb"[A-Za-z_$\x80-\xff][A-Za-z0-9_$\x80-\xff]*")


def by_definition(text: bytes) -> int:
    """What the set of test_any_text stands for in a text, straight from the rules."""
    found, shielded = 0, False
    for word in WORD.finditer(text):
        before = text[: word.start()]
        between = before[_end_of_last_word(before) :]
        line = b"\n" in between and b"--" in before[: before.rindex(b"\n")]
        starts = line or re.search(rb";|\*/", between)
        is_first = not WORD.search(before) or bool(starts)
        name = word.group().lower()
        if name in (b"set_config", "caf\u00e9".encode()) or (name == b"into" and not shielded):
            found |= ANYWHERE
        if name == b"set" and is_first:
            found |= START
        if name == b"u" and re.match(rb"&['\"]", text[word.end() :]):
            found |= ANYWHERE
        shielded = name == b"insert"
    return found


def _end_of_last_word(text: bytes) -> int:
    ends = [w.end() for w in WORD.finditer(text)]
    return ends[-1] if ends else 0


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
    assert words.bits(text) == by_definition(text)
