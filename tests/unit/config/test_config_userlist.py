"""auth_file: the kinds of lines and secrets, and what happens to a broken file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgferry.config.userlist import load_userlist, parse_userlist
from unit.config.config_files import Loader

MD5 = "md5" + "0123456789abcdef" * 2
SCRAM = "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy"


@pytest.mark.parametrize(
    ("line", "users"),
    [
        ('"a" "plain"', {"a": "plain"}),
        (f'"a" "{MD5}"', {"a": MD5}),
        (f'"a" "{SCRAM}"', {"a": SCRAM}),
        ('"a" ""', {"a": ""}),
        ('"a""b" "c""d"', {'a"b': 'c"d'}),
        ('  "a"\t"b" whatever "follows"', {"a": "b"}),
        ('"a" "b"\r\n\r\n; "c" "d"\n"e" "f"\n', {"a": "b", "e": "f"}),
        ('"a" "1"\n"a" "2"', {"a": "2"}),
        ('"" "x"', {"": "x"}),
        ("", {}),
        (f'"{"u" * 127}" "{"s" * 65530}"', {"u" * 127: "s" * 65530}),
    ],
)
def test_lines(line: str, users: dict[str, str]) -> None:
    assert parse_userlist(line, "f") == (users, [])


@pytest.mark.parametrize(
    "line",
    [
        "broken",
        '"a"',
        '"a" "b',
        '"a',
        "'a' 'b'",
        "# comment",
        f'"{"u" * 128}" "x"',
        f'"a" "{"s" * 65531}"',
        '"a" "\0"',
    ],
)
def test_a_broken_line_ends_the_file(line: str) -> None:
    users, (problem,) = parse_userlist(f'"first" "1"\n\n{line}\n"last" "2"\n', "f")
    assert users == {"first": "1"}
    assert (problem.file, problem.line) == ("f", 3)
    assert "broken auth file" in problem.message


def test_broken_file_is_a_warning(ini: Loader) -> None:
    ini.users.write_text('"app" "1"\nrubbish\n"zoe" "2"\n')
    config = ini.main()
    assert list(config.users) == ["app"]
    assert [(warning.file, warning.line) for warning in config.warnings] == [(str(ini.users), 2)]


def test_bytes_that_are_no_text(ini: Loader) -> None:
    ini.users.write_bytes(b'"app" "1"\n"bob" "\xff"\n"zoe" "2"\n')
    config = ini.main()
    assert list(config.users) == ["app"]
    assert [warning.line for warning in config.warnings] == [2]


def test_missing_file_is_a_warning_and_a_reload_keeps_the_users(ini: Loader) -> None:
    old = ini.main()
    ini.users.unlink()
    text = "[pgbouncer]\nauth_file = {users}\n[users]\napp = pool_size=9\n"
    started = ini.load(text)
    assert started.users["app"].secret is None
    assert "cannot read the user file" in started.warnings[0].message
    reloaded = ini.load(text, previous=old)
    assert (reloaded.users["app"].secret, reloaded.users["app"].pool_size) == ("secret", 9)


def test_unreadable_paths() -> None:
    assert load_userlist("/")[0] is None
    assert load_userlist("a\0b")[0] is None


NAMES = st.text(st.characters(exclude_characters="\0\n", exclude_categories=["Cs"]), max_size=20)


@given(st.dictionaries(NAMES, NAMES, max_size=5))
def test_any_users_survive_quoting(users: dict[str, str]) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    text = "".join(f"{quoted(name)} {quoted(secret)}\n" for name, secret in users.items())
    assert parse_userlist(text, "f") == (users, [])


@given(st.text(max_size=80))
def test_any_text_is_read_or_reported(text: str) -> None:
    users, problems = parse_userlist(text, "f")
    assert len(problems) <= 1
    assert all(isinstance(secret, str) for secret in users.values())
