"""classify() on anything: it never raises, layout does not matter, quick looks agree with thorough ones."""

import re
import time

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgferry.session import classify as module
from pgferry.session.classify import classify
from pgferry.session.lexer import IDENT, STRINGS, lex
from pgferry.session.skim import is_harmless
from pgferry.session.verdict import HARMLESS, NEED_SHIFT, Touch, Verdict
from pgferry.session.words import STARTERS, UNLESS_AFTER, WORDS, worst
from support.session_statements import CODE, CONFIG, OBJECTS, PROGRAMS, SETTINGS

CATALOG = {
    b"tenant_setter": int(Touch.SETTINGS),
    b"tenant_view": int(Touch.SETTINGS),
    b"tenant_procedure": int(Touch.SETTINGS),
}
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
    edits = tuple((kind, name) for _, _, kind, name in verdict.edits)
    plain = verdict.plain and verdict.plain[0]
    resets_at = tuple((number, names) for _, number, names in verdict.resets_at)
    return {**msgspec.structs.asdict(verdict), "edits": edits, "plain": plain, "resets_at": resets_at}


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


@settings(max_examples=500, deadline=None)
@given(SOUP.map(" ".join) | SOUP.map("".join), st.sampled_from(["", *STATEMENTS]))
def test_a_quick_look_never_misses(soup: str, statement: str) -> None:
    text = f"{soup}; {statement}".encode()
    # (What cannot be cut into tokens, like a quote without an end, counts as the worst when it is read closely.)
    if is_harmless(text, CATALOG) and not lex(text).doubtful:
        assert classify(text, CATALOG) is HARMLESS, text


def test_long_texts_of_data_are_only_skimmed(monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"INSERT INTO t VALUES " + b", ".join([b"(1, 'temp ''SET a = 1', $1, -2.5)"] * 100)
    assert is_harmless(text, CATALOG)
    monkeypatch.setattr(module, "lex", None)
    assert classify(text, CATALOG) is HARMLESS


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 'a'; SET b = 1",
        'SELECT "set_config"(1)',
        "SELECT E'\\''; SET a = 1 --'",
        "/* ' */ SET a = 1 /* ' */",
        "SELECT $$'$$; SET a = 1; SELECT '",
        "SELECT 1 INTO x",
        "SELECT tenant_setter(1)",
        "(SET a = 1)",
    ],
)
def test_a_quick_look_sees(text: str) -> None:
    assert not is_harmless(text.encode(), CATALOG)


# What the scan in front of the classifier does, as the engine does it: words anywhere, and words at a start.
WORD = re.compile(rb"[A-Za-z_\x80-\xff][A-Za-z0-9_$\x80-\xff]*")
START = re.compile(rb"(?:\A|;|\*/|([\n\r]))\s*")


def flagged(text: bytes) -> bool:
    text = text.lower()
    words = WORD.findall(text)
    if b"u&" in text or any(word in WORDS or word in CATALOG for word in words):
        return True
    for start in START.finditer(text):
        word = WORD.match(text, start.end())
        if word and word[0] in STARTERS and (not start[1] or b"--" in text[: start.start()]):
            return True
    pairs = zip([b"", *words], words, strict=False)
    return any(word in UNLESS_AFTER and before not in UNLESS_AFTER[word][1] for before, word in pairs)


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_the_words_ask_for_every_verdict(program: tuple[str, ...]) -> None:
    for text in program:
        verdict = classify(text.encode(), CATALOG)
        assert verdict is HARMLESS or flagged(text.encode())


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_the_worst_that_words_allow_covers_the_verdict(program: tuple[str, ...]) -> None:
    """For texts too long to be classified."""
    for text in program:
        verdict = classify(text.encode(), CATALOG)
        if verdict is not HARMLESS:
            value = worst(text.encode(), CATALOG)
            # Bodies in disguise (U&, E'', in pieces) are worse than their words.
            if (
                not re.search(r"[uUeE]&?'|'\n'", text)
                and "load" not in text.lower()
                and "seed" not in text.lower()
            ):
                assert not verdict.touch & ~Touch.UNNAMED & ~value
                assert not verdict.needs & ~(value >> NEED_SHIFT)


PATHS = ["(", "set_config(", "'", '"', "/*", "/**/ ", "SET a=1;", 'U&"a" ', "$a$ ", "$", "'a'\n", "E'\\'", "'\\'",
         "DO 'x';", "explain ", "prepare a as ", "ts_stat(", "from pg_prepared_statements,", "a.", "set a.b.", "temp ",
         "create function begin atomic case;", "DO $$begin set a=1;$$;", ",", ")", "'' pg_settings "]  # fmt: skip


@pytest.mark.parametrize("piece", PATHS)
def test_time_grows_no_faster_than_the_text(piece: str) -> None:
    text = (piece * (64_000 // len(piece))).encode()
    start = time.process_time()
    classify(text, CATALOG)
    assert time.process_time() - start < 2  # a tenth of it is usual; a square would take minutes
