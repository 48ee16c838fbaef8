"""Ident files (auth_ident_file): which database users an account or a certificate may be. Rules: COMPAT.md 2.7.

Beyond PgBouncer, as in PostgreSQL: a system user that begins with / is a regular expression, whose first group may
stand as \\1 in the database user.
"""

from __future__ import annotations

import re
from pathlib import Path

from pgferry.config.ini import read_text
from pgferry.config.problems import Problem
from pgferry.config.rules import IdentLine
from pgferry.config.tokens import BadLine, fields

SETTING = "auth_ident_file"
_FORM = "map-name system-user database-user"

Maps = dict[str, tuple[IdentLine, ...]]


def load_ident(path: str) -> tuple[Maps, list[Problem]]:
    """Read the file: the maps by name, and what is wrong."""
    try:
        return parse_ident(read_text(Path(path)), path)
    except OSError as error:
        return {}, [Problem(path, 0, SETTING, f"cannot read the ident file: {error.strerror or error}")]
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        return {}, [Problem(path, line, SETTING, "the line is not valid UTF-8")]
    except ValueError:
        return {}, [Problem("", 0, SETTING, "the path holds a zero byte")]


def parse_ident(text: str, file: str) -> tuple[Maps, list[Problem]]:
    """The maps in a file's text, and what is wrong."""
    maps: dict[str, list[IdentLine]] = {}
    problems = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            found = _line(line)
        except BadLine as bad:
            problems.append(Problem(file, number, SETTING, bad.message, bad.expected))
            continue
        if found is not None:
            maps.setdefault(found[0], []).append(found[1])
    return {name: tuple(lines) for name, lines in maps.items()}, problems


def _line(text: str) -> tuple[str, IdentLine] | None:
    if "\0" in text:
        raise BadLine("the line holds a zero byte")
    columns = [words for words, _end in fields(text)]
    if not columns:
        return None
    if len(columns) != 3 or any(len(words) != 1 for words in columns):
        raise BadLine("the line has not three columns", _FORM)
    name, system, user = (words[0] for words in columns)
    if system.text.startswith("/") and len(system.text) > 1 and not system.quoted:
        try:
            groups = re.compile(system.text[1:]).groups
        except (re.error, OverflowError) as error:
            raise BadLine(f"the regular expression is malformed: {error}") from None
        if "\\1" in user.text and not groups:
            raise BadLine("the regular expression has no group that \\1 could be")
        return name.text, IdentLine(system=system.text[1:], user=_user(user.text, user.quoted), pattern=True)
    return name.text, IdentLine(system=system.text, user=_user(user.text, user.quoted))


def _user(text: str, quoted: bool) -> str:
    if text == "all" and not quoted:
        return ""
    if not text:
        raise BadLine("the database user is empty", _FORM)
    return text
