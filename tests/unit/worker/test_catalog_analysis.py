"""Catalogs are worked out beside the loop: in a thread, or in a process that may fail without harm."""

import sys

import pytest

from pgferry.session.catalog import analyze_catalog
from pgferry.worker.catalog_analysis import SMALL, analyzed, in_process

Row = tuple[bytes | None, ...]


def catalog(size: int) -> list[Row]:
    """Functions that set a setting each."""
    source = b"BEGIN PERFORM set_config('app.s%d', 'x', false);" + b" -- %s\n" % (b"x" * 1000) + b"END"
    return [(b"function", b"1255:%d" % n, b"f%d" % n, b"plpgsql", source % n, b"public") for n in range(size)]


def test_a_process_knows_the_same() -> None:
    rows = catalog(50)
    assert sum(len(column or b"") for row in rows for column in row) > SMALL
    assert analyzed(rows) == in_process(rows) == analyze_catalog(rows)
    harmless = frozenset((b"f1", b"public.f2"))
    assert analyzed(rows, harmless) == analyze_catalog(rows, harmless=harmless) != analyze_catalog(rows)


def test_a_small_catalog_needs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgferry.worker.catalog_analysis.in_process", None)
    assert analyzed(catalog(3)) == analyze_catalog(catalog(3))


def test_a_process_that_fails_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="status 1: ValueError: no"):
        in_process([], command=(sys.executable, "-c", "raise ValueError('no')"))
    with pytest.raises(ValueError, match="truncated"):
        in_process([], command=(sys.executable, "-c", ""))


def test_a_process_is_given_so_much_time() -> None:
    with pytest.raises(TimeoutError):
        in_process([], patience=0.0, command=(sys.executable, "-c", "input(); input()"))
