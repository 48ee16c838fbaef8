"""The syntax of a configuration file: sections, keys, comments, quoted names and %include.

Knows nothing about settings. Rules: COMPAT.md 2.1; double-quoted names are taken as the manual promises.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import msgspec

from pgferry.config.problems import Problem

MAX_INCLUDE_DEPTH = 10

_BARE_KEY = re.compile(r"[A-Za-z0-9_.*-]+", re.ASCII)
_QUOTED_KEY = re.compile(r"'((?:[^']|'')*)'|\"((?:[^\"]|\"\")*)\"")
_INCLUDE = re.compile(r"%include[ \t]+(\S.*)")
_BLANKS = " \t\r\f\v"


class Section(msgspec.Struct, frozen=True):
    """A `[name]` header."""

    name: str
    file: str
    line: int


class Entry(msgspec.Struct, frozen=True):
    """A `key = value` line; the value is trimmed and otherwise raw, `section` is None before any header."""

    section: str | None
    key: str
    value: str
    file: str
    line: int

    def __repr__(self) -> str:
        return f"Entry({self.section!r}, {self.key!r}, {self.file}:{self.line})"


def read_text(path: Path) -> str:
    """Read a UTF-8 file. Raises OSError, or UnicodeDecodeError with the offset of the first bad byte."""
    data = path.read_bytes()
    return data.removeprefix(b"\xef\xbb\xbf").decode("utf-8")


class IniReader:
    """Reads one file with everything it includes; findings are collected in `problems`.

    complete is False when a file could not be read, so that something seeming absent may stand in it.
    """

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.complete = True
        self._section: str | None = None

    def read(self, path: str) -> Iterator[Section | Entry]:
        """Yield the headers and entries of the file in order. A file that cannot be read is a problem."""
        yield from self._read(path, 0, None)

    def _read(self, path: str, depth: int, source: tuple[str, int] | None) -> Iterator[Section | Entry]:
        at_file, at_line = source or (path, 0)
        name = "%include" if source else ""
        shown = f" {path}" if source else ""
        if depth > MAX_INCLUDE_DEPTH:
            message = f"files include each other more than {MAX_INCLUDE_DEPTH} levels deep"
            self.problems.append(Problem(at_file, at_line, name, message))
            return
        try:
            text = read_text(Path(path))
        except UnicodeDecodeError as err:
            line = err.object[: err.start].count(b"\n") + 1
            self._unreadable(Problem(path, line, "", "the line is not valid UTF-8"))
            return
        except OSError as err:
            reason = f"cannot read{shown}: {err.strerror or err}"
            self._unreadable(Problem(at_file, at_line, name, reason))
            return
        except ValueError:
            self._unreadable(Problem(at_file, at_line, name, "the path holds a zero byte"))
            return
        for number, raw in enumerate(text.split("\n"), 1):
            yield from self._line(raw.strip(_BLANKS), path, number, depth)

    def _line(self, line: str, path: str, number: int, depth: int) -> Iterator[Section | Entry]:
        while line and line[0] not in ";#":
            if include := _INCLUDE.fullmatch(line):
                yield from self._read(include[1], depth + 1, (path, number))
                return
            if line[0] != "[":
                yield from self._entry(line, path, number)
                return
            header, bracket, rest = line[1:].partition("]")
            if not bracket:
                self._syntax(path, number, "the section header does not end", "[name]")
                return
            self._section = header
            yield Section(header, path, number)
            line = rest.strip(_BLANKS)

    def _entry(self, line: str, path: str, number: int) -> Iterator[Entry]:
        quoted = _QUOTED_KEY.match(line)
        match = quoted or _BARE_KEY.match(line)
        rest = line[match.end() :].lstrip(_BLANKS) if match else ""
        if match is None or not rest.startswith("="):
            self._syntax(path, number, "the line is no setting", _expected_entry(line, match is not None))
            return
        if "\0" in line:
            self._syntax(path, number, "the line holds a zero byte", "text")
            return
        if quoted is None:
            key = match.group()
        elif quoted[1] is not None:
            key = quoted[1].replace("''", "'")
        else:
            key = quoted[2].replace('""', '"')
        yield Entry(self._section, key, rest[1:].strip(_BLANKS), path, number)

    def _unreadable(self, problem: Problem) -> None:
        self.problems.append(problem)
        self.complete = False

    def _syntax(self, path: str, number: int, message: str, expected: str) -> None:
        self.problems.append(Problem(path, number, "", message, expected))


def _expected_entry(line: str, key_found: bool) -> str:
    if line.startswith("%include"):
        return "%include FILE"
    if line[0] in "'\"" and not key_found:
        return "a closing quote after the name, then = and a value"
    if key_found:
        return "name = value"
    return "name = value; names with other characters than A-Z a-z 0-9 _ . * - need quotes"
