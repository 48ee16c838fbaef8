"""Connection strings: the `key=value key='quoted value'` lists of [databases], [users] and [peers] lines."""

from __future__ import annotations

import re

# Rules: COMPAT.md 2.1. Only spaces separate pairs; a quoted value doubles its quotes; no value may be empty.
_KEY = re.compile(r"[^\s='\"]+")
_QUOTED = re.compile(r"'((?:[^']|'')*)'")
_BARE = re.compile(r"[^ ]+")


class ConnstrError(ValueError):
    """The text is no list of pairs. The message gives columns, never the text, which may hold a password."""

    def __init__(self, message: str, expected: str) -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected


def parse_pairs(text: str) -> list[tuple[str, str]]:
    """Split a connection string into (key, value) pairs in order. Raises ConnstrError."""
    pairs: list[tuple[str, str]] = []
    at = _skip(text, 0)
    while at < len(text):
        key = _KEY.match(text, at)
        after_key = _skip(text, key.end()) if key else at
        if key is None or text[after_key : after_key + 1] != "=":
            raise ConnstrError(
                f"no key=value pair at column {at + 1} of the value", "key=value pairs separated by spaces"
            )
        value, at = _value(text, _skip(text, after_key + 1))
        pairs.append((key.group(), value))
        at = _skip(text, at)
    return pairs


def _value(text: str, at: int) -> tuple[str, int]:
    place = f"at column {at + 1}"
    if text[at : at + 1] == "'":
        quoted = _QUOTED.match(text, at)
        if quoted is None:
            raise ConnstrError(f"the quoted value {place} does not end", "a closing ' after the value")
        value, at = quoted[1].replace("''", "'"), quoted.end()
        if text[at : at + 1] not in ("", " "):
            raise ConnstrError(f"no space after the quoted value {place}", "a space between pairs")
    else:
        bare = _BARE.match(text, at)
        value, at = (bare.group(), bare.end()) if bare else ("", at)
        if "\t" in value:
            raise ConnstrError(f"a tab in the value {place}", "spaces between pairs, tabs only within quotes")
    if not value:
        raise ConnstrError(f"the value {place} is empty", "a value, or no such key")
    return value, at


def _skip(text: str, at: int) -> int:
    while text[at : at + 1] == " ":
        at += 1
    return at
