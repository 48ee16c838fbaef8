"""Bounds-checked reading of a payload, and the codecs of the field types that messages are made of."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

import msgspec

from pgferry.protocol.errors import ProtocolError

T = TypeVar("T")

MIN_KEY: Final = 4
MAX_KEY: Final = 256


class Cursor:
    """A place in one message's payload; each step is checked and raises a ProtocolError."""

    __slots__ = ("_data", "_name", "position")

    def __init__(self, data: bytes, name: str) -> None:
        self._data = data
        self._name = name
        self.position = 0

    def fail(self, problem: str) -> ProtocolError:
        """Return (not raise) the error for a problem at the present place."""
        return ProtocolError(problem, self._name, self.position)

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        end = self.position + count
        if count < 0 or end > len(self._data):
            raise self.fail(f"{count} bytes expected, {len(self._data) - self.position} left")
        piece = self._data[self.position : end]
        self.position = end
        return piece

    def integer(self, size: int, *, signed: bool = True) -> int:
        """Return a big-endian integer of ``size`` bytes."""
        return int.from_bytes(self.take(size), "big", signed=signed)

    def cstring(self) -> str:
        """Return the text up to the next zero byte, which is consumed; what is no UTF-8 is escaped."""
        end = self._data.find(b"\0", self.position)
        if end < 0:
            raise self.fail("string without end")
        piece = self._data[self.position : end]
        self.position = end + 1
        return piece.decode("utf-8", "surrogateescape")

    def rest(self) -> bytes:
        """Return all that is left."""
        return self.take(len(self._data) - self.position)

    def at_end(self) -> bool:
        """Tell whether nothing is left."""
        return self.position == len(self._data)

    def finish(self) -> None:
        """Refuse bytes behind the last field."""
        if not self.at_end():
            raise self.fail(f"{len(self._data) - self.position} bytes too many")


class Codec(Generic[T]):
    """How one field is written and read. ``name`` is for tests and error texts."""

    __slots__ = ("name", "read", "write")

    def __init__(self, name: str, write: Callable[[T], bytes], read: Callable[[Cursor], T]) -> None:
        self.name = name
        self.write = write
        self.read = read


class Column(msgspec.Struct, frozen=True):
    """One column of a RowDescription."""

    name: str
    type_oid: int = 25
    type_size: int = -1
    type_modifier: int = -1
    format: int = 0
    table_oid: int = 0
    column: int = 0


def pack(value: int, size: int, *, signed: bool = True) -> bytes:
    """Return a big-endian integer; ValueError when it does not fit."""
    try:
        return value.to_bytes(size, "big", signed=signed)
    except OverflowError as error:
        raise ValueError(f"{value} does not fit in {size} bytes") from error


def pack_text(text: str) -> bytes:
    """Return a zero-terminated string; ValueError when it holds a zero byte itself."""
    raw = text.encode("utf-8", "surrogateescape")
    if b"\0" in raw:
        raise ValueError("a string of a message cannot hold a zero byte")
    return raw + b"\0"


def _integer(name: str, size: int, *, signed: bool = True) -> Codec[int]:
    return Codec(
        name, lambda v: pack(v, size, signed=signed), lambda cursor: cursor.integer(size, signed=signed)
    )


def _fixed(size: int) -> Codec[bytes]:
    def write(value: bytes) -> bytes:
        if len(value) != size:
            raise ValueError(f"{size} bytes expected, not {len(value)}")
        return value

    return Codec(f"bytes{size}", write, lambda cursor: cursor.take(size))


def one_of(letters: str) -> Codec[str]:
    """Return the codec of one byte that must be among ``letters``."""

    def write(value: str) -> bytes:
        if len(value) != 1 or value not in letters:
            raise ValueError(f"one of {letters!r} expected, not {value!r}")
        return value.encode("ascii")

    def read(cursor: Cursor) -> str:
        letter = chr(cursor.integer(1, signed=False))
        if letter not in letters:
            cursor.position -= 1
            raise cursor.fail(f"unknown code {letter!r}")
        return letter

    return Codec(f"one of {letters}", write, read)


def _counted(name: str, count_size: int, item: Codec[T]) -> Codec[tuple[T, ...]]:
    """Return the codec of a count and that many items. Counts of two bytes go to 65535, as in PostgreSQL."""

    def write(values: Sequence[T]) -> bytes:
        return pack(len(values), count_size, signed=False) + b"".join(map(item.write, values))

    def read(cursor: Cursor) -> tuple[T, ...]:
        # Items are read one by one and each takes a byte or more: a false count ends with the payload.
        return tuple(item.read(cursor) for _ in range(cursor.integer(count_size, signed=False)))

    return Codec(name, write, read)


def _write_value(value: bytes | None) -> bytes:
    return b"\xff\xff\xff\xff" if value is None else pack(len(value), 4) + value


def _read_value(cursor: Cursor) -> bytes | None:
    length = cursor.integer(4)
    if length < -1:
        cursor.position -= 4
        raise cursor.fail(f"length {length}")
    return None if length == -1 else cursor.take(length)


def _write_column(column: Column) -> bytes:
    return (
        pack_text(column.name)
        + pack(column.table_oid, 4, signed=False)
        + pack(column.column, 2)
        + pack(column.type_oid, 4, signed=False)
        + pack(column.type_size, 2)
        + pack(column.type_modifier, 4)
        + pack(column.format, 2)
    )


def _read_column(cursor: Cursor) -> Column:
    name = cursor.cstring()
    table_oid, column = cursor.integer(4, signed=False), cursor.integer(2)
    type_oid, size = cursor.integer(4, signed=False), cursor.integer(2)
    modifier, form = cursor.integer(4), cursor.integer(2)
    return Column(name, type_oid, size, modifier, form, table_oid, column)


def _write_fields(fields: Sequence[tuple[str, str]]) -> bytes:
    for code, _ in fields:
        if len(code) != 1 or not "!" <= code <= "~":
            raise ValueError(f"bad field code {code!r}")
    return b"".join(code.encode("ascii") + pack_text(text) for code, text in fields) + b"\0"


def _read_fields(cursor: Cursor) -> tuple[tuple[str, str], ...]:
    fields = []
    while code := cursor.integer(1, signed=False):
        if not 0x21 <= code <= 0x7E:
            cursor.position -= 1
            raise cursor.fail(f"bad field code {code}")
        fields.append((chr(code), cursor.cstring()))
    return tuple(fields)


def _write_list(names: Sequence[str]) -> bytes:
    if "" in names:
        raise ValueError("an empty string would end the list")
    return b"".join(map(pack_text, names)) + b"\0"


def _read_list(cursor: Cursor) -> tuple[str, ...]:
    names = []
    while name := cursor.cstring():
        names.append(name)
    return tuple(names)


def _write_pairs(pairs: Sequence[tuple[str, str]]) -> bytes:
    if any(not name for name, _ in pairs):
        raise ValueError("an empty name would end the list")
    return b"".join(pack_text(name) + pack_text(value) for name, value in pairs) + b"\0"


def _read_pairs(cursor: Cursor) -> tuple[tuple[str, str], ...]:
    pairs = []
    while name := cursor.cstring():
        pairs.append((name, cursor.cstring()))
    return tuple(pairs)


def _check_key(key: bytes) -> bytes:
    if not MIN_KEY <= len(key) <= MAX_KEY:
        raise ValueError(f"a cancel key has {MIN_KEY} to {MAX_KEY} bytes, not {len(key)}")
    return key


def _read_key(cursor: Cursor) -> bytes:
    start = cursor.position
    key = cursor.rest()
    if not MIN_KEY <= len(key) <= MAX_KEY:
        cursor.position = start
        raise cursor.fail(f"cancel key of {len(key)} bytes")
    return key


INT8: Final = _integer("int8", 1)
INT16: Final = _integer("int16", 2)
INT32: Final = _integer("int32", 4)
OID: Final = _integer("oid", 4, signed=False)
SALT: Final = _fixed(4)
TEXT: Final[Codec[str]] = Codec("text", pack_text, Cursor.cstring)
REST: Final[Codec[bytes]] = Codec("rest", bytes, Cursor.rest)
VALUE: Final[Codec[bytes | None]] = Codec("value", _write_value, _read_value)
VALUES: Final = _counted("values", 2, VALUE)
FORMATS: Final = _counted("formats", 2, INT16)
OIDS: Final = _counted("oids", 2, OID)
COLUMNS: Final = _counted("columns", 2, Codec("column", _write_column, _read_column))
NAMES: Final = _counted("names", 4, TEXT)
FIELDS: Final[Codec[tuple[tuple[str, str], ...]]] = Codec("fields", _write_fields, _read_fields)
LIST: Final[Codec[tuple[str, ...]]] = Codec("list", _write_list, _read_list)
PAIRS: Final[Codec[tuple[tuple[str, str], ...]]] = Codec("pairs", _write_pairs, _read_pairs)
KEY: Final[Codec[bytes]] = Codec("key", _check_key, _read_key)


class Message(msgspec.Struct, frozen=True):
    """A message: its fields in wire order, and beside them the codec of each.

    Subclasses set ``TYPE`` (one byte, empty for packets before the login), ``CODE`` (bytes that begin the
    payload and tell messages of the same type apart) and ``LAYOUT``.
    """

    TYPE: ClassVar[bytes] = b""
    CODE: ClassVar[bytes] = b""
    LAYOUT: ClassVar[tuple[Codec[Any], ...]] = ()

    def payload(self) -> bytes:
        """Return the message without type and length; ValueError when a field cannot be sent."""
        parts = [self.CODE]
        for name, codec in zip(self.__struct_fields__, self.LAYOUT, strict=True):
            parts.append(codec.write(getattr(self, name)))
        return b"".join(parts)

    @classmethod
    def read(cls, payload: bytes) -> Self:
        """Read a payload (with its code, if the class has one); ProtocolError unless it is exactly right."""
        cursor = Cursor(payload, cls.__name__)
        if cursor.take(len(cls.CODE)) != cls.CODE:
            cursor.position = 0
            raise cursor.fail("wrong code")
        values = [codec.read(cursor) for codec in cls.LAYOUT]
        cursor.finish()
        return cls(*values)

    def build(self) -> bytes:
        """Return the message as it goes over the wire."""
        body = self.payload()
        return self.TYPE + pack(len(body) + 4, 4) + body
