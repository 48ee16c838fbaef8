"""Result sets of the console: columns with their wire types, and values in text and binary format."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

Value = str | int | None

_INT4_MAX = 2**31 - 1
_NUMERIC_POSITIVE, _NUMERIC_NEGATIVE = 0, 0x4000


class Type(Enum):
    """A wire type: its oid and its length in RowDescription."""

    TEXT = (25, -1)
    INT4 = (23, 4)
    INT8 = (20, 8)
    NUMERIC = (1700, -1)

    @property
    def oid(self) -> int:
        """The oid of the type in pg_type."""
        return self.value[0]

    @property
    def length(self) -> int:
        """The type's length, -1 for a variable one."""
        return self.value[1]


@dataclass(frozen=True, slots=True)
class Column:
    """A column's name and type."""

    name: str
    type: Type


@dataclass(slots=True)
class Result:
    """A result set."""

    columns: tuple[Column, ...]
    rows: list[Sequence[Value]] = field(default_factory=list)


def columns(kind: Type, names: str) -> tuple[Column, ...]:
    """Columns of one type from names separated by blanks."""
    return tuple(Column(name, kind) for name in names.split())


def encode_row(
    row: Sequence[Value], described: Sequence[Column], formats: Sequence[int] | None = None
) -> list[bytes | None]:
    """The values of a row on the wire; `formats`: 0 (text) or 1 (binary) for each, None = all text."""
    if formats is None:
        return [_as_text(value, column.type) for value, column in zip(row, described, strict=True)]
    return [
        _as_binary(value, column.type) if binary else _as_text(value, column.type)
        for value, column, binary in zip(row, described, formats, strict=True)
    ]


def int4(value: int) -> int:
    """`value` cut to what fits an int4, so that a reader which trusts the type does not fail."""
    return max(-_INT4_MAX - 1, min(_INT4_MAX, value))


def _as_text(value: Value, kind: Type) -> bytes | None:
    if value is None:
        return None
    return str(int4(int(value)) if kind is Type.INT4 else value).encode("utf-8", "surrogateescape")


def _as_binary(value: Value, kind: Type) -> bytes | None:
    if value is None:
        return None
    match kind:
        case Type.TEXT:
            return str(value).encode("utf-8", "surrogateescape")
        case Type.INT4:
            return struct.pack("!i", int4(int(value)))
        case Type.INT8:
            return struct.pack("!q", int(value))
        case Type.NUMERIC:
            return numeric_binary(int(value))


def numeric_binary(value: int) -> bytes:
    """A whole number as PostgreSQL's binary numeric: digits to base 10000, most significant first."""
    digits: list[int] = []
    rest = abs(value)
    while rest:
        rest, digit = divmod(rest, 10000)
        digits.append(digit)
    weight = len(digits) - 1
    while digits and digits[0] == 0:
        digits.pop(0)
    digits.reverse()
    sign = _NUMERIC_NEGATIVE if value < 0 else _NUMERIC_POSITIVE
    return struct.pack(f"!hhhh{len(digits)}h", len(digits), max(weight, 0), sign, 0, *digits)


def expand_formats(codes: Sequence[int], count: int) -> list[int]:
    """The result formats of a Bind for `count` columns; none = text, one = for all. Raises ValueError."""
    if any(code not in (0, 1) for code in codes):
        raise ValueError("unknown result format")
    if len(codes) <= 1:
        return [codes[0] if codes else 0] * count
    if len(codes) != count:
        raise ValueError(f"{len(codes)} result formats for {count} columns")
    return list(codes)
