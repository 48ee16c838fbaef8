"""What a session holds is asked for, and set again, without a mistake: refusals, encodings, limits, odd names.

Witnesses are clients without state of their own, on the same server connection (pools of one).
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pgferry.embedded import Cluster
from support.answer_proxy import AnswerProxy
from support.clients import pid_of, raw
from support.pooler import Pooler
from support.wire import Wire, bind, execute, flush, last_words, parse, query, said, sync, types

Make = Callable[..., Pooler]
ONE: dict[str, Any] = {"default_pool_size": 1, "server_tls_sslmode": "disable"}


@pytest.fixture
def proxy(cluster: Cluster) -> Iterator[AnswerProxy]:
    with AnswerProxy(("127.0.0.1", cluster.port)) as found:
        yield found


@pytest.fixture
def one(cluster: Cluster, database: str, make_pooler: Make) -> Callable[..., Wire]:
    """Clients of a pool of one server; the first call starts it."""
    return clients_of(make_pooler(cluster, settings=ONE, workers=1), database)


@pytest.fixture
def behind(cluster: Cluster, proxy: AnswerProxy, database: str, make_pooler: Make) -> Callable[..., Wire]:
    """The same, with the proxy between pgferry and PostgreSQL."""
    line = f"host=127.0.0.1 port={proxy.port}"
    return clients_of(make_pooler(cluster, settings=ONE, workers=1, databases={"*": line}), database)


def clients_of(pooler: Pooler, database: str) -> Callable[..., Wire]:
    made: list[Wire] = []

    def login(user: str = "postgres", **more: str) -> Wire:
        made.append(raw(pooler, database, user, **more))
        return made[-1]

    return login


def setting(wire: Wire, name: str) -> bytes | None:
    return wire.rows(f"SELECT current_setting('{name}', true)")[0][0]


def shown(wire: Wire, name: str) -> str:
    """The value as the server has it, its bytes in hexadecimal digits."""
    sql = f"SELECT encode(convert_to(current_setting('{name}', true), getdatabaseencoding()), 'hex')"
    return (wire.rows(sql)[0][0] or b"").decode()


def failed(wire: Wire, sql: str) -> str:
    """The SQLSTATE of the error that a query ends with, "" for none."""
    return "".join(m.sqlstate for m in wire.query(sql) if m.type == "E")


# --- Errors belong to what failed -----------------------------------------------------------------------------


def test_a_failed_restore_is_not_forgotten(
    cluster: Cluster, proxy: AnswerProxy, behind: Callable[..., Wire]
) -> None:
    """Its error comes, then a message of the client's, which needs something; then ReadyForQuery."""
    cluster.sql("CREATE ROLE goes")
    other = behind(options="-c app.tenant=other")
    wire = behind()
    wire.query("PREPARE p AS SELECT 1")
    wire.query("SET ROLE goes")
    assert setting(other, "app.tenant") == b"other"
    cluster.sql("DROP ROLE goes")
    proxy.hold_after_error()
    wire.send(flush())
    assert proxy.held.wait(10)
    wire.send(query("EXECUTE p"))
    wire.silent(0.2)
    proxy.release()
    (words,) = said(last_words(wire))
    assert words[:2] == ("FATAL", "22023") and "session state could not be restored" in words[2]
    witness = behind()
    assert setting(witness, "app.tenant") in (None, b"")
    assert setting(other, "app.tenant") == b"other"


def test_a_failed_question_is_not_forgotten(proxy: AnswerProxy, behind: Callable[..., Wire]) -> None:
    """Its error comes, then a statement that needs something of pgferry's, then ReadyForQuery."""
    wire, other = behind(), behind()
    wire.query("PREPARE p AS SELECT 1")
    other.query("PREPARE p AS SELECT 2")
    proxy.fail(b"current_setting(n", "57014")
    wire.query("SET app.tenant = 'own'; SELECT 1")
    assert proxy.held.wait(10)
    wire.send(query("EXECUTE p"))
    wire.silent(0.2)
    proxy.release()
    assert [m.row for m in wire.until() if m.type == "D"] == [[b"1"]]
    assert setting(other, "app.tenant") in (None, b"")
    assert setting(wire, "app.tenant") == b"own"


def test_the_error_of_what_was_to_be_brought_is_that_of_its_statement(
    cluster: Cluster, behind: Callable[..., Wire], database: str
) -> None:
    """Two statements cannot be prepared again, and their EXECUTEs come in one write."""
    cluster.sql("CREATE TABLE t (a int); CREATE TABLE u (a int)", database)
    wire, other = behind(), behind()
    wire.query("PREPARE x AS SELECT * FROM t")
    wire.query("PREPARE y AS SELECT * FROM u")
    other.query("PREPARE x AS SELECT 3")
    other.query("EXECUTE x")
    cluster.sql("DROP TABLE t; DROP TABLE u", database)
    wire.send(query("EXECUTE y"), query("EXECUTE x"))
    answers = wire.until(count=2)
    assert [m.text for m in answers if m.type == "E"] == [
        'relation "u" does not exist',
        'relation "t" does not exist',
    ]


@pytest.mark.parametrize("extended", [False, True])
def test_each_refused_statement_has_its_own_error(
    cluster: Cluster, make_pooler: Make, database: str, extended: bool
) -> None:
    """Three statements in one write, two of them refused for different reasons."""
    pooler = make_pooler(cluster, settings={**ONE, "session_state": "refuse"}, workers=1)
    wire = raw(pooler, database)
    texts = ["SET work_mem = '1MB'", "SELECT 1", "LISTEN somewhere"]
    if extended:
        wire.send(*[parse(text) + bind() + execute() + sync() for text in texts])
    else:
        wire.send(*[query(text) for text in texts])
    answers = wire.until(count=3)
    first, second = (m.text for m in answers if m.type == "E")
    assert first.startswith("SET") and second.startswith("LISTEN"), (first, second)
    assert sum(m.type == "D" for m in answers) == 1


def test_a_refused_statement_that_is_skipped_leaves_the_next_its_error(
    cluster: Cluster, make_pooler: Make, database: str
) -> None:
    pooler = make_pooler(cluster, settings={**ONE, "session_state": "refuse"}, workers=1)
    wire = raw(pooler, database)
    wire.send(parse("nonsense"), parse("SET work_mem = '1MB'", "a"), sync(), parse("LISTEN x"), sync())
    first, second = (m.text for m in wire.until(count=2) if m.type == "E")
    assert "syntax error" in first and second.startswith("LISTEN")


def test_deallocate_behind_a_query_that_fails(one: Callable[..., Wire]) -> None:
    """Sent in one write: the second one's DEALLOCATE counts, for the client and for the server."""
    wire, other = one(), one()
    wire.send(parse("SELECT 7", "a"), sync())
    wire.until()
    wire.send(query("SELECT 1; SELECT 1/0; DEALLOCATE a"), query("SELECT 2; DEALLOCATE a"))
    assert types(wire.until(count=2)).count("E") == 1
    other.send(parse("SELECT 7", "b"), bind([], "b"), execute(), sync())
    assert types(other.until()) == "12DCZ"
    wire.send(bind([], "a"), sync())
    assert said(wire.until())[0][1] == "26000"


def test_deallocate_prepared_and_executed_later(one: Callable[..., Wire]) -> None:
    wire, other = one(), one()
    wire.send(parse("SELECT 8", "a"), sync())
    wire.until()
    wire.send(parse("DEALLOCATE a", "d"), sync())
    assert types(wire.until()) == "1Z"
    wire.send(bind([], "a"), execute(), sync())
    assert types(wire.until()) == "2DCZ"
    wire.send(bind([], "d"), execute(), sync())
    assert types(wire.until()) == "2CZ"
    other.send(parse("SELECT 8", "b"), bind([], "b"), execute(), sync())
    assert types(other.until()) == "12DCZ"
    wire.send(bind([], "a"), sync())
    assert said(wire.until())[0][1] == "26000"


# --- Encodings ------------------------------------------------------------------------------------------------

# Characters with 0x5C as the second byte, or nothing but bytes above it, and a quote behind.
ENCODED = {
    "SJIS": "\u8868\u30bd'n\\",
    "BIG5": "\u529f\u8a31'n\\",
    "GBK": "\u8a89\u7b5d'n\\",
    "GB18030": "\u8a89\u20ac'n\\",
    "UHC": "\uac02\uac00'n\\",
    "JOHAB": "\uac38\uac39'n\\",
    "LATIN1": "\u00e9\u00ff'n\\",
    "WIN1251": "\u0439\u0451'n\\",
    "UTF8": "\u0416\u6f22\U0001f600'n\\",
}
CODECS = {"SJIS": "cp932", "UHC": "cp949", "WIN1251": "cp1251"}


def test_values_in_every_encoding(one: Callable[..., Wire]) -> None:
    """set_config() with a parameter, as drivers do it; the server is another client's meanwhile."""
    witness = one()
    witness.query("SET backslash_quote = on")
    clients = [(one(client_encoding=encoding), encoding) for encoding in ENCODED]
    for wire, encoding in clients:
        data = ENCODED[encoding].encode(CODECS.get(encoding, encoding))
        wire.send(parse("SELECT set_config('app.x', $1, false)"), bind([data]), execute(), sync())
        assert not said(wire.until()), encoding
    for _ in range(2):
        for wire, encoding in clients:
            data = ENCODED[encoding].encode(CODECS.get(encoding, encoding))
            assert setting(witness, "app.x") in (None, b"")
            assert setting(wire, "app.x") == data, encoding
            assert shown(wire, "app.x") == ENCODED[encoding].encode().hex(), encoding


def test_a_value_is_not_sql(one: Callable[..., Wire]) -> None:
    wire, witness = one(client_encoding="SJIS"), one()
    wire.query("SET backslash_quote = on")
    data = b"\x83\x5c'; commit; set search_path = evil; create table evil(); --"
    wire.send(parse("SELECT set_config('app.x', $1, false)"), bind([data]), execute(), sync())
    assert not said(wire.until())
    assert setting(witness, "app.x") in (None, b"")
    assert setting(wire, "app.x") == data
    assert setting(wire, "search_path") == b'"$user", public'
    assert witness.rows("SELECT count(*) FROM pg_class WHERE relname = 'evil'") == [[b"0"]]


def test_the_same_bytes_in_two_encodings_are_two_values(one: Callable[..., Wire]) -> None:
    latin, cyrillic = one(client_encoding="LATIN1"), one(client_encoding="WIN1251")
    for wire in (latin, cyrillic):
        wire.send(query(b"SET app.x = '\xe9'"))
        wire.until()
    for _ in range(2):
        assert shown(latin, "app.x") == "\u00e9".encode().hex()
        assert shown(cyrillic, "app.x") == "\u0439".encode().hex()


def test_a_value_that_the_client_cannot_read(one: Callable[..., Wire]) -> None:
    """The question has to work all the same."""
    wire, witness = one(client_encoding="LATIN1"), one()
    assert not failed(wire, "SELECT set_config('app.x', chr(1055), false) IS NULL")
    assert shown(wire, "app.x") == "\u041f".encode().hex()
    assert setting(witness, "app.x") in (None, b"")
    assert shown(wire, "app.x") == "\u041f".encode().hex()


def test_names_that_are_not_ascii(cluster: Cluster, one: Callable[..., Wire]) -> None:
    """Roles, prepared statements and their texts, from a client in another encoding than the database."""
    role = "\u00e9l\u00e8ve"
    cluster.sql(f'CREATE ROLE "{role}"')
    wire, witness = one(client_encoding="LATIN1"), one()
    for text in (f'SET ROLE "{role}"', "PREPARE p AS SELECT '\u00e9' AS \"\u00e8\""):
        wire.send(query(text.encode("latin-1")))
        assert not said(wire.until()), text
    for _ in range(2):
        assert witness.rows("SELECT current_user") == [[b"postgres"]]
        assert failed(witness, "EXECUTE p") == "26000"
        assert wire.rows("SELECT current_user") == [[role.encode("latin-1")]]
        assert wire.rows("EXECUTE p") == [[b"\xe9"]]
    wire.query("RESET ROLE")
    cluster.sql(f'DROP ROLE "{role}"')


def test_the_name_of_a_prepared_statement_that_is_not_ascii_pins(one: Callable[..., Wire]) -> None:
    wire = one(client_encoding="LATIN1")
    wire.send(query(b'PREPARE "\xe9" AS SELECT 1'))
    wire.until()
    pid = pid_of(wire)
    wire.send(query(b'EXECUTE "\xe9"'))
    assert not said(wire.until())
    assert pid_of(wire) == pid
    wire.send(query(b'DEALLOCATE "\xe9"'))
    wire.until()
    assert pid_of(one()) == pid


def test_tracked_parameters_that_are_not_ascii(one: Callable[..., Wire]) -> None:
    """application_name in the startup packet, and search_path, which PostgreSQL 18 reports in the client's encoding."""
    named = one(application_name="caf\u00e9")
    assert set(setting(named, "application_name") or b"") <= set(b"caf?\\x39a")
    latin, cyrillic, witness = one(client_encoding="LATIN1"), one(client_encoding="WIN1251"), one()
    for wire in (latin, cyrillic):
        wire.send(query(b'SET search_path = "\xe9", "a\\b"'))
        assert not said(wire.until())
    for _ in range(2):
        assert setting(latin, "search_path") == b'"\xe9", "a\\b"'
        assert setting(cyrillic, "search_path") == b'"\xe9", "a\\b"'
        assert shown(latin, "search_path")[2:6] == "\u00e9".encode().hex()
        assert shown(cyrillic, "search_path")[2:6] == "\u0439".encode().hex()
        assert setting(witness, "search_path") == b'"$user", public'


# --- Whatever the client has set ------------------------------------------------------------------------------

HOSTILE = [
    "SET standard_conforming_strings = off",
    "SET backslash_quote = on",
    "SET quote_all_identifiers = on",
    "SET search_path = evil, pg_temp",
    "SET DateStyle = 'SQL, DMY'",
    "SET client_encoding = 'SJIS'",
    "SET row_security = off",
    "SET default_transaction_isolation = 'serializable'",
    "SET default_transaction_read_only = on",
    "SET default_transaction_deferrable = on",
    "SET bytea_output = 'escape'",
    "SET xmloption = 'document'",
    "SET transform_null_equals = on",
    "SET escape_string_warning = on",
    "SET statement_timeout = 1",
    "SET lock_timeout = 1",
    "SET idle_in_transaction_session_timeout = 1",
]


def test_no_setting_breaks_what_pgferry_asks_and_sets(
    cluster: Cluster, database: str, one: Callable[..., Wire]
) -> None:
    """All at once: the questions, the restores of this client, and those of the next one."""
    cluster.sql(
        "CREATE SCHEMA evil; CREATE FUNCTION evil.current_setting(text, boolean) RETURNS text LANGUAGE sql AS"
        " $$SELECT 'evil'$$; CREATE FUNCTION evil.set_config(text, text, boolean) RETURNS text LANGUAGE sql"
        " AS $$SELECT 'evil'$$; CREATE FUNCTION evil.convert_from(bytea, name) RETURNS text LANGUAGE sql AS"
        " $$SELECT 'evil'$$; CREATE FUNCTION evil.getdatabaseencoding() RETURNS name LANGUAGE sql AS"
        " $$SELECT 'LATIN1'::name$$",
        database,
    )
    wire, witness = one(), one()
    for sql in HOSTILE:
        wire.query(sql)
    value = "it's \\ \u00e9"
    assert (
        soon(wire, "SELECT pg_catalog.set_config('app.x', 'it''s \\\\ ' || chr(233), false) IS NULL") == b"f"
    )
    for _ in range(3):
        assert setting(witness, "app.x") in (None, b"")
        assert setting(witness, "statement_timeout") == b"0"
        sql = "SELECT pg_catalog.encode(pg_catalog.convert_to(pg_catalog.current_setting('app.x'), 'UTF8'), 'hex')"
        assert soon(wire, sql) == value.encode().hex().encode()


def soon(wire: Wire, sql: str) -> bytes | None:
    """The value, asked for again while the client's own time limit cuts it short."""
    for _ in range(50):
        answer = wire.query(sql)
        if not said(answer):
            return next(m.row for m in answer if m.type == "D")[0]
        assert said(answer)[0][1] == "57014"
    raise AssertionError("never in time")


def test_a_question_under_a_short_time_limit(one: Callable[..., Wire]) -> None:
    """Everything is asked for, under a limit that the client sets in the same statement."""
    wire, witness = one(), one()
    for _ in range(5):
        wire.query("DO $$BEGIN SET app.x = 'own'; SET statement_timeout = 1; END$$")
        assert soon(wire, "SELECT current_setting('app.x')") == b"own"
        assert setting(witness, "statement_timeout") == b"0"
        assert soon(wire, "SELECT current_setting('statement_timeout')") == b"1ms"


def test_a_question_that_is_cut_short_is_asked_with_limits_set_aside(
    proxy: AnswerProxy, behind: Callable[..., Wire]
) -> None:
    wire, witness = behind(), behind()
    proxy.fail(b"current_setting(n", "57014")
    proxy.release()
    wire.query("SET statement_timeout = '20s'; SET app.x = 'own'; SET work_mem = '1MB'")
    assert setting(witness, "work_mem") != b"1MB"
    assert any(b"SET LOCAL statement_timeout=0" in text for text in proxy.queries)
    assert setting(witness, "statement_timeout") == b"0"
    assert setting(wire, "statement_timeout") == b"20s"
    assert setting(wire, "work_mem") == b"1MB"
    assert setting(wire, "app.x") == b"own"


@pytest.mark.pg(14, 15, 16, 17, 18)
def test_idle_session_timeout_is_not_in_force_while_the_server_waits(
    proxy: AnswerProxy, behind: Callable[..., Wire]
) -> None:
    wire, witness = behind(), behind()
    wire.query("SET idle_session_timeout = '1h'")
    assert setting(wire, "idle_session_timeout") == b"1h"
    assert setting(witness, "idle_session_timeout") == b"0"
    assert [text for text in proxy.queries if text.startswith(b'RESET "idle_session_timeout"')]
    assert setting(wire, "idle_session_timeout") == b"1h"


def test_short_time_limits_do_not_wait_for_the_next_client(
    proxy: AnswerProxy, behind: Callable[..., Wire]
) -> None:
    """Ordinary ones cost nothing."""
    wire = behind()
    wire.query("SET statement_timeout = '30s'")
    assert setting(wire, "statement_timeout") == b"30s"
    assert not [text for text in proxy.queries if text.startswith(b"RESET")]
    wire.query("SET statement_timeout = '20ms'")
    pid_of(wire)
    witness = behind()
    assert setting(witness, "statement_timeout") == b"0"
    assert [text for text in proxy.queries if text.startswith(b'RESET "statement_timeout"')]


# --- Restores that PostgreSQL refuses -------------------------------------------------------------------------


def test_a_restore_that_one_server_refuses_is_tried_on_another(one: Callable[..., Wire]) -> None:
    """temp_buffers cannot be changed any more where temporary tables have been used."""
    wire, other = one(), one()
    wire.query("SET temp_buffers = 200")
    other.query("CREATE TEMP TABLE t (a int) ON COMMIT DROP")
    other.query("BEGIN; CREATE TEMP TABLE t (a int); INSERT INTO t VALUES (1); DROP TABLE t; COMMIT")
    before = pid_of(other)
    assert setting(wire, "temp_buffers") == b"1600kB"
    assert pid_of(other) != before


def test_settings_that_exclude_each_other(one: Callable[..., Wire]) -> None:
    wire, other, witness = one(), one(), one()
    wire.query("SET log_statement_stats = off")
    wire.query("SET log_parser_stats = on")
    wire.query("SET log_planner_stats = on")
    other.query("SET log_statement_stats = on")
    for _ in range(2):
        assert setting(other, "log_statement_stats") == b"on"
        assert setting(wire, "log_parser_stats") == b"on"
        assert setting(wire, "log_planner_stats") == b"on"
        assert setting(witness, "log_parser_stats") == b"off"


def test_a_setting_of_a_superuser_beside_a_role(cluster: Cluster, one: Callable[..., Wire]) -> None:
    """Both clients have the same role, which must not set it."""
    cluster.sql("CREATE ROLE plain")
    wire, other = one(), one()
    wire.query("SET log_statement = 'all'")
    wire.query("SET ROLE plain")
    other.query("SET ROLE plain")
    for _ in range(2):
        assert setting(other, "log_statement") == b"none"
        assert setting(wire, "log_statement") == b"all"
        assert wire.rows("SELECT current_user") == [[b"plain"]]
    for each in (wire, other):
        each.query("RESET ROLE")
    cluster.sql("DROP ROLE plain")


@pytest.mark.parametrize("name", ["a" * 50 + "." + "b" * 50, "app." + "c" * 70])
def test_long_names_of_settings(one: Callable[..., Wire], name: str) -> None:
    wire, witness = one(), one()
    wire.rows(f"SELECT set_config('{name}', 'own', false)")
    for _ in range(2):
        assert setting(witness, name) in (None, b"")
        assert setting(wire, name) == b"own"


def test_a_restore_waits_for_nothing_of_the_client(proxy: AnswerProxy, behind: Callable[..., Wire]) -> None:
    """It is cut short before anything of the client's was sent: another server serves it."""
    wire, other = behind(), behind()
    wire.query("SET app.x = 'own'")
    other.query("SET app.x = 'other'")
    proxy.fail(b"'own'", "57014")
    wire.send(flush())
    assert proxy.held.wait(10)
    proxy.release()
    assert proxy.ended.wait(10)
    wire.send(query("SELECT current_setting('app.x')"))
    assert [m.row for m in wire.until() if m.type == "D"] == [[b"own"]]
    assert setting(other, "app.x") == b"other"


@pytest.mark.parametrize("encoding", ["EUC_JP", "LATIN1", "SQL_ASCII"])
def test_databases_in_other_encodings(
    cluster: Cluster, make_pooler: Make, database: str, encoding: str
) -> None:
    cluster.sql(
        f"CREATE DATABASE {database}_x ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    value = "\u8868\u30bd'" if encoding == "EUC_JP" else "\u00e9\u00ff'"
    pooler = make_pooler(cluster, settings=ONE, workers=1)
    wire, witness = (raw(pooler, f"{database}_x", client_encoding="UTF8") for _ in range(2))
    wire.send(parse("SELECT set_config('app.x', $1, false)"), bind([value]), execute(), sync())
    assert not said(wire.until())
    wire.query(f"PREPARE p AS SELECT '{value.rstrip(chr(39))}'")
    for _ in range(2):
        assert setting(witness, "app.x") in (None, b"")
        assert failed(witness, "EXECUTE p") == "26000"
        assert setting(wire, "app.x") == value.encode()
        assert wire.rows("EXECUTE p") == [[value.rstrip("'").encode()]]
    for each in (wire, witness):
        each.close()
    pooler.admin("KILL")
    cluster.sql(f"DROP DATABASE {database}_x WITH (FORCE)")


def test_a_time_limit_that_strikes_while_it_is_taken_off(
    proxy: AnswerProxy, behind: Callable[..., Wire]
) -> None:
    """It is taken off all the same, and the server stays."""
    wire, witness = behind(), behind()
    wire.query("SET statement_timeout = '200ms'")
    pid = pid_of(witness)
    proxy.fail(b'RESET "statement_timeout"', "57014")
    proxy.release()
    pid_of(wire)
    assert setting(witness, "statement_timeout") == b"0"
    assert pid_of(witness) == pid
    assert sum(text.startswith(b'RESET "statement_timeout"') for text in proxy.queries) >= 2


def test_deallocate_and_the_name_given_anew_in_one_batch(one: Callable[..., Wire]) -> None:
    wire, other = one(), one()
    for text in ("SELECT 9", "SELECT 10"):
        wire.send(parse("SELECT 9", "a"), sync())
        wire.until()
        wire.send(
            parse("DEALLOCATE a"), bind(), execute(), parse(text, "a"), bind([], "a"), execute(), sync()
        )
        answer = wire.until()
        assert types(answer) == "12C12DCZ"
        assert [m.row for m in answer if m.type == "D"] == [[text[7:].encode()]]
        wire.send(bind([], "a"), execute(), sync())
        assert types(wire.until()) == "2DCZ"
        other.send(parse("SELECT 9"), bind(), execute(), parse("SELECT 9", "b"), sync())
        assert types(other.until()) == "12DC1Z"
        other.query("DEALLOCATE b")
        wire.query("DEALLOCATE a")
