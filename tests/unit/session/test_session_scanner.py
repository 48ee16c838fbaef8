"""Our lexer and the scan for words beside PostgreSQL's own scanner, on random texts."""

import os
import random
import time

import pytest

pytest.importorskip("postgast", reason="it comes with make test")

from support.scanner import difference, names_differ, random_text


def compare(source: random.Random) -> None:
    text = random_text(source)
    assert difference(text) is None, text
    name = text[: source.randint(1, 200)].decode(errors="ignore").encode()
    assert names_differ(name) is None, name


def test_random_texts_are_cut_as_postgresql_cuts_them() -> None:
    source = random.Random(12)
    for _ in range(3000):
        compare(source)


@pytest.mark.parametrize("end", ["", "x", "xx", "é", "éé", "日本", "😀", "😀😀"])
@pytest.mark.parametrize("letter", ["a", "A", "é", "É", "日", "😀"])
@pytest.mark.parametrize("quote", ["", '"'])
def test_long_names_are_those_of_postgresql(letter: str, end: str, quote: str) -> None:
    for length in range(62 // len(letter.encode()) - 2, 66 // len(letter.encode()) + 1):
        name = f"{quote}{letter * length}{end}{quote}".encode()
        assert names_differ(name) is None, name


@pytest.mark.fuzz
def test_random_texts_for_long() -> None:
    seconds = float(os.environ.get("PGFERRY_FUZZ_SECONDS", "3"))
    seed = random.SystemRandom().getrandbits(64)
    source, end, count = random.Random(seed), time.monotonic() + seconds, 0
    while time.monotonic() < end:
        for _ in range(1000):
            compare(source)
        count += 1000
    print(f"seed {seed}: {count} texts")
