"""classify(): SET, RESET and set_config in every form."""

import pytest

from pgferry.session.classify import classify
from pgferry.session.verdict import HARMLESS, Touch, Verdict

SETTINGS = int(Touch.SETTINGS)
UNNAMED = int(Touch.SETTINGS | Touch.UNNAMED)
FOREVER = int(Touch.SETTINGS | Touch.FOREVER)


def classified(text: str) -> Verdict:
    verdict = classify(text.encode())
    assert verdict is not HARMLESS
    return verdict


@pytest.mark.parametrize(
    ("text", "names", "plain"),
    [
        ("SET search_path TO a, b", "search_path", "SET search_path TO a, b"),
        ("set Search_Path=a,\"B\" , 'c'", "search_path", "SET Search_Path TO a, \"B\", 'c'"),
        ("SET SESSION work_mem = 5000;", "work_mem", "SET work_mem TO 5000"),
        ("/* x */ SET a.b /* y */ = -5 -- z\n;", "a.b", "SET a.b TO -5"),
        ('SET "My.Setting" = 1', "my.setting", 'SET "My.Setting" TO 1'),
        ('SET a . "B" = 1', "a.b", 'SET a."B" TO 1'),
        ("SET session.user_id = 5", "session.user_id", "SET session.user_id TO 5"),
        ("SET local.x = on", "local.x", "SET local.x TO on"),
        ("SET timezone TO 'UTC'", "timezone", "SET timezone TO 'UTC'"),
        ("SET a.b = 'it''s'", "a.b", "SET a.b TO 'it''s'"),
        ("SET a.b = 'back\\slash'", "a.b", None),
        ("SET a.b = E'x'", "a.b", None),
        ("SET a.b = $$x$$", "a.b", None),
        ("SET a.b = 'ü'", "a.b", None),
        ("SET a.b = 1 2", "a.b", None),
        ("SET a.b = ", "a.b", None),
        ("SET a.b = 1,", "a.b", None),
        ("SET a.b = 1; SELECT 1", "a.b", None),
        ("SET a.b = 1; SET c.d = 2", "a.b c.d", None),
        ("SET a.b FROM CURRENT", "a.b", None),
        ("SET datestyle TO DMY", "datestyle", None),
        ("SET default_text_search_config TO english", "default_text_search_config", None),
        ("SET client_encoding TO latin1", "client_encoding", None),
        ("SET transaction_read_only = on", "transaction_read_only", None),
        ("SET role = alice", "role", None),
        ("SET ROLE alice", "role", None),
        ("SET SESSION ROLE NONE", "role", None),
        ("RESET ROLE", "role", None),
        ("SET session_authorization = alice", "session_authorization role", None),
        ("SET SESSION AUTHORIZATION alice", "session_authorization role", None),
        ("SET SESSION SESSION AUTHORIZATION DEFAULT", "session_authorization role", None),
        ("RESET SESSION AUTHORIZATION", "session_authorization role", None),
        ("SET TIME ZONE 'UTC'", "timezone", "SET timezone TO 'UTC'"),
        ("SET TIME ZONE utc", "timezone", None),
        ("SET SESSION TIME ZONE INTERVAL '1' HOUR", "timezone", None),
        ("SET NAMES 'utf8'", "client_encoding", None),
        ("SET SCHEMA 'x'", "search_path", None),
        ("SET XML OPTION CONTENT", "xmloption", None),
        ("SET sort_mem = 1000", "work_mem", "SET sort_mem TO 1000"),
        (
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "default_transaction_isolation default_transaction_read_only default_transaction_deferrable",
            None,
        ),
    ],
)
def test_named_settings(text: str, names: str, plain: str | None) -> None:
    verdict = classified(text)
    assert verdict.touch == SETTINGS
    assert verdict.names == tuple(names.encode().split())
    assert (verdict.plain[1].decode() if verdict.plain else None) == plain
    if verdict.plain:
        assert verdict.plain[0] == verdict.names[0]
    assert verdict.resets == ()


@pytest.mark.parametrize(
    ("text", "resets"),
    [
        ("RESET work_mem", "work_mem"),
        ('RESET "Work_Mem"', "work_mem"),
        ("RESET a.b", "a.b"),
        ("SET work_mem TO DEFAULT", "work_mem"),
        ("SET SESSION work_mem = DEFAULT", "work_mem"),
        ("SET TIME ZONE LOCAL", "timezone"),
        ("SET TIME ZONE DEFAULT", "timezone"),
        ("RESET TIME ZONE", "timezone"),
        ("SET NAMES", "client_encoding"),
        ("SET NAMES DEFAULT", "client_encoding"),
        ("RESET ROLE", ""),
        ("SET ROLE TO DEFAULT", ""),
        ("SET SESSION AUTHORIZATION DEFAULT", ""),
    ],
)
def test_resets(text: str, resets: str) -> None:
    verdict = classified(text)
    assert verdict.touch == SETTINGS
    assert verdict.resets == tuple(resets.encode().split())
    assert verdict.plain is None


@pytest.mark.parametrize("text", ["RESET ALL", "SET a.b = 1; RESET ALL"])
def test_reset_all(text: str) -> None:
    verdict = classified(text)
    assert (verdict.touch, verdict.names, verdict.resets) == (SETTINGS, None, None)
    assert verdict.hints == ((b"a.b",) if "a.b" in text else ())


@pytest.mark.parametrize(
    "text",
    [
        "SET TRANSACTION READ ONLY",
        "SET CONSTRAINTS ALL DEFERRED",
        "RESET TRANSACTION ISOLATION LEVEL",
        "UPDATE t SET search_path = 1",
        "SELECT 'SET a = 1' -- ; SET a = 1",
        "ALTER ROLE alice SET work_mem = 5",
        "ALTER DATABASE d SET search_path TO a",
        "SELECT set_config FROM t",
        "SELECT 'set_config(1, 2, 3)'",
        "SELECT \"SET_CONFIG\"('a.b', 'x', false)",
        "INSERT INTO t VALUES ('$$', \"set\", '; SET a = 1')",
    ],
)
def test_harmless(text: str) -> None:
    assert classify(text.encode()) is HARMLESS


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("SET LOCAL work_mem = 5", "work_mem"),
        ("SET LOCAL ROLE alice", "role"),
        ("SET LOCAL SESSION AUTHORIZATION alice", "session_authorization role"),
        ("SET LOCAL TIME ZONE 'UTC'", "timezone"),
        ("BEGIN; SET LOCAL a.b = 1; UPDATE t SET a = 1; COMMIT", "a.b"),
        ("SELECT set_config('a.b', 'x', true)", "a.b"),
        ("SELECT set_config($1, $2, true)", None),
        ("SELECT set_config('a.b', 'x', 'on')", "a.b"),
        ("SELECT set_config('a.b', 'x', true::boolean)", "a.b"),
        ("SELECT set_config('a.b', 'x', CAST(true AS bool))", "a.b"),
        ("SELECT pg_catalog.set_config($1::text, $2::text, TRUE), 1", None),
    ],
)
def test_settings_of_a_transaction_are_no_session_state(text: str, names: str | None) -> None:
    verdict = classified(text)
    assert (verdict.touch, verdict.ends, verdict.needs) == (Touch.LOCAL, 0, 0)
    assert verdict.names == (None if names is None else tuple(names.encode().split()))


def test_the_encoding_of_a_transaction_is_asked_for() -> None:
    verdict = classified("SET LOCAL client_encoding = 'SJIS'")
    assert (verdict.touch, verdict.names) == (Touch.SETTINGS | Touch.LOCAL, (b"client_encoding",))


def test_names_in_other_characters_than_ascii_are_unknown() -> None:
    verdict = classified('SET "\u00e9".x = 1')
    assert (verdict.touch, verdict.names) == (Touch.SETTINGS | Touch.UNNAMED, None)


@pytest.mark.parametrize(
    "text",
    ["SET SEED TO 0.5", "SET seed = 0.5", "SET LOCAL seed = 0.5", "SELECT set_config('seed', '0.5', true)"],
)
def test_the_seed_does_not_go_back(text: str) -> None:
    verdict = classified(text)
    assert (verdict.touch, verdict.names, verdict.plain) == (FOREVER, (b"seed",), None)


@pytest.mark.parametrize(
    ("text", "names", "params"),
    [
        ("SELECT set_config('A.b', 'x', false)", "a.b", ()),
        ("SELECT pg_catalog.set_config('a.b', 'x', $1)", "a.b", ()),
        ('SELECT "set_config"(\'a.b\', \'x\', null)', "a.b", ()),
        ("SELECT U&\"\\0073et_config\"('a.b', 'x', false)", "a.b", ()),
        ("SELECT set_config('a.b'::text, 'x', not true)", "a.b", ()),
        ("SELECT set_config(CAST('a.b' AS varchar), 'x', false)", "a.b", ()),
        ("SELECT set_config(E'a\\x2eb', 'x', false)", "a.b", ()),
        ("SELECT set_config($x$a.b$x$, 'x', false)", "a.b", ()),
        ("SELECT set_config('role', 'x', false)", "role", ()),
        ("SELECT set_config('session_authorization', 'x', false)", "session_authorization role", ()),
        ("SELECT set_config('a.b', 'x', false), set_config('c', '', true), set_config('d', '', false)", "a.b c d", ()),
        ("SELECT set_config($1, $2, false)", "", (1,)),
        ("SELECT set_config($3::text, $2, false), set_config('a.b', '', false)", "a.b", (3,)),
        ("SELECT set_config($2, $1, false), set_config($4, $3, false)", "", (2, 4)),
        ("SELECT set_limit(0.5)", "pg_trgm.similarity_threshold", ()),
    ],
)  # fmt: skip
def test_set_config(text: str, names: str, params: tuple[int, ...]) -> None:
    verdict = classified(text)
    assert (verdict.touch & ~Touch.LOCAL, verdict.names) == (SETTINGS, tuple(names.encode().split()))
    assert (verdict.params, verdict.plain) == (params, None)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT set_config(name, 'x', false) FROM t",
        "SELECT set_config('a.' || 'b', 'x', false)",
        "SELECT set_config($1 || 'b', 'x', false)",
        "SELECT set_config('a.b'::varchar(2), 'x', false)",
        "SELECT set_config('a\\b', 'x', false)",
        "SELECT set_config('a'\n'b', 'x', false)",
        "SELECT set_config(setting_name => 'a.b', new_value => 'x', is_local => false)",
        "SELECT set_config(VARIADIC ARRAY['a', 'b', 'c'])",
        "SELECT set_config('a.b', " + "(" * 100 + "'x'" + ")" * 100 + ", false)",
        "SELECT set_config('a.b'",
        "PREPARE p(text) AS SELECT set_config($1, 'x', false)",
        "UPDATE pg_settings SET setting = 'x'",
        "UPDATE pg_catalog.pg_settings s SET setting = 'x' WHERE name = 'y'",
        'WITH u AS (UPDATE ONLY "pg_catalog"."pg_settings" SET setting = 1) SELECT 1',
        "SET nonsense",
        "SET",
        "RESET",
    ],
)
def test_names_that_the_text_does_not_tell(text: str) -> None:
    verdict = classified(text)
    assert verdict.touch & ~Touch.PREPARED == UNNAMED
    assert verdict.names is None
    assert verdict.plain is None


def test_known_names_are_hints_where_others_are_unknown() -> None:
    verdict = classified("SELECT set_config('a.b', 'x', false), set_config(n, 'x', false) FROM t")
    assert (verdict.names, verdict.hints) == (None, (b"a.b",))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("SET search_path TO a", "SET search_path"),
        ("RESET Search_Path", "RESET search_path"),
        ("SET ROLE x", "SET ROLE"),
        ("SET TIME ZONE 'UTC'", "SET TIME ZONE"),
        ("SELECT set_config('a', 'b', false)", "set_config"),
        ("SET a = 1; SELECT pg_advisory_lock(1)", "pg_advisory_lock"),
    ],
)
def test_reasons(text: str, reason: str) -> None:
    assert classified(text).reason == reason
