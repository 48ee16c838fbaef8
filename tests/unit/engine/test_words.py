"""The scan for words: where a word counts, and that case, comments and strings do not hide one."""

import pytest

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
