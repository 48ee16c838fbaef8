"""The settings table: complete, in step with the structs, every kind read, printed and refused."""

from __future__ import annotations

import typing

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgferry.config import Database, Peer, Settings, User, format_value, settings_by_name, show_config_rows
from pgferry.config.kinds import (
    BOOL,
    ENTRY_SECONDS,
    TEXT_LIST,
    TIME,
    WORKERS,
    BadValue,
    Kind,
    entry_integer,
    enum,
    integer,
)
from pgferry.config.model import Config
from pgferry.config.settings import DATABASE, GLOBAL, PEER, USER, Setting

START_ONLY = {
    "http_listen",
    "otlp_endpoint",
    "otlp_interval",
    "workers", "pidfile", "user", "job_name", "listen_addr", "listen_port", "listen_backlog",
    "unix_socket_dir",
    "unix_socket_mode", "unix_socket_group", "so_reuseport", "pkt_buf", "track_extra_parameters",
    "disable_pqexec", "resolv_conf",
}  # fmt: skip
NULL_DEFAULTS = {
    "user", "conffile", "verbose", "auth_file", "auth_ident_file", "auth_user", "auth_dbname",
    "auth_ldap_options",
    "client_tls13_ciphers", "server_tls13_ciphers",
}  # fmt: skip
SAMPLES = {
    "integer": "7",
    "0 or 1": "1",
    "seconds": "2.5",
    "text": "x y",
    "list": "a,b",
    "whole seconds": "9",
}
FIELD_TYPES = {
    "integer": int,
    "0 or 1": bool,
    "seconds": float,
    "text": str,
    "list": tuple[str, ...],
    "keyword": str,
    "whole seconds": float,
}


def sample(setting: Setting) -> str:
    kind = setting.kind
    return kind.choices[-1] if kind.choices else SAMPLES[kind.name]


OWN = {
    "workers",
    "session_state",
    "scrub",
    "unknown_state",
    "harmless_functions",
    "drain_timeout",
    "max_pinned",
    "pin_timeout",
    "pin_log_threshold",
    "transaction_log_threshold",
    "statement_text_length",
    "http_listen",
    "metrics_path",
    "dashboard",
    "dashboard_trust",
    "otlp_endpoint",
    "otlp_interval",
    "client_tls_crl_file",
    "server_tls_crl_file",
    "server_tls_sslnegotiation",
}


def test_the_table_has_pgbouncers_hundred_settings_and_our_own() -> None:
    assert len([setting for setting in GLOBAL if not setting.own]) == 100
    assert {setting.name for setting in GLOBAL if setting.own} == OWN
    assert len(settings_by_name) == len(GLOBAL)
    assert (len(DATABASE), len(USER), len(PEER)) == (30, 12, 3)
    assert {setting.name for setting in DATABASE if setting.own} == {
        "session_state",
        "scrub",
        "unknown_state",
        "max_pinned",
        "pin_timeout",
        "transaction_log_threshold",
        "sslmode",
        "sslnegotiation",
    }
    assert {setting.name for setting in USER if setting.own} == {"session_state", "unknown_state"}
    assert {setting.name for setting in GLOBAL if not setting.reload} == START_ONLY
    assert {setting.name for setting in GLOBAL if setting.default is None} == NULL_DEFAULTS
    assert "service_name" not in settings_by_name


@pytest.mark.parametrize("setting", GLOBAL + DATABASE + USER + PEER, ids=lambda setting: setting.name)
def test_every_setting_is_described(setting: Setting) -> None:
    assert setting.text.endswith(".")
    assert not setting.pending_values or setting.pending_reason
    assert set(setting.pending_values) <= set(setting.kind.choices)


@pytest.mark.parametrize(
    ("struct", "table", "extra"),
    [
        (Settings, GLOBAL, set()),
        (Database, DATABASE, {"name"}),
        (User, USER, {"name", "secret"}),
        (Peer, PEER, {"id"}),
    ],
)
def test_structs_have_one_field_of_the_right_type_for_each_setting(
    struct: type[msgspec.Struct], table: tuple[Setting, ...], extra: set[str]
) -> None:
    assert set(struct.__struct_fields__) == {setting.attribute for setting in table} | extra
    types = typing.get_type_hints(struct)
    for setting in table:
        assert types[setting.attribute] in (
            FIELD_TYPES[setting.kind.name],
            FIELD_TYPES[setting.kind.name] | None,
            str if (setting.name, struct) == ("host", Peer) else None,
        ), setting.name


def test_defaults_of_the_struct_are_those_of_the_table() -> None:
    settings = Settings()
    for setting in GLOBAL:
        assert getattr(settings, setting.attribute) == setting.default_value()
        assert not setting.refusal(setting.default_value())
    assert settings.unix_socket_mode == 0o777
    assert settings.track_extra_parameters == ("IntervalStyle",)
    assert settings.verbose == 0


@pytest.mark.parametrize("setting", GLOBAL, ids=lambda setting: setting.name)
def test_values_survive_printing_and_reading(setting: Setting) -> None:
    for text in filter(None, (setting.default, sample(setting))):
        value = setting.kind.parse(text)
        shown = format_value(setting, value)
        assert shown is not None
        assert setting.kind.parse(shown) == value


@pytest.mark.parametrize(
    ("text", "number"),
    [("0x10", 16), ("0X1f", 31), ("010", 8), ("0", 0), ("12", 12), ("+7", 7), ("-5", -5), (" 3 ", 3)],
)
def test_integers_are_read_in_c_notation(text: str, number: int) -> None:
    assert integer(None).parse(text) == number


@pytest.mark.parametrize("text", ["", "1x", "08", "0x", "1 2", "1.5", "ten", "--1", "２", "2147483648"])
def test_other_integers_are_refused(text: str) -> None:
    with pytest.raises(BadValue):
        integer(None).parse(text)


@pytest.mark.parametrize("text", ["yes", "on", "true", "no", "2", "-1", "", "1 ; on"])
def test_on_off_settings_take_0_and_1_only(text: str) -> None:
    with pytest.raises(BadValue) as caught:
        BOOL.parse(text)
    assert caught.value.expected == "0 or 1"
    assert caught.value.nearest == {"yes": "1", "on": "1", "true": "1", "no": "0"}.get(text, "")


@pytest.mark.parametrize(
    ("text", "seconds"), [("1.5", 1.5), ("0", 0.0), (".5", 0.5), ("3600", 3600.0), ("2.", 2.0)]
)
def test_times_are_decimal_seconds(text: str, seconds: float) -> None:
    assert TIME.parse(text) == seconds


@pytest.mark.parametrize("text", ["-1", "1m", "1 s", "", "inf", "nan", "1e999", "0x10", "1,5"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(BadValue):
        TIME.parse(text)


def test_times_print_short() -> None:
    assert [TIME.show(value) for value in (3600.0, 1.5, 0.0, 0.25)] == ["3600", "1.5", "0", "0.25"]


def test_keywords_ignore_case_and_suggest() -> None:
    mode = enum("session", "transaction", "statement")
    assert mode.parse("Transaction") == "transaction"
    with pytest.raises(BadValue) as caught:
        mode.parse("transactoin")
    assert caught.value.nearest == "transaction"


def test_lists_drop_blanks_and_empty_items() -> None:
    assert TEXT_LIST.parse(" a , b,,c ") == ("a", "b", "c")
    assert TEXT_LIST.parse("") == ()


def test_workers_are_a_number_or_auto() -> None:
    assert WORKERS.parse("3") == 3
    auto = WORKERS.parse("auto")
    assert isinstance(auto, int)
    assert auto >= 1
    for text in ("0", "-1", "many", "257"):
        with pytest.raises(BadValue):
            WORKERS.parse(text)


def test_numbers_of_entries_are_read_as_atoi_does() -> None:
    assert entry_integer().parse("012") == 12
    assert entry_integer().parse("5x") == 5
    assert ENTRY_SECONDS.parse("1.5") == 1.0
    for text in ("x5", "", "99999999999"):
        with pytest.raises(BadValue):
            entry_integer().parse(text)


def test_long_or_odd_values_are_not_repeated_in_messages() -> None:
    for text in ("password=hunter2", "x" * 40, "a b"):
        with pytest.raises(BadValue) as caught:
            integer().parse(text)
        assert text not in caught.value.message


@given(st.integers(-(2**31), 2**31 - 1))
def test_any_number_survives(number: int) -> None:
    kind = integer(None)
    assert kind.parse(str(kind.parse(str(number)))) == number
    assert kind.parse(hex(number)) == number


@given(st.sampled_from([integer(), BOOL, TIME, WORKERS, ENTRY_SECONDS, enum("a", "b")]), st.text(max_size=30))
def test_any_text_is_read_or_refused(kind: Kind, text: str) -> None:
    try:
        value = kind.parse(text)
    except BadValue as err:
        assert err.expected
    else:
        assert kind.parse(kind.show(value)) == value or kind is TIME


def test_show_config_rows() -> None:
    rows = show_config_rows(Config(settings=Settings(listen_addr=("a", "b"), server_lifetime=1.5)))
    keys = [row[0] for row in rows]
    assert keys == sorted(settings_by_name)
    by_key = {row[0]: row[1:] for row in rows}
    assert by_key["unix_socket_mode"] == ("511", "0777", "no")
    assert by_key["server_lifetime"] == ("1.5", "3600", "yes")
    assert by_key["listen_addr"] == ("a,b", "", "no")
    assert by_key["auth_user"] == (None, None, "yes")
    assert by_key["verbose"] == ("0", None, "yes")
    assert by_key["log_stats"] == ("1", "1", "yes")
    assert by_key["server_check_query"] == ("<empty>", "<empty>", "yes")
    assert by_key["workers"] == ("1", "1", "no")
