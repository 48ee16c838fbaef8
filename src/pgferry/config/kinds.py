"""Kinds of setting values: how each is read from text, printed again, and described to an operator."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from pgferry.config.problems import nearest_name

Value = bool | int | float | str | tuple[str, ...] | None

INT_MAX = 2**31 - 1
INT_MIN = -(2**31)
UINT_MAX = 2**32 - 1
MAX_WORKERS = 256

# The forms of C's strtol with base 0: hexadecimal, octal with a leading zero, decimal.
_STRTOL = re.compile(r"[+-]?(?:0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)", re.ASCII)
_ATOI = re.compile(r"[+-]?[0-9]+", re.ASCII)
_TIME = re.compile(r"\+?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?", re.ASCII)
# A value is repeated in a message only when it cannot be a stray secret or another key=value pair.
_SHOWABLE = re.compile(r"[\w.+-]{1,32}", re.ASCII)


class BadValue(ValueError):
    """The text is no value of its kind; `expected` says what is, `nearest` the likely intended word."""

    def __init__(self, message: str, expected: str, nearest: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.nearest = nearest


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value. `parse` raises BadValue; `show` is the text of SHOW CONFIG."""

    name: str
    expected: str
    parse: Callable[[str], Value]
    show: Callable[[Value], str]
    choices: tuple[str, ...] = ()
    minimum: int | None = None
    maximum: int | None = None
    tolerant: bool = field(default=False)


def bad_value(text: str, expected: str, nearest: str = "") -> BadValue:
    """Make the error for `text`; the text itself is shown only when it is short and plain."""
    shown = f" {text!r}" if _SHOWABLE.fullmatch(text) else ""
    message = f"invalid value{shown}" if text else "the value is empty"
    if re.search(r"\s[;#]", text):
        message += ": a comment must stand on a line of its own"
    return BadValue(message, expected, nearest)


def read_c_int(text: str) -> int | None:
    """Read an integer as C's strtol(text, &end, 0) does, None when anything else is in the text."""
    text = text.strip()
    if not _STRTOL.fullmatch(text):
        return None
    sign = -1 if text[0] == "-" else 1
    digits = text.lstrip("+-")
    if digits[:2] in ("0x", "0X"):
        return sign * int(digits[2:], 16)
    return sign * int(digits, 8 if digits[0] == "0" else 10)


def read_c_prefix(text: str) -> tuple[int, bool] | None:
    """Read a decimal integer as C's atoi does: (number, is that the whole text); None without digits."""
    match = _ATOI.match(text.strip())
    if not match:
        return None
    return int(match.group()), match.end() == len(text.strip())


def _range_text(minimum: int | None, maximum: int) -> str:
    if minimum is not None and maximum in (INT_MAX, UINT_MAX):
        return f"a whole number, {minimum} or more"
    if minimum is None:
        return "a whole number"
    return f"a whole number from {minimum} to {maximum}"


def integer(minimum: int | None = 0, maximum: int = INT_MAX) -> Kind:
    """An integer in C notation (10, 0x0a, 012) between the bounds; minimum None allows negative numbers."""
    expected = _range_text(minimum, maximum)
    low = INT_MIN if minimum is None else minimum

    def parse(text: str) -> int:
        number = read_c_int(text)
        if number is None or not low <= number <= maximum:
            raise bad_value(text, expected)
        return number

    return Kind("integer", expected, parse, str, minimum=minimum, maximum=maximum)


def entry_integer(minimum: int | None = None, maximum: int = INT_MAX) -> Kind:
    """A decimal integer of a connection string. Text after the number is left to the caller to warn about."""
    expected = _range_text(minimum, maximum)
    low = INT_MIN if minimum is None else minimum

    def parse(text: str) -> int:
        found = read_c_prefix(text)
        if found is None or not low <= found[0] <= maximum:
            raise bad_value(text, expected)
        return found[0]

    return Kind("integer", expected, parse, str, minimum=minimum, maximum=maximum, tolerant=True)


def _entry_seconds() -> Kind:
    whole = entry_integer()
    expected = "a whole number of seconds"

    def parse(text: str) -> float:
        try:
            number = whole.parse(text)
        except BadValue as err:
            raise BadValue(err.message, expected) from None
        assert isinstance(number, int)
        return float(number)

    return Kind("whole seconds", expected, parse, lambda value: f"{value:g}", tolerant=True)


def enum(*choices: str) -> Kind:
    """One of the keywords, in any letter case; the value is the lower-case keyword."""
    expected = ", ".join(choices[:-1]) + " or " + choices[-1]

    def parse(text: str) -> str:
        word = text.strip().lower()
        if word not in choices:
            raise bad_value(text, expected, nearest_name(word, choices))
        return word

    return Kind("keyword", expected, parse, str, choices=choices)


def _parse_bool(text: str) -> bool:
    number = read_c_int(text)
    if number not in (0, 1):
        word = text.strip().lower()
        nearest = "1" if word in ("yes", "on", "true") else "0" if word in ("no", "off", "false") else ""
        raise bad_value(text, "0 or 1", nearest)
    return number == 1


def _parse_time(text: str) -> float:
    expected = "seconds as a number, 0 or more, without a unit (90 or 1.5)"
    stripped = text.strip()
    number = float(stripped) if _TIME.fullmatch(stripped) else math.inf
    if not math.isfinite(number):
        raise bad_value(text, expected)
    return number


def _parse_list(text: str) -> tuple[str, ...]:
    return tuple(item for item in (part.strip() for part in text.split(",")) if item)


def _show_list(value: Value) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


_WORKERS_EXPECTED = f"auto, or a whole number from 1 to {MAX_WORKERS}"


def _parse_workers(text: str) -> int:
    if text.strip().lower() == "auto":
        return min(len(os.sched_getaffinity(0)), MAX_WORKERS)
    number = read_c_int(text)
    if number is None or not 1 <= number <= MAX_WORKERS:
        raise bad_value(text, _WORKERS_EXPECTED, nearest_name(text, ("auto",)))
    return number


BOOL = Kind("0 or 1", "0 or 1", _parse_bool, lambda value: "1" if value else "0")
TIME = Kind("seconds", "seconds, 0 or more", _parse_time, lambda value: f"{value:g}")
TEXT = Kind("text", "text", lambda text: text, str)
TEXT_LIST = Kind("list", "names separated by commas", _parse_list, _show_list)
WORKERS = Kind("integer", _WORKERS_EXPECTED, _parse_workers, str, minimum=1, maximum=MAX_WORKERS)
ENTRY_SECONDS = _entry_seconds()
