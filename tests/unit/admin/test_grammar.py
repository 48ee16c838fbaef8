"""The console's grammar and its rights table."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgferry.admin.commands import SHOWS, check, describe, help_text, needs_admin
from pgferry.admin.context import ShowOne
from pgferry.admin.control import CONTROLS
from pgferry.admin.grammar import Command, client_number, parse
from pgferry.supervisor.errors import CommandError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SHOW pools", ("SHOW", "pools", None)),
        ("  show\tPOOLS ; ", ("SHOW", "POOLS", None)),
        ("show\npools;", ("SHOW", "pools", None)),
        ("pause", ("PAUSE", None, None)),
        ('pause "My Db"', ("PAUSE", "My Db", None)),
        ('pause "a""b"', ("PAUSE", 'a"b', None)),
        ('"pause"', ("PAUSE", None, None)),
        ('pause ""', ("PAUSE", None, None)),
        ("set a=b", ("SET", "a", "b")),
        ("SET a TO b;", ("SET", "a", "b")),
        ("set a = 'it''s; here'", ("SET", "a", "it's; here")),
        ("set a to''", ("SET", "a", "")),
        ('set "a" = "b c"', ("SET", "a", "b c")),
        ("set a", ("SET", "a", None)),
        ("PAUSE MixedCase", ("PAUSE", "MixedCase", None)),
        ("show client_state 0x1F;", ("SHOW", "client_state", "0x1F")),
        ('select client_state "7"', ("SELECT", "client_state", "7")),
        ('show client_state ""', ("SHOW", "client_state", None)),
    ],
)
def test_commands(text: str, expected: tuple[str, str | None, str | None]) -> None:
    command = parse(text)
    assert (command.verb, command.argument, command.value) == expected
    assert command.text == text


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", ";", "show pools;;", "show a b c", "show pools; show stats", "show 'x'", "pause a-b"),
        *(
            "set a b",
            "pause a b",
            "kill_client 1 2",
            "set a = b c",
            "set a = 'x",
            "set = b",
            "pause é",
            "show $1",
            'pause "x',
            "set a tob",
        ),
        "-- x\nshow pools",
    ],
)
def test_no_commands(text: str) -> None:
    with pytest.raises(CommandError) as caught:
        parse(text)
    assert caught.value.message == f"invalid command '{text}', use SHOW HELP;"
    assert caught.value.code == "08P01"


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("a" * 15, True),
        ("a" * 16, False),
        ("pause " + "a" * 63, True),
        ("pause " + "a" * 64, False),
        ('pause "' + "é" * 32 + '"', False),
        (f"set {'a' * 63} = b", True),
        (f"set {'a' * 64} = b", False),
        (f"set a = '{'b' * 255}'", True),
        (f"set a = '{'b' * 256}'", False),
        ("show client_state " + "1" * 63, True),
        ("show client_state " + "1" * 64, False),
    ],
)
def test_lengths(text: str, good: bool) -> None:
    if good:
        parse(text)
        return
    with pytest.raises(CommandError, match="bad arguments"):
        parse(text)


@given(st.text(max_size=300))
def test_any_text_is_a_command_or_an_error(text: str) -> None:
    try:
        command = parse(text)
    except CommandError as error:
        assert error.code == "08P01"
        return
    assert 0 < len(command.verb) < 17
    assert command.argument is None or len(command.argument.encode()) < 64


@given(st.text(min_size=1, max_size=40).filter(lambda text: len(text.encode(errors="replace")) < 64))
def test_quoted_names_come_back(name: str) -> None:
    quoted = name.replace('"', '""')
    assert parse(f'KILL "{quoted}";').argument == name


def context(admin: bool) -> Any:
    return SimpleNamespace(admin=admin)


def test_rights() -> None:
    for name in CONTROLS:
        assert needs_admin(Command(name, "x", "y" if name == "SET" else None, ""))
    for name, show in SHOWS.items():
        command = Command("SHOW", name, "7" if isinstance(show, ShowOne) else None, "")
        assert not needs_admin(command)
        check(command, context(False))
        assert describe(command) == SHOWS[name].columns
    for text in ("show fds", "select FDS", "set pool_mode = session", "kill_client 1", "suspend"):
        with pytest.raises(CommandError, match="admin access needed"):
            check(parse(text), context(False))
    for text in ("set timezone = 'x'", "SET DateStyle TO iso", "show timezone", "show help"):
        check(parse(text), context(False))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("show client_state", "SHOW CLIENT_STATE needs the id of a client"),
        ("show pins 7", "invalid command 'show pins 7', use SHOW HELP;"),
        ("show timezone 7", "invalid command 'show timezone 7', use SHOW HELP;"),
        ("show help 7", "invalid command 'show help 7', use SHOW HELP;"),
        ("show nothing 7", "invalid command 'show nothing 7', use SHOW HELP;"),
    ],
)
def test_a_third_word(text: str, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        check(parse(text), context(True))
    assert caught.value.message == message


def test_clients_are_named_by_id_or_pointer() -> None:
    assert [client_number(text) for text in ("7", "007", "0x1f", "0X1F")] == [7, 7, 31, 31]
    for text in ("", "x", "0x", "1f", "-1", "+1", "1_0", "٣", "9" * 19, "0x" + "f" * 16):
        with pytest.raises(CommandError, match="invalid client pointer supplied"):
            client_number(text)


def test_the_help_names_every_command() -> None:
    text = help_text()
    assert "\tSHOW CLIENT_STATE id\n" in text
    assert "|CLIENT_STATE" not in text
    for name in SHOWS:
        assert name in text


def test_columns_are_known_before_the_command_runs() -> None:
    assert describe(parse("show help")) is None
    assert describe(parse("reload")) is None
    described = describe(parse("SHOW TimeZone"))
    assert described is not None
    assert [column.name for column in described] == ["timezone"]
