"""classify(): all that is not a setting, statement by statement."""

import pytest

from pgferry.session.classify import classify
from pgferry.session.verdict import ANYTHING, DEFINES, HARMLESS, NEED_SHIFT, NOTIFIES, Need, Touch, Verdict
from pgferry.session.words import DDL, SELECT_INTO

P, S = int(Need.PREPARED), int(Need.SEQUENCES)


def classified(text: str, words: dict[bytes, int] | None = None) -> Verdict:
    verdict = classify(text.encode(), words or {})
    assert verdict is not HARMLESS
    return verdict


@pytest.mark.parametrize(
    ("text", "touch", "ends", "needs", "reason"),
    [
        ("PREPARE p AS SELECT 1", Touch.PREPARED, 0, P, "PREPARE"),
        ("PREPARE p AS SELECT pg_advisory_lock(1)", Touch.PREPARED | Touch.LOCKS, 0, P, "pg_advisory_lock"),
        ("EXECUTE p", 0, 0, P, "EXECUTE"),
        ("EXECUTE p(set_config('a', 'b', false))", Touch.SETTINGS, 0, P, "set_config"),
        ("EXPLAIN EXECUTE p", 0, 0, P, "EXECUTE"),
        ("DEALLOCATE p", Touch.PREPARED, Touch.PREPARED, P, "DEALLOCATE"),
        ("DEALLOCATE ALL", Touch.PREPARED, Touch.PREPARED, P, "DEALLOCATE"),
        ("SELECT * FROM pg_prepared_statement()", 0, 0, P, "pg_prepared_statement"),
        ("LISTEN a", Touch.LISTEN, 0, 0, "LISTEN"),
        ("UNLISTEN a", Touch.LISTEN, Touch.LISTEN, 0, "UNLISTEN"),
        ("UNLISTEN *", Touch.LISTEN, Touch.LISTEN, 0, "UNLISTEN"),
        ("LOAD 'auto_explain'", Touch.FOREVER, 0, 0, "LOAD"),
        ("CREATE TEMP TABLE t (a int)", Touch.TEMP, 0, 0, "temporary table"),
        ("CREATE LOCAL TEMPORARY TABLE t (a int)", Touch.TEMP, 0, 0, "temporary table"),
        ("CREATE OR REPLACE TEMP VIEW v AS SELECT 1", Touch.TEMP, 0, 0, "temporary view"),
        ("CREATE TABLE t (a int)", Touch.TEMP, 0, 0, "CREATE TABLE"),
        ("CREATE FUNCTION f() RETURNS int AS 'x' LANGUAGE sql", Touch.TEMP, 0, 0, "CREATE FUNCTION"),
        ("CREATE EXTENSION hstore", Touch.SETTINGS | Touch.TEMP, 0, 0, "CREATE EXTENSION"),
        ("SELECT 1 INTO TEMP t", Touch.TEMP, 0, 0, "temporary table"),
        ("SELECT 1 INTO t", Touch.TEMP, 0, 0, "SELECT INTO"),
        ("WITH a AS (SELECT 1) SELECT * INTO t FROM a", Touch.TEMP, 0, 0, "SELECT INTO"),
        ("SELECT 1 insert INTO t", Touch.TEMP, 0, 0, "SELECT INTO"),
        ("WITH a AS (SELECT 1) SELECT f(1) merge INTO t", Touch.TEMP, 0, 0, "SELECT INTO"),
        ("SELECT pg_temp.f()", Touch.TEMP, 0, 0, "temporary schema"),
        ("EXPLAIN ANALYZE CREATE TEMP TABLE t AS SELECT 1", Touch.TEMP, 0, 0, "temporary table"),
        ("DROP TABLE t", 0, Touch.TEMP, 0, "DROP"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", Touch.CURSORS, 0, 0, "cursor WITH HOLD"),
        ("CLOSE c", 0, Touch.CURSORS, 0, "CLOSE"),
        ("CLOSE ALL", 0, Touch.CURSORS, 0, "CLOSE"),
        ("SELECT pg_advisory_lock(1)", Touch.LOCKS, 0, 0, "pg_advisory_lock"),
        ("SELECT pg_catalog.pg_try_advisory_lock_shared(1, 2)", Touch.LOCKS, 0, 0, "pg_try_advisory_lock_shared"),
        ("SELECT pg_advisory_unlock(1)", 0, Touch.LOCKS, 0, "pg_advisory_unlock"),
        ("SELECT pg_advisory_unlock_all()", 0, Touch.LOCKS, 0, "pg_advisory_unlock_all"),
        ("SELECT setseed(0.5)", Touch.FOREVER, 0, 0, "setseed"),
        ("SELECT dblink_connect('x')", Touch.FOREVER, 0, 0, "dblink_connect"),
        ("SELECT pg_create_physical_replication_slot('a', true, true)", Touch.FOREVER, 0, 0,
         "pg_create_physical_replication_slot"),
        ("SELECT pg_create_logical_replication_slot('a', 'b', temporary => $1)", Touch.FOREVER, 0, 0,
         "pg_create_logical_replication_slot"),
        ("SELECT currval('s')", 0, 0, S, "currval"),
        ("SELECT lastval()", 0, 0, S, "lastval"),
        ("SELECT query_to_xml('select 1', true, true, '')", ANYTHING, 0, 0, "query_to_xml"),
        ("SELECT query_to_xml('select setseed(0)', true, true, '')", ANYTHING | Touch.FOREVER, 0, 0, "query_to_xml"),
        ("SELECT domain_in('x', 16384, -1)", ANYTHING, 0, 0, "domain_in"),
        ("SELECT pg_catalog.pg_input_is_valid('x', 'my' || 'domain')", ANYTHING, 0, 0, "pg_input_is_valid"),
        ("COPY (SELECT pg_advisory_lock(1)) TO STDOUT", Touch.LOCKS, 0, 0, "pg_advisory_lock"),
        ("CALL p(pg_advisory_lock(1))", Touch.LOCKS, 0, 0, "pg_advisory_lock"),
    ],
)  # fmt: skip
def test_bits(text: str, touch: int, ends: int, needs: int, reason: str) -> None:
    verdict = classified(text)
    assert (Touch(verdict.touch), verdict.ends, verdict.needs, verdict.reason) == (touch, ends, needs, reason)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1",
        "SELECT temp, temporary FROM t WHERE x = 'temp'",
        "INSERT INTO t SELECT 1",
        "SELECT 1; INSERT INTO t SELECT 1",
        "WITH a AS (SELECT 1), b AS (INSERT INTO t SELECT 1 RETURNING *) INSERT INTO t SELECT * FROM a, b",
        "MERGE INTO t USING u ON a = b WHEN MATCHED THEN DELETE",
        "SELECT * FROM pg_settings FOR UPDATE",
        "CREATE ROLE r",
        "CREATE UNIQUE INDEX ON t (a)",
        "GRANT EXECUTE ON FUNCTION f() TO alice",
        "SELECT pg_advisory_xact_lock(1)",
        "SELECT pg_create_physical_replication_slot('a')",
        "SELECT pg_create_logical_replication_slot('a', 'b', false)",
        "DECLARE c CURSOR FOR SELECT 1",
        "DECLARE c CURSOR WITHOUT HOLD FOR SELECT hold FROM t",
        "DISCARD PLANS",
        "BEGIN; SELECT 1; COMMIT",
        "ROLLBACK TO a",
        "PREPARE TRANSACTION 'x'",
        "INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING",
        "EXPLAIN SELECT 1",
        "",
        ";;",
        "-- SET a = 1",
        "SELECT * FROM currval, lastval",
    ],
)
def test_harmless(text: str) -> None:
    assert classify(text.encode()) is HARMLESS


@pytest.mark.parametrize(
    ("text", "defines"),
    [
        ("CREATE TRIGGER t AFTER INSERT ON x FOR EACH ROW EXECUTE FUNCTION f()", True),
        ("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", True),
        ("SELECT 1; CREATE VIEW v AS SELECT 1", True),
        ("ALTER TABLE t ADD a int", True),
        ("DO $$BEGIN EXECUTE 'x'; END$$", True),
        ("CREATE TABLE t (a text DEFAULT set_config('a.b', 'c', false))", True),
        ("CREATE TEMP TABLE t (a int)", False),
        ("CREATE INDEX ON t (a)", False),
        ("ALTER ROLE joe SET work_mem = '1MB'", False),
        ("DROP TABLE t", False),
        ("SET work_mem = '1MB'", False),
        ("DO $$ BEGIN CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'; END $$", True),
        ("create view v as select 1;" * 100, True),
        ("DO $$ BEGIN SET a = 1; END $$", False),
    ],
)
def test_what_may_define_functions_and_the_like(text: str, defines: bool) -> None:
    assert classify(text.encode()).defines is defines


def test_discards() -> None:
    verdict = classified("DISCARD ALL")
    everything = Touch.SETTINGS | Touch.PREPARED | Touch.LISTEN | Touch.TEMP | Touch.LOCKS | Touch.CURSORS
    assert (verdict.touch, verdict.ends, verdict.discards) == (everything, everything, 2)
    assert (verdict.names, verdict.resets) == (None, None)
    assert classified("DEALLOCATE ALL").discards == classified("DEALLOCATE PREPARE ALL").discards == 1
    assert classified("DISCARD SEQUENCES").discards == 4
    assert classified("DISCARD TEMP").discards == classified("DISCARD TEMPORARY").discards == 8
    assert classified("DISCARD TEMP; DISCARD SEQUENCES").discards == 12


@pytest.mark.parametrize(
    ("text", "rewrites"),
    [
        ("EXECUTE foo(1)", [(1, b"foo", "foo")]),
        ('EXECUTE "Foo"', [(1, b"Foo", '"Foo"')]),
        ("EXECUTE U&\"!0066oo\" UESCAPE '!' (1)", [(1, b"foo", "U&\"!0066oo\" UESCAPE '!'")]),
        ("EXPLAIN (ANALYZE, COSTS off) EXECUTE Foo", [(1, b"foo", "Foo")]),
        ("EXPLAIN ANALYZE VERBOSE EXECUTE foo", [(1, b"foo", "foo")]),
        ("CREATE TEMP TABLE t (a) WITH (fillfactor = 10) AS EXECUTE foo(1)", [(1, b"foo", "foo")]),
        ("EXPLAIN CREATE TABLE t AS EXECUTE foo", [(1, b"foo", "foo")]),
        ("DEALLOCATE foo", [(2, b"foo", "foo")]),
        ("DEALLOCATE PREPARE Foo; EXECUTE bar", [(2, b"foo", "Foo"), (1, b"bar", "bar")]),
        ("DEALLOCATE prepare", [(2, b"prepare", "prepare")]),
        ('DEALLOCATE "all"', [(2, b"all", '"all"')]),
        ("DEALLOCATE ALL", []),
        ("SELECT * FROM pg_prepared_statements", [(4, b"pg_prepared_statements", "pg_prepared_statements")]),
        (
            'SELECT * FROM pg_catalog."pg_prepared_statements" AS p WHERE true',
            [(3, b"pg_prepared_statements", 'pg_catalog."pg_prepared_statements"')],
        ),
        (
            "SELECT pg_prepared_statements.name, pg_prepared_statements FROM a, Pg_Prepared_Statements WHERE 1 = 1",
            [(4, b"pg_prepared_statements", "Pg_Prepared_Statements")],
        ),
        (
            "SELECT f(a, b) FROM (pg_prepared_statements p CROSS JOIN pg_prepared_statements) WHERE 1 = 1",
            [
                (3, b"pg_prepared_statements", "pg_prepared_statements"),
                (4, b"pg_prepared_statements", "pg_prepared_statements"),
            ],
        ),
        ("SELECT a IS DISTINCT FROM pg_prepared_statements", []),
        ("SELECT f(pg_prepared_statements) FROM t", []),
        ("SELECT name FROM t, f(pg_prepared_statements)", []),
        ("TABLE pg_prepared_statements", []),
        ("CREATE VIEW v AS SELECT * FROM pg_prepared_statements", []),
        ("CREATE MATERIALIZED VIEW v AS SELECT * FROM pg_prepared_statements", []),
        ("CREATE FUNCTION f() RETURNS text BEGIN ATOMIC SELECT name FROM pg_prepared_statements; END", []),
        (
            "CREATE FUNCTION f() RETURNS text BEGIN ATOMIC SELECT 1;"
            " SELECT CASE WHEN true THEN name END FROM pg_prepared_statements; END; EXECUTE foo",
            [(1, b"foo", "foo")],
        ),
    ],
)
def test_rewrites(text: str, rewrites: list[tuple[int, bytes, str]]) -> None:
    verdict = classify(text.encode())
    assert [
        (kind, name, text.encode()[start:end].decode()) for start, end, kind, name in verdict.rewrites
    ] == rewrites


def test_names_of_channels_and_statements() -> None:
    verdict = classified('LISTEN Abc; LISTEN "Abc"; UNLISTEN x; LISTEN Abc')
    assert verdict.listens == (b"abc", b"Abc")
    assert classified("LISTEN " + "é" * 40).listens == ("é".encode() * 31,)
    assert classified('PREPARE "P q"(int) AS SELECT $1; PREPARE transaction AS SELECT 1').prepares == (
        b"P q",
        b"transaction",
    )


@pytest.mark.parametrize(
    "text",
    [
        "NOTIFY a",
        "SELECT pg_notify('a', 'b')",
        "DO $$BEGIN NOTIFY a; END$$",
        "DO $$BEGIN PERFORM pg_notify('a', ''); END$$",
    ],
)
def test_notifies(text: str) -> None:
    verdict = classified(text)
    assert (verdict.notifies, verdict.touch) == (True, 0)


@pytest.mark.parametrize(
    ("end", "ends"),
    [
        ("COMMIT", True),
        ("COMMIT AND CHAIN", True),
        ("END", True),
        ("ROLLBACK WORK", True),
        ("ABORT", True),
        ("PREPARE TRANSACTION 'x'", True),
        ("ROLLBACK TO SAVEPOINT a", False),
        ("ROLLBACK WORK TO a", False),
        ("COMMIT PREPARED 'x'", False),
        ("SELECT 'COMMIT'", False),
        ("SELECT 1 AS commit", False),
        ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END", False),
    ],
)
def test_ends_of_transactions(end: str, ends: bool) -> None:
    assert classified(f"SET a = 1; {end}").ends_transaction == ends


ANY = int(ANYTHING)


@pytest.mark.parametrize(
    ("body", "touch", "names"),
    [
        ("BEGIN NULL; END", None, ()),
        ("BEGIN UPDATE t SET a = 1; SELECT a INTO b FROM t; END", None, ()),
        ("DECLARE x int; BEGIN CLOSE c; EXPLAIN SELECT 1; END", 0, ()),
        ("BEGIN SET a.b = 1; SET LOCAL c = 1; END", Touch.SETTINGS | Touch.LOCAL, (b"a.b", b"c")),
        ("BEGIN IF a THEN RESET b; END IF; END", Touch.SETTINGS, (b"b",)),
        ("BEGIN PERFORM set_config('a.b', 'x', false); END", Touch.SETTINGS, (b"a.b",)),
        ("BEGIN PERFORM set_config('a.b', 'x', true); END", Touch.LOCAL, (b"a.b",)),
        ("BEGIN PERFORM set_config(n, 'x', false); END", Touch.SETTINGS | Touch.UNNAMED, None),
        ("BEGIN EXECUTE x; END", ANY, None),
        ("BEGIN LOAD 'x'; END", Touch.FOREVER, ()),
        ("BEGIN -- load data\n NULL; END", None, ()),
        ("BEGIN EXECUTE 'LOAD ''x'''; END", ANY | Touch.FOREVER, None),
        ("BEGIN CREATE TEMP TABLE x (a int); END", Touch.TEMP, ()),
        ("BEGIN PERFORM pg_advisory_lock(1); END", Touch.LOCKS, ()),
        ("BEGIN PERFORM U&\"x\"(); END", ANY, None),
        ("BEGIN SET x = 'a", Touch.SETTINGS | Touch.UNNAMED, None),
        ("BEGIN " + "SET a.b = 1; " * 60 + "END", Touch.SETTINGS | Touch.UNNAMED, None),
        ("BEGIN " + " " * 8192 + "END", ANY, None),
        ("BEGIN PERFORM domain_in('a', 1, 2); END", ANY, None),
    ],
)  # fmt: skip
def test_do(body: str, touch: int | None, names: tuple[bytes, ...] | None) -> None:
    for text in (f"DO $_${body}$_$", f"DO LANGUAGE plpgsql $_${body}$_$"):
        verdict = classify(text.encode())
        assert (verdict.touch if verdict is not HARMLESS else None) == touch
        assert verdict.names == names
        assert verdict.plain is None


@pytest.mark.parametrize(
    "text", ["DO U&'x'", "DO 'a'\n'b'", "DO $$x$$ LANGUAGE plpython3u", "DO LANGUAGE 'plperl' $$x$$", "DO"]
)
def test_bodies_that_cannot_be_read_do_anything(text: str) -> None:
    verdict = classified(text)
    assert verdict.touch & ANY == ANY
    assert verdict.names is None
    assert verdict.notifies


def test_dynamic_code_gives_hints() -> None:
    verdict = classified(
        "DO $$BEGIN EXECUTE 'SET App.Tenant = ' || x; PERFORM set_config('a.b', 'x', false); END$$"
    )
    assert verdict.names is None
    assert set(verdict.hints) == {b"a.b", b"app.tenant"}


WORDS = {b"set_tenant": int(Touch.SETTINGS), b"lock_it": int(Touch.LOCKS) | Need.SEQUENCES << 16}


@pytest.mark.parametrize(
    ("text", "touch", "needs"),
    [
        ("SELECT set_tenant(1)", Touch.SETTINGS, 0),
        ('SELECT "Set_Tenant"(1)', Touch.SETTINGS, 0),
        ("SELECT t.set_tenant FROM t", Touch.SETTINGS, 0),
        ("SELECT lock_it()", Touch.LOCKS, S),
        ("DO $$BEGIN PERFORM set_tenant(1); END$$", Touch.SETTINGS, 0),
        ("PREPARE p AS SELECT set_tenant(1)", Touch.SETTINGS | Touch.PREPARED, P),
    ],
)
def test_words_of_the_catalog(text: str, touch: int, needs: int) -> None:
    verdict = classified(text, WORDS)
    assert (Touch(verdict.touch), verdict.needs) == (touch, needs)
    assert verdict.names == (None if touch & Touch.SETTINGS else ())


@pytest.mark.parametrize(
    "text", ["SELECT 'set_tenant'", "CREATE FUNCTION set_tenant() AS 'x'", "DROP FUNCTION set_tenant"]
)
def test_words_of_the_catalog_that_do_not_count(text: str) -> None:
    verdict = classify(text.encode(), WORDS)
    assert not verdict.touch & Touch.SETTINGS


@pytest.mark.parametrize(
    "text",
    [
        "CREATE TABLE t (a int)",
        "CREATE VIEW v AS SELECT 1",
        "CREATE ROLE r",
        "DROP TABLE t",
        "GRANT a TO b",
        "COMMENT ON TABLE t IS 'x'",
        "EXPLAIN ANALYZE CREATE TABLE t AS SELECT 1",
        "DO $$BEGIN DROP TABLE t; END$$",
        "SELECT 1 INTO t",
    ],
)
def test_event_triggers_of_the_catalog(text: str) -> None:
    verdict = classified(text, dict.fromkeys((*DDL, SELECT_INTO), int(Touch.SETTINGS)))
    assert verdict.touch & Touch.SETTINGS
    assert verdict.names is None


def test_a_function_whose_settings_are_known_does_what_else_it_does() -> None:
    value = int(Touch.SETTINGS) | Need.SEQUENCES << NEED_SHIFT | NOTIFIES | DEFINES
    verdict = classify(b"SELECT f()", {b"f": int(value)}, {b"f": (b"work_mem",)})
    assert verdict.names == (b"work_mem",)
    assert (verdict.needs, verdict.notifies, verdict.defines) == (Need.SEQUENCES, True, True)


def test_reason_of_a_word_of_the_catalog() -> None:
    assert classified("SELECT set_tenant(1)", WORDS).reason == "function set_tenant"


@pytest.mark.parametrize(
    ("text", "touch"),
    [
        (r"SELECT 'a\'; SET b = 1; --'", Touch.SETTINGS),
        (r"SELECT 'a\'', 1; LISTEN x; --'", Touch.LISTEN),
        (r"SELECT '\', set_config('a', 'b', false)", Touch.SETTINGS),
        ("SET a = 'b", Touch.SETTINGS | Touch.UNNAMED),
        ("SELECT 'a; LISTEN b", Touch.LISTEN),
    ],
)
def test_what_may_be_read_in_two_ways_or_none_is_taken_at_its_worst(text: str, touch: int) -> None:
    verdict = classified(text)
    assert verdict.touch & touch == touch
    assert verdict.plain is None
    assert verdict.rewrites == ()


@pytest.mark.parametrize(
    "text", [b"SELECT E'\x83\x5c'; SET a = 1; --'", b"SELECT '\x95\x5c', set_config('a', 'b', true)"]
)
def test_encodings_with_ascii_in_their_characters_mislead(text: bytes) -> None:
    assert (
        classify(text, mixed=True).touch & (Touch.SETTINGS | Touch.UNNAMED) == Touch.SETTINGS | Touch.UNNAMED
    )


@pytest.mark.parametrize("text", [b"SELECT '\x83A', lastval()", b"SET a.b = '\x95n' -- \x83\x83 x"])
def test_in_such_an_encoding_letters_and_quotes_do_not(text: bytes) -> None:
    assert classify(text, mixed=True) == classify(text)
    assert not classify(text).touch & Touch.UNNAMED


def test_names_in_another_encoding() -> None:
    verdict = classify(
        "SELECT \u00e9()".encode("latin-1"), {"\u00e9".encode(): int(Touch.LOCKS)}, doubt=int(Touch.LOCKS)
    )
    assert (verdict.touch, verdict.reason) == (Touch.LOCKS, "name in another encoding")
