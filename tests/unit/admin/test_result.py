"""Values on the wire, against psycopg's own readers of the binary formats."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.adapt import Transformer
from psycopg.pq import Format

from pgferry.admin.result import Column, Type, encode_row, expand_formats, numeric_binary


def load(data: bytes, oid: int) -> object:
    return Transformer().get_loader(oid, Format.BINARY).load(data)


@given(st.integers(min_value=-(10**40), max_value=10**40))
def test_numeric(value: int) -> None:
    assert load(numeric_binary(value), 1700) == value


@pytest.mark.parametrize("value", [0, 1, 9999, 10000, 10001, 100_000_000, 123_400_000_000])
def test_numeric_edges(value: int) -> None:
    assert load(numeric_binary(value), 1700) == value


def test_row() -> None:
    columns = [
        Column("t", Type.TEXT),
        Column("i", Type.INT4),
        Column("b", Type.INT8),
        Column("n", Type.NUMERIC),
    ]
    row = ("ä", 5, -7, 10_000)
    assert encode_row(row, columns) == ["ä".encode(), b"5", b"-7", b"10000"]
    binary = encode_row(row, columns, [1, 1, 1, 1])
    assert [load(value, c.type.oid) for value, c in zip(binary, columns, strict=True)] == list(row)
    assert encode_row((None,) * 4, columns) == [None] * 4
    assert encode_row((None,) * 4, columns, [1] * 4) == [None] * 4
    assert encode_row((2**40,), columns[1:2]) == [b"2147483647"]


def test_formats() -> None:
    assert expand_formats([], 3) == [0, 0, 0]
    assert expand_formats([1], 3) == [1, 1, 1]
    assert expand_formats([1, 0], 2) == [1, 0]
    assert expand_formats([1], 0) == []
    for bad in ([1, 0], [2], [-1]):
        with pytest.raises(ValueError, match="format"):
            expand_formats(bad, 3)
