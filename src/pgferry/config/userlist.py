"""The user file (auth_file): one `"user" "secret"` per line. Rules: COMPAT.md 2.4."""

from __future__ import annotations

import re
from pathlib import Path

from pgferry.config.ini import read_text
from pgferry.config.problems import Problem

MAX_USER_BYTES = 127
MAX_SECRET_BYTES = 65530

# The secret may contain "" for a quote; whatever stands behind it is ignored.
_LINE = re.compile(r'"((?:[^"]|"")*)"[^"]*"((?:[^"]|"")*)"')
_EXPECTED = 'a line of the form "user" "secret"'


def parse_userlist(text: str, file: str) -> tuple[dict[str, str], list[Problem]]:
    """Return the secrets by user name, and what is wrong.

    A malformed line ends the reading, as in PgBouncer: the users before it stay. A user's last line counts.
    No problem repeats any part of a line.
    """
    users: dict[str, str] = {}
    for number, raw in enumerate(text.split("\n"), 1):
        line = raw.strip()
        if not line or line[0] == ";":
            continue
        match = _LINE.match(line)
        if match is None or "\0" in line:
            return users, [_broken(file, number, "the line is malformed", _EXPECTED)]
        name, secret = (part.replace('""', '"') for part in match.groups())
        if len(name.encode()) > MAX_USER_BYTES:
            return users, [
                _broken(file, number, "the user name is too long", f"at most {MAX_USER_BYTES} bytes")
            ]
        if len(secret.encode()) > MAX_SECRET_BYTES:
            return users, [
                _broken(file, number, "the secret is too long", f"at most {MAX_SECRET_BYTES} bytes")
            ]
        users[name] = secret
    return users, []


def load_userlist(path: str) -> tuple[dict[str, str] | None, list[Problem]]:
    """Read the file: (users, problems), users None when it cannot be read at all."""
    try:
        return parse_userlist(read_text(Path(path)), path)
    except OSError as err:
        return None, [Problem(path, 0, "auth_file", f"cannot read the user file: {err.strerror or err}")]
    except UnicodeDecodeError as err:
        good = err.object[: err.start]
        line = good.count(b"\n") + 1
        users, problems = parse_userlist(good[: good.rfind(b"\n") + 1].decode(), path)
        return users, problems or [_broken(path, line, "the line is not valid UTF-8", _EXPECTED)]
    except ValueError:
        return None, [Problem("", 0, "auth_file", "the path holds a zero byte")]


def _broken(file: str, line: int, what: str, expected: str) -> Problem:
    return Problem(
        file, line, "auth_file", f"broken auth file: {what}; the users from here on are not known", expected
    )
