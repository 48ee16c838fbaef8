"""classify() on anything: it never raises, layout does not matter, quick looks agree with thorough ones."""

import re
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgferry.session import classify as module
from pgferry.session.classify import classify
from pgferry.session.lexer import IDENT, STRINGS, Tokens, lex
from pgferry.session.verdict import HARMLESS, PINNING, Need, Touch, Verdict
from pgferry.session.words import word_set
from support.session_statements import CODE, CONFIG, OBJECTS, PROGRAMS, SETTINGS

CATALOG = {
    b"tenant_setter": int(Touch.SETTINGS),
    b"tenant_view": int(Touch.SETTINGS),
    b"tenant_procedure": int(Touch.SETTINGS),
}
WORD_SET = word_set(CATALOG)
STATEMENTS = SETTINGS + CONFIG + CODE + OBJECTS
PIECES = sorted({piece for text in STATEMENTS for piece in re.findall(r"\w+|\s+|[^\w\s]", text)})
SOUP = st.lists(st.sampled_from(PIECES), max_size=25)
SEPARATORS = st.sampled_from(
    [" ", "\n", "\t \r\n", "/**/", " /* ' /* $$ */ \" */ ", "-- it's\n", "\f--\n--;\n"]
)


@settings(max_examples=500, deadline=None)
@given(st.binary(max_size=60) | SOUP.map(lambda pieces: " ".join(pieces).encode()))
def test_never_raises(text: bytes) -> None:
    verdict = classify(text, CATALOG)
    assert isinstance(verdict, Verdict)


@settings(max_examples=500, deadline=None)
@given(SOUP.map("".join), st.sampled_from(STATEMENTS))
def test_never_raises_on_what_is_nearly_sql(soup: str, statement: str) -> None:
    half = len(statement) // 2
    for text in (soup + statement, statement + soup, statement[:half] + soup + statement[half:]):
        classify(text.encode(), CATALOG)


def essence(verdict: Verdict) -> object:
    """A verdict without places in the text."""
    rewrites = tuple((kind, name) for _, _, kind, name in verdict.rewrites)
    plain = verdict.plain and verdict.plain[0]
    resets_at = tuple((number, names) for _, number, names in verdict.resets_at)
    return {**msgspec.structs.asdict(verdict), "rewrites": rewrites, "plain": plain, "resets_at": resets_at}


def relaid(text: bytes, separators: list[str], upper: bool) -> bytes:
    """The same tokens with other space between them, and words in capitals."""
    tokens = lex(text)
    out = [separators[0].encode()]
    for i in range(len(tokens)):
        raw = tokens.raw(i)
        out.append(raw.upper() if upper and tokens.kinds[i] == IDENT else raw)
        gap = text[tokens.ends[i] : tokens.starts[i + 1]]
        strings = tokens.kinds[i] in STRINGS and tokens.kinds[i + 1] in STRINGS
        out.append(separators[(i + 1) % len(separators)].encode() if gap and not strings else gap)
    return b"".join(out)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(STATEMENTS), st.lists(SEPARATORS, min_size=1, max_size=5), st.booleans())
def test_layout_does_not_matter(statement: str, separators: list[str], upper: bool) -> None:
    text = statement.encode()
    if lex(text).ambiguous or lex(text).doubtful:
        return
    changed = relaid(text, separators, upper)
    assert essence(classify(changed, CATALOG)) == essence(classify(text, CATALOG)), changed


PATHS = ["(", "set_config(", "'", '"', "/*", "/**/ ", "SET a=1;", 'U&"a" ', "$a$ ", "$", "'a'\n", "E'\\'", "'\\'",
         "DO 'x';", "explain ", "prepare a as ", "ts_stat(", "from pg_prepared_statements,", "a.", "set a.b.", "temp ",
         "create function begin atomic case;", "DO $$begin set a=1;$$;", ",", ")", "'' pg_settings "]  # fmt: skip

DATA = b"(1, 'temp ''SET a = 1 into', E'it\\'s set', $$execute x'y$$, -2.5, now(), \"temp\") /* set ; */ -- drop\n"
ROWS = b"INSERT INTO t VALUES " + b", ".join([DATA] * 9000)


def test_long_texts_of_data_are_harmless() -> None:
    assert len(ROWS) > 900_000
    assert classify(ROWS, CATALOG) is HARMLESS
    upsert = ROWS + b" ON CONFLICT (a) DO UPDATE SET a = excluded.a /*app='shop'*/"
    assert classify(upsert, CATALOG) is HARMLESS


def test_statements_around_long_ones_are_understood() -> None:
    verdict = classify(b"SET a.b = 1; " + ROWS + b"; LISTEN x", CATALOG)
    assert (verdict.touch, verdict.names, verdict.listens) == (
        Touch.SETTINGS | Touch.LISTEN,
        (b"a.b",),
        (b"x",),
    )
    verdict = classify(ROWS + b", (set_config('a.b', 'c', false))", CATALOG)
    assert (verdict.touch, verdict.names) == (Touch.SETTINGS, (b"a.b",))
    verdict = classify(ROWS + b", (tenant_setter())", CATALOG)
    assert (verdict.touch, verdict.reason) == (Touch.SETTINGS, "function tenant_setter")


def test_too_much_to_read_is_taken_at_its_worst() -> None:
    verdict = classify(b"set a.b=1;" * 1600)
    assert (verdict.touch, verdict.names) == (Touch.SETTINGS | Touch.UNNAMED, None)
    assert verdict.ends == PINNING
    assert classify(b"select " + b"lastval(), " * 100 + b"1").needs == Need.SEQUENCES
    assert classify(b"notify x;" * 100).notifies
    assert classify(b"select pg_advisory_lock(1);" * 100).touch == Touch.LOCKS
    assert classify(b"begin; update t set a = 1; commit;" * 100 + b"set a = 1").names == (b"a",)


@pytest.mark.parametrize("piece", PATHS)
def test_what_python_sees_of_a_text_is_bounded(piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = 0

    def counted(*arguments: Any) -> Tokens:
        nonlocal seen
        tokens = lex(*arguments)
        seen += len(tokens)
        return tokens

    monkeypatch.setattr(module, "lex", counted)
    for size in (1_000, 10_000, 100_000):
        classify((piece * (size // len(piece))).encode(), CATALOG)
        assert seen < 3 * 2 * 2000


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_the_words_ask_for_every_verdict(program: tuple[str, ...]) -> None:
    for text in program:
        verdict = classify(text.encode(), CATALOG)
        assert verdict is HARMLESS or WORD_SET.bits(text.encode())


@pytest.mark.parametrize("piece", PATHS)
def test_time_grows_no_faster_than_the_text(piece: str) -> None:
    text = (piece * (64_000 // len(piece))).encode()
    start = time.process_time()
    classify(text, CATALOG)
    assert time.process_time() - start < 2  # a tenth of it is usual; a square would take minutes
