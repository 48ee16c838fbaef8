"""What a function's source is taken to do, by its text alone."""

import pytest

from pgferry.session.source import UNKNOWN, analyze, analyze_expression
from pgferry.session.source_lexer import STRING, tokens, uncommented
from pgferry.session.verdict import DEFINES, MAKES, NEED_SHIFT, NOTIFIES, Need, Touch

SETTINGS, TEMP, LOCKS, FOREVER = (int(t) for t in (Touch.SETTINGS, Touch.TEMP, Touch.LOCKS, Touch.FOREVER))
LOCAL = int(Touch.LOCAL)
UNREADABLE = UNKNOWN & ~int(Touch.UNNAMED) | int(Touch.UNREADABLE)
UNNAMED = int(Touch.SETTINGS | Touch.UNNAMED)
PREPARED = int(Touch.PREPARED | Need.PREPARED << NEED_SHIFT)


def bits(source: str, language: str = "plpgsql") -> int:
    return int(analyze(b"f", language.encode(), source.encode()).bits)


def body(statements: str) -> str:
    return f"DECLARE x text; BEGIN {statements}; RETURN NEW; END"


HARMLESS = [
    "UPDATE t SET a = 1 WHERE id = NEW.id",
    "NEW.updated_at := now()",
    "INSERT INTO audit SELECT TG_TABLE_NAME, to_jsonb(OLD), 'update', 'set', 'reset', 'execute'",
    "INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET a = excluded.a",
    "MERGE INTO t USING u ON true WHEN MATCHED THEN UPDATE SET a = 1",
    "PERFORM set_config('app.tenant', x, true)",
    "PERFORM pg_catalog.set_config('search_path', '', 'true'::boolean)",
    "PERFORM set_config(setting_name => x, new_value => '', is_local => true)",
    "SET LOCAL search_path TO a; SET TRANSACTION READ ONLY; SET CONSTRAINTS ALL DEFERRED",
    "IF current_setting('app.tenant', true) = 'x' THEN RETURN NULL; END IF",
    "PERFORM pg_advisory_xact_lock(1), pg_try_advisory_xact_lock(2)",
    "-- SET search_path TO a; set_config('a', 'b', false)\n /* ; LISTEN x; EXECUTE y */ x := 1",
    "RAISE EXCEPTION 'Load failed; listen to me; reset your password'",
    "x := CASE WHEN true THEN load ELSE reset END",
    "SELECT t.execute, t.prepare, t.temp INTO x FROM t",
    "EXECUTE 'UPDATE t SET a = $1' USING x",
    "EXECUTE format('INSERT INTO %I.%I VALUES (%L)', TG_TABLE_SCHEMA, TG_TABLE_NAME, x)",
    "EXECUTE 'INSERT INTO ' || quote_ident(x) || ' VALUES (' || quote_literal(x) || ')'",
    "EXECUTE 'SELECT count(*) FROM ' || x::regclass INTO x",
    "EXECUTE 'INSERT INTO log_' || to_char(now(), 'YYYY_MM') || ' (a) VALUES ($1.a)' USING NEW",
    "FOR r IN EXECUTE format('SELECT * FROM %s WHERE a = %L', TG_RELID::regclass, x) LOOP NULL; END LOOP",
    "EXECUTE format('SELECT set_config(%L, %L, true)', x, x)",
    "EXECUTE 'GRANT EXECUTE ON FUNCTION f() TO a'",
    "ALTER ROLE a SET work_mem = '7MB'",
    "close := 1; cpu := cpu & mask; CLOSE c",
]

SUSPECT = [
    ("PERFORM set_config('App.Tenant', x, false)", SETTINGS),
    ("PERFORM set_config('app.tenant', x, is_local)", SETTINGS),
    ("PERFORM set_config('app.tenant'::text, x, NOT false)", SETTINGS),
    ('PERFORM "set_config"(x, x, false)', UNNAMED),
    ("PERFORM set_config('app.' || x, x, false)", UNNAMED),
    ("PERFORM /* why not */ set_config --\n ('a', 'b', false)", SETTINGS),
    ("SET search_path TO a", SETTINGS),
    ("IF x THEN SET SESSION work_mem = 1; END IF", SETTINGS),
    ("<<label>> SET ROLE a", SETTINGS),
    ("RESET ALL", UNNAMED),
    ("RESET role", SETTINGS),
    ("SET SESSION AUTHORIZATION a", SETTINGS),
    ("SET TIME ZONE 'UTC'", SETTINGS),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", SETTINGS),
    ("SET seed = 0.5", SETTINGS | FOREVER),
    ("PERFORM set_config('seed', '0.5', true)", FOREVER),
    ("SET LOCAL seed = 0.5", FOREVER),
    ("CREATE EXTENSION hstore", UNKNOWN),
    ("EXECUTE 'ALTER EXTENSION a UPDATE'", UNKNOWN),
    ("UPDATE pg_settings SET setting = 'a' WHERE name = x", UNNAMED),
    ("CREATE TEMP TABLE a (b int)", TEMP | MAKES),
    ("CREATE TABLE a (b int)", TEMP | MAKES),
    ("EXECUTE format('CREATE UNIQUE INDEX %I ON a (b)', x)", TEMP | MAKES),
    ("CREATE OR REPLACE TEMP VIEW a AS SELECT 1", TEMP | DEFINES),
    ("EXECUTE 'CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$SELECT 1$$'", TEMP | DEFINES),
    ("ALTER TABLE t SET (fillfactor = 50)", DEFINES),
    (
        "ALTER TABLE t ALTER COLUMN a SET DEFAULT 1, ADD FOREIGN KEY (b) REFERENCES u ON DELETE SET NULL",
        DEFINES,
    ),
    ("EXECUTE format('ALTER TABLE %I ADD b int', x)", DEFINES),
    ("IMPORT FOREIGN SCHEMA a FROM SERVER b INTO c", DEFINES),
    ("INSERT INTO pg_temp.a VALUES (1)", TEMP),
    ("DROP TABLE a", TEMP),
    ("PERFORM pg_advisory_lock(1)", LOCKS),
    ("PERFORM pg_advisory_unlock_all()", LOCKS),
    ("LISTEN a", int(Touch.LISTEN)),
    ("UNLISTEN *", int(Touch.LISTEN)),
    ("NOTIFY a, 'b'", NOTIFIES),
    ("PERFORM pg_notify('a', x)", NOTIFIES),
    ("PREPARE p AS SELECT 1", PREPARED),
    ("DEALLOCATE p", PREPARED),
    ("LOAD 'auto_explain'", FOREVER),
    ("PERFORM setseed(0.5)", FOREVER),
    ("PERFORM dblink_connect('c', x)", FOREVER),
    ("PERFORM pg_create_logical_replication_slot('a', 'b', true)", FOREVER),
    ("PERFORM pg_create_logical_replication_slot('a', 'b')", 0),
    ("x := currval('s')", int(Need.SEQUENCES) << NEED_SHIFT),
    ("SELECT count(*) INTO x FROM pg_prepared_statements", int(Need.PREPARED) << NEED_SHIFT),
    ("EXECUTE x", UNKNOWN),
    ("RETURN QUERY EXECUTE x USING 1", UNKNOWN),
    ("EXECUTE 'SELECT ' || x", UNKNOWN),
    ("EXECUTE format('%s', x)", UNKNOWN),
    ("EXECUTE format('SELECT %I()', x)", UNKNOWN),
    ("EXECUTE format('%I search_path TO a', x)", UNKNOWN),
    ("EXECUTE format('SELECT pg_advisory_%s(1)', x)", UNKNOWN),
    ("EXECUTE E'SE\\124 ROLE a'", SETTINGS),
    ("EXECUTE E'SE\\u0' 'T ROLE a'", UNKNOWN),
    ("EXECUTE x || 'LOAD ''a'''", UNKNOWN | FOREVER),
    ("EXECUTE 'EXECUTE p'", UNKNOWN),
    ("EXECUTE 'SET search_path TO a'", SETTINGS),
    ("EXECUTE format('SET app.tenant = %L', x)", SETTINGS),
    ("EXECUTE format('SET %I = %L', x, x)", UNNAMED),
    ("EXECUTE 'SELECT set_' || 'config(''a'', ''b'', false)'", SETTINGS),
    ("EXECUTE $q$ DO $$ BEGIN LISTEN a; END $$ $q$", int(Touch.LISTEN)),
    ("EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT 1'", int(Touch.CURSORS)),
    ("x := query_to_xml(x, true, true, '')", UNKNOWN),
    ("PERFORM helper('SELECT set_config(''a.b'', x, false)')", SETTINGS),
    ('PERFORM U&"set\\005fconfig"(x, x, false)', UNKNOWN),
]


@pytest.mark.parametrize("statements", HARMLESS)
def test_usual_sources_are_harmless(statements: str) -> None:
    local = LOCAL if ("true" in statements and "set_config" in statements) or "SET LOCAL" in statements else 0
    assert bits(body(statements)) & ~TEMP == local
    if "temp" not in statements:
        assert bits(body(statements)) == local


@pytest.mark.parametrize(("statements", "expected"), SUSPECT)
def test_suspect_sources(statements: str, expected: int) -> None:
    assert bits(body(statements)) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("SELECT 1; SET search_path TO a", SETTINGS),
        ("SELECT a INTO b FROM t", TEMP),
        ("INSERT INTO b SELECT 1", 0),
        ("SELECT CASE WHEN a THEN b ELSE c END; UPDATE t SET a = 1", 0),
        ("EXECUTE p(1)", UNKNOWN),
        ("DO $$ BEGIN SET ROLE a; END $$", SETTINGS),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", int(Touch.CURSORS)),
    ],
)
def test_sql_functions(source: str, expected: int) -> None:
    assert bits(source, "sql") == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("BEGIN ATOMIC\n SELECT set_config('a'::text, 'b'::text, false);\nEND", SETTINGS),
        ("RETURN set_config('a'::text, 'b'::text, true)", LOCAL),
        ("BEGIN ATOMIC\n UPDATE t SET a = 1;\nEND", 0),
    ],
)
def test_the_header_of_a_written_out_definition_does_not_count(header: str, expected: int) -> None:
    source = f"CREATE OR REPLACE FUNCTION public.f()\n RETURNS text\n LANGUAGE sql\n SET a TO 'b'\n{header}\n"
    assert bits(source, "sql") == expected


@pytest.mark.parametrize(
    ("language", "source", "expected"),
    [
        ("plperl", "return $_[0] . 'set_config';", UNREADABLE),
        ("plperl", 'my $f = "spi" . "_exec_query"; &$f("SELECT 1");', UNREADABLE),
        ("plperl", "$_SHARED{a} = 1;", UNREADABLE | FOREVER),
        ("plpython3u", "plpy.notice('x'); return len(a)", UNREADABLE),
        ("plpython3u", "p=plpy; p.execute(q)", UNREADABLE),
        ("plpython3u", "SD['a'] = plpy.prepare(q)", UNREADABLE | FOREVER),
        ("pltcl", "append c spi _exec; $c {SELECT 1}", UNREADABLE),
        ("pltcl", "set GD(a) 1", UNREADABLE | FOREVER),
        ("plr", "anything", UNREADABLE),
        ("c, of no extension", "anything", UNREADABLE),
        ("internal", "set_config_by_name", UNNAMED),
        ("internal", "pg_try_advisory_lock_int8", LOCKS),
        ("internal", "pg_try_advisory_xact_lock_int8", 0),
        ("internal", "int4pl", 0),
    ],
)
def test_other_languages(language: str, source: str, expected: int) -> None:
    assert bits(source, language) == expected


def test_names_of_settings() -> None:
    found = analyze(
        b"f",
        b"plpgsql",
        b"BEGIN SET App.One TO 1; PERFORM set_config('app.two', '', false), set_config('app.three', '', true);"
        b" RESET work_mem; SET TIME ZONE 'UTC'; SET NAMES 'UTF8'; EXECUTE format('SET app.four = %L', x); END",
    )
    assert found.names == set(b"app.one app.two app.three work_mem timezone client_encoding app.four".split())


@pytest.mark.parametrize(
    ("statements", "names"),
    [
        ("PERFORM set_config('App.One', x, true)", {b"app.one"}),
        ("SET LOCAL app.one TO 1", {b"app.one"}),
        ("SET LOCAL TIME ZONE 'UTC'", {b"timezone"}),
        ("PERFORM set_config(x, x, true)", {b""}),
    ],
)
def test_settings_of_a_transaction(statements: str, names: set[bytes]) -> None:
    found = analyze(b"f", b"plpgsql", body(statements).encode())
    assert (found.bits, found.names) == (LOCAL, names)


def test_a_source_that_cannot_be_cut_is_unknown() -> None:
    assert bits("BEGIN SET x TO 'a; END") & UNKNOWN == UNKNOWN


@pytest.mark.parametrize("name", [b"domain_in", b"array_recv", b"record_in", b"pg_input_is_valid"])
def test_input_functions_called_by_name_check_domains(name: bytes) -> None:
    assert bits(body(f"PERFORM {name.decode()}(x, y, -1)")) == UNKNOWN


def test_names_are_gathered_from_what_cannot_be_read() -> None:
    found = analyze(b"f", b"plpgsql", b"BEGIN q := 'SET app.one = '; EXECUTE q || quote_literal(x) || y; END")
    assert found.bits & Touch.UNNAMED and found.names == {b"app.one"}


def test_computed_relations_may_be_any() -> None:
    assert analyze(b"f", b"plpgsql", b"BEGIN EXECUTE format('DELETE FROM %I', x); END").any_object
    assert not analyze(
        b"f", b"plpgsql", b"BEGIN EXECUTE format('DELETE FROM a WHERE b = %L', x); END"
    ).any_object


def test_strings_that_depend_on_standard_conforming_strings_are_read_both_ways() -> None:
    assert bits("BEGIN x := '\\'; SET ROLE a; y := '\\'; END") & SETTINGS
    assert bits("BEGIN x := 'a\\' || '; SET ROLE a; --'; END") & SETTINGS
    assert bits("BEGIN x := 'a\\'b'; SET ROLE a; END") & SETTINGS


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("set_config('a'::text, 'b'::text, false)", SETTINGS),
        ("CREATE RULE r AS ON INSERT TO t DO ALSO NOTIFY a", NOTIFIES),
        ("CREATE RULE r AS ON INSERT TO t DO ALSO ( NOTIFY a; UPDATE u SET a = 1; )", NOTIFIES),
        ('CREATE RULE "_RETURN" AS ON SELECT TO v DO INSTEAD SELECT name FROM pg_settings', UNNAMED),
        ("CREATE TRIGGER a BEFORE INSERT ON t FOR EACH ROW WHEN (true) EXECUTE FUNCTION f()", 0),
        ("nextval('s'::regclass)", 0),
    ],
)
def test_expressions(text: str, expected: int) -> None:
    assert analyze_expression(text.encode()).bits == expected


def test_tokens_know_strings_and_comments() -> None:
    found = tokens(b"E'a\\'b' $x$it's$$y$x$ 'a'\n'b' /* /* ' */ ' */ -- '\n N'c' $$d$$")
    assert [t.text for t in found if t.kind == STRING] == [b"a'b", b"it's$$y", b"ab", b"c", b"d"]
    assert [t.text for t in tokens(b'cpu&mask "A""b" a::b||c := d << e > > f')] == [
        *(
            b"cpu",
            b"&",
            b"mask",
            b'a"b',
            b"a",
            b"::",
            b"b",
            b"||",
            b"c",
            b":=",
            b"d",
            b"<<",
            b"e",
            b">",
            b">",
            b"f",
        )
    ]
    assert tokens(b" ") == []


def test_what_looks_like_a_comment_hides_no_code() -> None:
    assert bits("BEGIN /* /* */ ' */ x := 'a -- b'; SET ROLE a; END") == SETTINGS
    assert bits("BEGIN x := a$b$; y := ' -- $b$ '; SET ROLE a; END") == SETTINGS
    assert bits("BEGIN x := $b$ ' $b$; y := $$ -- $$; SET ROLE a; END") == SETTINGS


def test_uncommented_keeps_what_only_looks_like_a_comment() -> None:
    assert (
        uncommented(b"a -- b\n'-- c' /* d */ \"/* e */\" $$-- f$$") == b"a  \n'-- c'   \"/* e */\" $$-- f$$"
    )
