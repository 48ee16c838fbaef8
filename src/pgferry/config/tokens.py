"""The fields of a line of an HBA or ident file: quotes, lists with commas, comments, @files."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from pgferry.config.ini import read_text

MAX_DEPTH = 10
_MOST_NAMES = 100_000


class Token(msgspec.Struct, frozen=True):
    """A word; `quoted` takes the meaning of keywords away."""

    text: str
    quoted: bool = False


class BadLine(Exception):
    """The line cannot be read; the text repeats no secret. `place`: file and line if not the line's own."""

    def __init__(self, message: str, expected: str = "", place: tuple[str, int] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.place = place


Field = tuple[list[Token], int]
"""The words of a comma list, and where in the line it ends."""


def fields(line: str, *, most: int = 1_000_000) -> list[Field]:
    """Split a line at blanks, each field at its commas, up to a # outside quotes. Raises BadLine.

    most: read no more fields than that; what follows is the caller's.
    """
    found: list[Field] = []
    at = 0
    joined = False  # a comma came last: the next word belongs to the same field
    while at < len(line) and line[at] != "#":
        char = line[at]
        if char.isspace():
            at += 1
        elif char == ",":
            if not found or joined:
                raise BadLine("a comma without a name before it")
            joined = True
            at += 1
        else:
            if len(found) >= most and not joined:
                return found
            word, at = _word(line, at)
            if joined:
                found[-1] = ([*found[-1][0], word], at)
                joined = False
            else:
                found.append(([word], at))
    if joined:
        raise BadLine("a comma without a name behind it")
    return found


def _word(line: str, at: int) -> tuple[Token, int]:
    """The word that begins at `at`, and where it ends. Parts in quotes and parts without may be joined."""
    parts: list[str] = []
    quoted = False
    while at < len(line) and not line[at].isspace() and line[at] not in ",#":
        if line[at] != '"':
            parts.append(line[at])
            at += 1
            continue
        quoted = True
        end = at + 1
        while True:
            end = line.find('"', end)
            if end < 0:
                raise BadLine("a quote that is not closed")
            if line[end + 1 : end + 2] != '"':
                break
            end += 2
        parts.append(line[at + 1 : end].replace('""', '"'))
        at = end + 1
    return Token("".join(parts), quoted), at


def with_files(words: list[Token], file: str, depth: int = 0) -> list[Token]:
    """Put the names of each @file in its place; the path is relative to the file it stands in. Raises BadLine."""
    found: list[Token] = []
    for word in words:
        if word.quoted or not word.text.startswith("@") or len(word.text) == 1:
            found.append(word)
        else:
            found.extend(_names_in(os.path.join(os.path.dirname(file), word.text[1:]), depth + 1))  # noqa: PTH118, PTH120
        if len(found) > _MOST_NAMES:
            raise BadLine(f"more than {_MOST_NAMES} names")
    return found


def _names_in(path: str, depth: int) -> list[Token]:
    if depth > MAX_DEPTH:
        raise BadLine(f"@files are nested more than {MAX_DEPTH} deep", place=(path, 0))
    try:
        text = read_text(Path(path))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not valid UTF-8"
        raise BadLine(f"cannot read {path}: {reason}") from error
    found: list[Token] = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            for words, _end in fields(line.rstrip(",").lstrip(", \t")):
                found.extend(with_files(words, path, depth))
        except BadLine as bad:
            if bad.place is None:
                bad.place = (path, number)
            raise
    return found
