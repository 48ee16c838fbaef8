"""The syntax of the file: comments, quoting, sections, includes, and what is said about mistakes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgferry.config import ConfigError, load
from pgferry.config.connstr import ConnstrError, parse_pairs
from pgferry.config.ini import IniReader
from unit.config.config_files import Loader


def test_comments_blanks_and_indentation(ini: Loader) -> None:
    config = ini.load(
        "; comment\n# comment\n\n  [pgbouncer]\r\n\t max_client_conn\t=\t 7  \r\n   ; indented\n"
        "auth_file={users}\nserver_reset_query = SELECT 1; SELECT 2 # kept\n"
    )
    assert config.settings.max_client_conn == 7
    assert config.settings.server_reset_query == "SELECT 1; SELECT 2 # kept"


def test_a_comment_behind_a_value_is_an_invalid_value(ini: Loader) -> None:
    problem = ini.problem("[pgbouncer]\nmax_client_conn = 10 ; ten\n")
    assert (problem.line, problem.setting) == (2, "max_client_conn")
    assert "comment must stand on a line of its own" in problem.message


def test_the_order_of_sections_does_not_matter(ini: Loader) -> None:
    config = ini.load("[users]\nbob = pool_size=3\n[databases]\nx =\n[pgbouncer]\nauth_file = {users}\n")
    assert config.users["bob"].pool_size == 3
    assert config.databases["x"].dbname == "x"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("shop = host=h", "shop"),
        ("a.b-c_1* = host=h", "a.b-c_1*"),
        ("'größe 1' = host=h", "größe 1"),
        ("'it''s' = host=h", "it's"),
        ('"My ""db"" = x" = host=h', 'My "db" = x'),
        ("shop=host=h", "shop"),
    ],
)
def test_names(ini: Loader, line: str, name: str) -> None:
    assert list(ini.main("[databases]", line).databases) == [name]


@pytest.mark.parametrize(
    "line", ["größe = host=h", "'open = host=h", "a b = x", "shop", "= x", "[databases", "%include"]
)
def test_lines_that_are_no_setting(ini: Loader, line: str) -> None:
    problem = ini.problem(f"[pgbouncer]\nauth_file = {{users}}\n[databases]\n{line}\n")
    assert (problem.file, problem.line) == (str(ini.path), 4)
    assert problem.expected


def test_settings_are_case_sensitive_and_suggested(ini: Loader) -> None:
    problem = ini.problem("[pgbouncer]\nMax_Client_Conn = 5\n")
    assert str(problem) == (
        f"{ini.path}:2: Max_Client_Conn: unknown parameter (did you mean max_client_conn?)"
    )


def test_unknown_section_is_one_problem(ini: Loader) -> None:
    problem = ini.problem("[pgbouncer]\n[database]\nshop = host=h\nother = host=h\n")
    assert (problem.line, problem.setting, problem.nearest) == (2, "[database]", "[databases]")


def test_setting_before_any_section(ini: Loader) -> None:
    problem = ini.problem("max_client_conn = 5\n[pgbouncer]\n")
    assert "before the first section" in problem.message


def test_missing_main_section(ini: Loader) -> None:
    assert "[pgbouncer] is missing" in ini.problem("[databases]\n").message


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(str(tmp_path / "none.ini"))
    (problem,) = caught.value.problems
    assert str(problem) == f"{tmp_path}/none.ini: cannot read: No such file or directory"


def test_bytes_that_are_no_text(ini: Loader) -> None:
    ini.path.write_bytes(b"[pgbouncer]\n\nauth_type = \xff\n")
    with pytest.raises(ConfigError) as caught:
        load(str(ini.path))
    (problem,) = caught.value.problems
    assert (problem.line, problem.message) == (3, "the line is not valid UTF-8")
    assert "zero byte" in ini.problem("[pgbouncer]\nlogfile = a\0b\n").message


def test_byte_order_mark_is_skipped(ini: Loader) -> None:
    ini.path.write_bytes(b"\xef\xbb\xbf[pgbouncer]\nmax_client_conn = 3\n")
    assert load(str(ini.path)).settings.max_client_conn == 3


def test_all_problems_are_reported_in_order(ini: Loader) -> None:
    problems = ini.problems(
        "[pgbouncer]\nmax_client_conn = many\nbogus line\npool_mod = session\nlog_stats = yes\n"
        "[databases]\nshop = port=0\n[users]\nbob = pool_mode=fast\n"
    )
    assert [problem.line for problem in problems] == [2, 3, 4, 5, 7, 9]
    assert [problem.setting for problem in problems] == [
        "max_client_conn", "", "pool_mod", "log_stats", "databases.shop.port", "users.bob.pool_mode",
    ]  # fmt: skip
    assert [problem.nearest for problem in problems] == ["", "", "pool_mode", "1", "", ""]


def test_a_key_in_the_wrong_section_is_explained(ini: Loader) -> None:
    problem = ini.problem("[pgbouncer]\npool_size = 5\n")
    assert "[databases]" in problem.message
    assert "Windows" in ini.problem("[pgbouncer]\nservice_name = x\n").message


def test_a_second_main_section_drops_the_first_and_says_so(ini: Loader) -> None:
    config = ini.load(
        "[pgbouncer]\nauth_file={users}\nmax_client_conn=5\n[databases]\n[pgbouncer]\nlog_stats=0\n"
    )
    assert config.settings.max_client_conn == 100
    assert config.settings.auth_file == str(ini.users)
    assert not config.settings.log_stats
    (warning,) = config.warnings
    assert warning.line == 5
    assert "max_client_conn" in warning.message


def test_repeated_keys_warn_and_the_last_counts(ini: Loader) -> None:
    config = ini.main("max_client_conn=5", "max_client_conn=6", "[databases]", "a = port=1", "a = port=2")
    assert config.settings.max_client_conn == 6
    assert config.databases["a"].port == 2
    assert [(warning.line, warning.setting) for warning in config.warnings] == [
        (4, "max_client_conn"),
        (7, "databases.a"),
    ]


def test_include_carries_the_section_in_and_out(in_directory: Callable[[str, str], Path]) -> None:
    path = in_directory("main.ini", "[pgbouncer]\n%include conf.d/a.ini\nb = host=h\n")
    path.parent.joinpath("conf.d").mkdir()
    in_directory("conf.d/a.ini", "max_client_conn = 9\nauth_type = any\n[databases]\na = host=h\n")
    config = load("main.ini")
    assert config.settings.max_client_conn == 9
    assert list(config.databases) == ["a", "b"]


def test_include_is_relative_to_the_working_directory(in_directory: Callable[[str, str], Path]) -> None:
    main = in_directory("main.ini", "[pgbouncer]\n%include\textra.ini\n")
    in_directory("extra.ini", "max_client_conn = x\n")
    with pytest.raises(ConfigError) as caught:
        load(str(main))
    assert [(p.file, p.line, p.setting) for p in caught.value.problems] == [
        ("extra.ini", 1, "max_client_conn")
    ]


def test_missing_include_names_the_line(in_directory: Callable[[str, str], Path]) -> None:
    in_directory("main.ini", "[pgbouncer]\n\n%include none.ini\n")
    with pytest.raises(ConfigError) as caught:
        load("main.ini")
    (problem,) = caught.value.problems
    assert str(problem) == "main.ini:3: %include: cannot read none.ini: No such file or directory"


def test_include_depth(in_directory: Callable[[str, str], Path]) -> None:
    in_directory("0.ini", "[pgbouncer]\nauth_type = any\n%include 1.ini\n")
    for level in range(1, 10):
        in_directory(f"{level}.ini", f"%include {level + 1}.ini\n")
    in_directory("10.ini", "max_client_conn = 3\n")
    assert load("0.ini").settings.max_client_conn == 3
    in_directory("10.ini", "%include 0.ini\n")
    with pytest.raises(ConfigError, match="more than 10 levels deep"):
        load("0.ini")


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("", []),
        ("a=1 b=2", [("a", "1"), ("b", "2")]),
        ("  a = 1   b =2 ", [("a", "1"), ("b", "2")]),
        ("a='x y' b='it''s'", [("a", "x y"), ("b", "it's")]),
        ("a=b=c", [("a", "b=c")]),
        ("q='SELECT ''x'' -- =;#'", [("q", "SELECT 'x' -- =;#")]),
        ("a=x'y", [("a", "x'y")]),
        ("a='x\ty'", [("a", "x\ty")]),
    ],
)
def test_connection_strings(text: str, pairs: list[tuple[str, str]]) -> None:
    assert parse_pairs(text) == pairs


@pytest.mark.parametrize(
    "text", ["a", "a=", "a=''", "=b", "a='x", "a='x'b=1", "a=1\tb=2", "'a'=1", "a=1 b", "a=1 ="]
)
def test_broken_connection_strings(text: str) -> None:
    with pytest.raises(ConnstrError):
        parse_pairs(text)


VALUES = st.text(
    st.characters(exclude_characters="\0\n\r", exclude_categories=["Cs"]), min_size=1, max_size=20
)


@given(st.lists(st.tuples(st.from_regex(r"[a-z_]{1,10}", fullmatch=True), VALUES), max_size=5))
def test_quoted_pairs_survive(pairs: list[tuple[str, str]]) -> None:
    text = " ".join("{}='{}'".format(key, value.replace("'", "''")) for key, value in pairs)
    assert parse_pairs(text) == pairs


@given(st.text(max_size=60))
def test_any_connection_string_is_read_or_refused(text: str) -> None:
    try:
        assert all(key and value for key, value in parse_pairs(text))
    except ConnstrError as err:
        assert err.expected


@given(st.binary(max_size=200))
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "any.ini"
    path.write_bytes(data.replace(b"%include", b""))
    list(IniReader().read(str(path)))
