"""The two queries on the catalog, on real servers: each route by which a statement reaches suspect code."""

from collections.abc import Callable

import msgspec
import pytest

from pgferry.client import Connection, Target
from pgferry.embedded import Cluster
from pgferry.session.catalog import SCAN_QUERY, SELECT_INTO, VERSION_QUERY, Knowledge, analyze_catalog
from pgferry.session.verdict import DEFINES, NEED_SHIFT, NOTIFIES, Need, Touch

SETTINGS = int(Touch.SETTINGS)

# The suspect function that most cases use.
F = """CREATE FUNCTION f(x int) RETURNS int LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('app.tenant', x::text, false); RETURN x; END $$;"""
TF = """CREATE FUNCTION tf() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM set_config('app.tenant', '1', false); RETURN NEW; END $$;"""
TRIGGER = "CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION tf();"

# (name, statements, words that must have SETTINGS, words that must not be known)
ROUTES = [
    ("function", F + "CREATE FUNCTION g() RETURNS int LANGUAGE sql AS 'SELECT f(1)'", "f g", ""),
    ("trigger", TF + "CREATE TABLE t (a int); CREATE TABLE u (a int);" + TRIGGER, "tf t", "u"),
    ("constraint trigger", TF + """CREATE TABLE t (a int); CREATE CONSTRAINT TRIGGER tr AFTER INSERT ON t
        FOR EACH ROW EXECUTE FUNCTION tf()""", "t", ""),
    ("trigger condition", F + """CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN RETURN NEW; END'; CREATE TABLE t (a int); CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW
        WHEN (f(NEW.a) > 1) EXECUTE FUNCTION nothing()""", "t", "nothing"),
    ("trigger condition, built-in", """CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS
        'BEGIN RETURN NEW; END'; CREATE TABLE t (a int); CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW
        WHEN (set_config('a.b', '', false) = 'a') EXECUTE FUNCTION nothing()""", "t", "nothing"),
    ("view", F + "CREATE TABLE u (a int); CREATE VIEW v AS SELECT f(a) FROM u; CREATE VIEW w AS TABLE v", "v w", "u"),
    ("view over a table", TF + "CREATE TABLE t (a int);" + TRIGGER + "CREATE VIEW v AS SELECT * FROM t", "t v", ""),
    ("view, built-in", "CREATE VIEW v AS SELECT set_config('a.b', 'c', false)", "v", ""),
    ("view of the settings", "CREATE VIEW v AS SELECT * FROM pg_settings", "v", ""),
    ("materialized view", F + "CREATE MATERIALIZED VIEW v AS SELECT f(1)", "v", ""),
    ("rule", F + "CREATE TABLE t (a int); CREATE RULE r AS ON INSERT TO t DO ALSO SELECT f(1)", "t", ""),
    ("default", F + "CREATE TABLE t (a int DEFAULT f(1))", "t", ""),
    ("default, built-in", "CREATE TABLE t (a text DEFAULT set_config('a.b', 'c', false))", "t", ""),
    ("check", F + "CREATE TABLE t (a int CHECK (f(a) > 0))", "t", ""),
    ("check, built-in", "CREATE TABLE t (a text CHECK (set_config('a.b', a, false) > ''))", "t", ""),
    ("policy", F + "CREATE TABLE t (a int); CREATE POLICY p ON t USING (f(a) > 0)", "t", ""),
    ("policy, built-in",
        "CREATE TABLE t (a text); CREATE POLICY p ON t WITH CHECK (set_config('a.b', a, false) = a)", "t", ""),
    ("policy over a view", F + """CREATE VIEW v AS SELECT f(1) AS a; CREATE TABLE t (a int);
        CREATE POLICY p ON t USING (a IN (SELECT v.a FROM v))""", "t", ""),
    ("domain", F + """CREATE DOMAIN d AS int CHECK (f(VALUE) > 0); CREATE TABLE t (a d); CREATE TABLE u (a d[]);
        CREATE TYPE c AS (a d); CREATE TABLE w (a c); CREATE FUNCTION g(a d) RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE FUNCTION h() RETURNS int LANGUAGE plpgsql AS 'DECLARE a d; BEGIN RETURN a; END'""",
        "d t u c w g h", ""),
    ("domain, built-in", "CREATE DOMAIN d AS text DEFAULT set_config('a.b', '', false); CREATE TABLE t (a d)",
        "d t", ""),
    ("domain over a domain", F + """CREATE DOMAIN d AS int CHECK (f(VALUE) > 0); CREATE DOMAIN e AS d;
        CREATE TABLE t (a e)""", "e t", ""),
    ("generated column", """CREATE FUNCTION f(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
        'BEGIN SET search_path TO a; RETURN 1; END'; CREATE TABLE t (a int, b int GENERATED ALWAYS AS (f(a)) STORED)""",
        "t", ""),
    ("index", """CREATE FUNCTION f(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
        'BEGIN SET search_path TO a; RETURN 1; END'; CREATE TABLE t (a int); CREATE INDEX ON t (f(a));
        CREATE TABLE u (a int); CREATE INDEX ON u (a) WHERE f(a) > 0""", "t u", ""),
    ("partition key", """CREATE FUNCTION f(x int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
        'BEGIN SET search_path TO a; RETURN 1; END'; CREATE TABLE t (a int) PARTITION BY RANGE (f(a))""", "t", ""),
    ("foreign key", TF + """CREATE TABLE p (a int PRIMARY KEY); CREATE TABLE q (a int PRIMARY KEY);
        CREATE TABLE t (a int REFERENCES p ON DELETE CASCADE, b int REFERENCES q);
        CREATE TRIGGER tr BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION tf();""", "t p", "q"),
    ("foreign key over two", TF + """CREATE TABLE q (a int PRIMARY KEY);
        CREATE TABLE p (a int PRIMARY KEY REFERENCES q ON UPDATE SET NULL);
        CREATE TABLE t (a int REFERENCES p ON DELETE SET DEFAULT);
        CREATE TRIGGER tr BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION tf();""", "t p q", ""),
    ("truncate cascade", TF + """CREATE TABLE p (a int PRIMARY KEY); CREATE TABLE t (a int REFERENCES p);
        CREATE TRIGGER tr BEFORE TRUNCATE ON t EXECUTE FUNCTION tf();""", "t p", ""),
    ("forced policy", F + """CREATE TABLE p (a int PRIMARY KEY); CREATE TABLE c (a int REFERENCES p);
        ALTER TABLE p ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        CREATE POLICY x ON p USING (f(a) > 0)""", "p c", ""),
    ("partition", TF + """CREATE TABLE p (a int) PARTITION BY LIST (a); CREATE TABLE t PARTITION OF p FOR VALUES IN (1);
        CREATE TABLE u PARTITION OF p FOR VALUES IN (2);""" + TRIGGER, "t p", "u"),
    ("partitions of a table with a trigger", TF + """CREATE TABLE t (a int) PARTITION BY LIST (a);
        CREATE TABLE u PARTITION OF t FOR VALUES IN (2);""" + TRIGGER.replace("BEFORE", "AFTER"), "t u", ""),
    ("inheritance", TF + "CREATE TABLE p (a int); CREATE TABLE t () INHERITS (p);" + TRIGGER, "t p", ""),
    ("aggregate", F + """CREATE FUNCTION g(a int, b int) RETURNS int LANGUAGE sql AS 'SELECT f(a + b)';
        CREATE AGGREGATE agg (int) (sfunc = g, stype = int)""", "agg g", ""),
    ("trigger in C", TF + "CREATE EXTENSION refint; CREATE TABLE t (a int);" + TRIGGER + """
        CREATE TABLE u (a int PRIMARY KEY); CREATE TRIGGER x AFTER DELETE ON u FOR EACH ROW
        EXECUTE FUNCTION check_foreign_key(1, 'cascade', 'a', 't', 'a')""", "t u", ""),
    ("argument default", F + "CREATE FUNCTION g(a int DEFAULT f(1)) RETURNS int LANGUAGE sql AS 'SELECT 1'", "g", ""),
    ("argument default, built-in", """CREATE FUNCTION g(a text DEFAULT set_config('a.b', '', false)) RETURNS int
        LANGUAGE sql AS 'SELECT 1'""", "g", ""),
    ("function that writes to a table", TF + "CREATE TABLE t (a int);" + TRIGGER + """
        CREATE FUNCTION g() RETURNS void LANGUAGE plpgsql AS 'BEGIN INSERT INTO T VALUES (1); END'""", "g", ""),
    ("procedure", F + "CREATE PROCEDURE g() LANGUAGE plpgsql AS 'BEGIN COMMIT; PERFORM f(1); END'", "g", ""),
    ("dynamic literal", F + """CREATE FUNCTION g() RETURNS void LANGUAGE plpgsql AS
        $$ BEGIN EXECUTE 'SELECT f(1)'; END $$""", "g", ""),
    ("dynamic name", TF + "CREATE TABLE t (a int);" + TRIGGER + """CREATE FUNCTION g(x text) RETURNS void
        LANGUAGE plpgsql AS $$ BEGIN EXECUTE format('INSERT INTO %I DEFAULT VALUES', x); END $$""", "g", ""),
    ("dynamic", "CREATE FUNCTION g(x text) RETURNS void LANGUAGE plpgsql AS 'BEGIN EXECUTE x; END'", "g", ""),
    ("quoted names", """CREATE FUNCTION "My Func"() RETURNS text LANGUAGE sql AS
        $$ SELECT set_config('a.b', '', false) $$;
        CREATE FUNCTION g() RETURNS text LANGUAGE sql AS 'SELECT "My Func"()'""",
        "func g", ""),
]  # fmt: skip

BODIES = [
    ("body of standard SQL", F + "CREATE FUNCTION g() RETURNS int BEGIN ATOMIC SELECT f(1); END", "g", ""),
    ("body, built-in", """CREATE FUNCTION g() RETURNS text SET work_mem = '1MB'
        RETURN set_config('a.b', 'c', false)""", "g", ""),
    ("body over a table", TF + "CREATE TABLE t (a int);" + TRIGGER + """
        CREATE PROCEDURE g() BEGIN ATOMIC INSERT INTO t VALUES (1); END""", "g t", ""),
    ("harmless body", "CREATE FUNCTION g() RETURNS int SET work_mem = '1MB' BEGIN ATOMIC SELECT 1; END", "", "g"),
]  # fmt: skip

# What applications usually have, and nothing of it is suspect.
USUAL = """
CREATE TABLE accounts (id serial PRIMARY KEY, name text, tenant int, updated_at timestamptz DEFAULT now(),
    kind text DEFAULT upper('x') CHECK (kind <> 'load'), parent int REFERENCES accounts ON DELETE CASCADE);
CREATE TABLE audit (id bigserial, op text, old jsonb, new jsonb, who text DEFAULT current_setting('app.user', true));
CREATE DOMAIN email AS text CHECK (VALUE ~ '^.+@.+$');
CREATE TABLE people (mail email, n int GENERATED ALWAYS AS IDENTITY);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.updated_at = now(); RETURN NEW; END $$;
CREATE TRIGGER touch BEFORE UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION touch();
CREATE FUNCTION audit_row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public AS $$
    -- set the row aside; execute nothing, listen to nobody
    BEGIN
        INSERT INTO audit (op, old, new) VALUES (TG_OP, to_jsonb(OLD), to_jsonb(NEW));
        UPDATE people SET mail = lower(mail) WHERE false;
        INSERT INTO people (mail) VALUES ('a@b') ON CONFLICT DO NOTHING;
        RETURN NULL;
    END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE OR DELETE ON accounts FOR EACH ROW EXECUTE FUNCTION audit_row();
CREATE FUNCTION with_tenant(t int) RETURNS SETOF accounts LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM set_config('app.tenant', t::text, true);
        SET LOCAL work_mem = '8MB';
        RETURN QUERY SELECT * FROM accounts;
    END $$;
CREATE FUNCTION tenant() RETURNS int LANGUAGE sql STABLE AS $$ SELECT current_setting('app.tenant', true)::int $$;
ALTER TABLE accounts ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON accounts USING (tenant = tenant());
CREATE VIEW names AS SELECT name, lag(name) OVER (ORDER BY id) FROM accounts WHERE tenant = tenant();
CREATE FUNCTION rows_of(r regclass) RETURNS bigint LANGUAGE plpgsql AS $$
    DECLARE n bigint; BEGIN EXECUTE format('SELECT count(*) FROM %s', r::regclass) INTO n; RETURN n; END $$;
CREATE FUNCTION clear(s text, r text) RETURNS void LANGUAGE plpgsql AS
    $$ BEGIN EXECUTE 'DELETE FROM ' || quote_ident(s) || '.' || quote_ident(r); END $$;
CREATE FUNCTION one_at_a_time() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_xact_lock(1)';
CREATE INDEX ON accounts (lower(name)) WHERE kind IS NOT NULL;
CREATE FUNCTION add(a int, b int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT a + b';
CREATE OPERATOR |+| (leftarg = int, rightarg = int, function = add);
CREATE AGGREGATE total (int) (sfunc = add, stype = int, initcond = '0');
CREATE PROCEDURE batch() LANGUAGE plpgsql AS
    $$ BEGIN FOR i IN 1..3 LOOP UPDATE accounts SET name = name WHERE id = i; COMMIT; END LOOP; END $$;
"""


@pytest.fixture
def client(cluster: Cluster, database: str) -> Connection:
    """A client whose settings do what they can to mislead."""
    made = Connection(Target(str(cluster.socket_dir), cluster.port, "postgres", database), timeout=30.0)
    made.query("""
        CREATE SCHEMA trap; CREATE SCHEMA app;
        CREATE FUNCTION trap.never(oid, oid) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT NULL::boolean';
        CREATE OPERATOR trap.= (leftarg = oid, rightarg = oid, function = trap.never);
        CREATE OPERATOR trap.>= (leftarg = oid, rightarg = oid, function = trap.never);
        CREATE FUNCTION trap.concat(text, text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT NULL::text';
        CREATE TABLE trap.pg_proc (oid oid);
        SET standard_conforming_strings = off; SET quote_all_identifiers = on; SET default_transaction_read_only = off;
        SET search_path = app, trap, pg_catalog""")
    return made


def scan(client: Connection) -> Knowledge:
    client.query("SET client_encoding = 'SQL_ASCII'; SET search_path = app, trap, pg_catalog")
    rows = client.query(SCAN_QUERY.decode()).rows
    assert all(len(row) == 6 for row in rows)
    return analyze_catalog([tuple(None if c is None else c.encode() for c in row) for row in rows])


def check(client: Connection, statements: str, suspect: str, harmless: str) -> None:
    client.query("SET standard_conforming_strings = on; SET search_path = app")
    client.query(statements)
    known = scan(client)
    for word in suspect.encode().split():
        assert known.words.get(word, 0) & SETTINGS, (word, known)
    for word in harmless.encode().split():
        assert word not in known.words, (word, known)
    assert known.everything == 0


@pytest.mark.parametrize(
    ("statements", "suspect", "harmless"), [r[1:] for r in ROUTES], ids=[r[0] for r in ROUTES]
)
def test_route(client: Connection, statements: str, suspect: str, harmless: str) -> None:
    check(client, statements, suspect, harmless)


@pytest.mark.parametrize(
    ("statements", "suspect", "harmless"), [b[1:] for b in BODIES], ids=[b[0] for b in BODIES]
)
def test_standard_body(
    client: Connection, pg_version: int, statements: str, suspect: str, harmless: str
) -> None:
    if pg_version < 14:
        pytest.skip("bodies of standard SQL came with PostgreSQL 14")
    check(client, statements, suspect, harmless)


def test_what_applications_usually_have_is_harmless(client: Connection) -> None:
    client.query("SET standard_conforming_strings = on; SET search_path = app")
    client.query(USUAL)
    known = scan(client)
    assert set(known.words.values()) == {int(Touch.LOCAL)}  # set_config(..., true) and SET LOCAL
    assert known.names[b"with_tenant"] == (b"app.tenant", b"work_mem")
    assert msgspec.structs.replace(known, words={}, names={}) == Knowledge(encoding="UTF8")


NAMELESS = {
    "operator": F + """CREATE FUNCTION g(a text, b int) RETURNS int LANGUAGE sql AS 'SELECT f(b)';
        CREATE OPERATOR app.=== (leftarg = text, rightarg = int, function = g)""",
    "operator, built-in": "CREATE OPERATOR app.=== (leftarg = int, rightarg = int, function = pg_advisory_lock)",
    "cast": """CREATE TYPE c AS (a int); CREATE FUNCTION g(c) RETURNS int LANGUAGE plpgsql AS
        'BEGIN SET search_path TO a; RETURN 1; END'; CREATE CAST (c AS int) WITH FUNCTION g(c) AS IMPLICIT""",
    "operator class": """CREATE FUNCTION g(a int, b int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
        'BEGIN SET search_path TO a; RETURN 0; END'; CREATE OPERATOR CLASS x FOR TYPE int USING btree AS
        OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 g(int, int)""",
}  # fmt: skip


@pytest.mark.parametrize("statements", NAMELESS.values(), ids=NAMELESS)
def test_what_no_word_shows(client: Connection, statements: str) -> None:
    client.query("SET search_path = app; SET standard_conforming_strings = on")
    client.query(statements)
    assert scan(client).everything & (Touch.SETTINGS | Touch.LOCKS)


def test_range_type(client: Connection) -> None:
    """Its functions make casts, which no word shows."""
    client.query("""SET search_path = app; SET standard_conforming_strings = on;
        CREATE FUNCTION f(a float8, b float8) RETURNS float8 LANGUAGE plpgsql IMMUTABLE AS
            'BEGIN SET search_path TO a; RETURN a - b; END';
        CREATE TYPE r AS RANGE (subtype = float8, subtype_diff = f); CREATE TABLE t (a r)""")
    known = scan(client)
    assert known.words[b"r"] == known.words[b"t"] == SETTINGS


def test_the_scan_changes_no_setting(client: Connection) -> None:
    before = client.query("SHOW search_path").rows
    client.query("CREATE VIEW app.v AS SELECT set_config('a.b', 'c', false)")
    assert scan(client).custom == (b"a.b",)
    assert client.query("SHOW search_path").rows == before


def test_event_trigger(client: Connection) -> None:
    client.query("""CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN SET search_path TO a; END';
        CREATE FUNCTION g() RETURNS void LANGUAGE plpgsql AS 'BEGIN ALTER TABLE t RENAME TO u; END'""")
    assert scan(client).words == {b"e": SETTINGS, b"g": DEFINES}
    client.query("CREATE EVENT TRIGGER et ON ddl_command_start EXECUTE FUNCTION e()")
    known = scan(client)
    assert {known.words[w] for w in (b"create", b"alter", b"drop", b"grant", SELECT_INTO)} == {SETTINGS}
    assert known.words[b"g"] == SETTINGS | DEFINES
    client.query("ALTER EVENT TRIGGER et DISABLE")
    assert scan(client).words == {b"e": SETTINGS, b"g": DEFINES}


def test_needs_notifications_and_extensions(client: Connection) -> None:
    client.query("SET search_path = app; SET standard_conforming_strings = on")
    client.query("""CREATE FUNCTION last_id() RETURNS bigint LANGUAGE sql AS 'SELECT lastval()';
        CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_notify('a', 'b'); RETURN NULL; END $$;
        CREATE TABLE t (a int); CREATE TRIGGER tell AFTER INSERT ON t EXECUTE FUNCTION tell();
        CREATE VIEW v AS SELECT * FROM pg_prepared_statements;
        CREATE TABLE u (a int); CREATE RULE r AS ON INSERT TO u DO ALSO NOTIFY a;
        CREATE EXTENSION dblink; CREATE EXTENSION hstore; CREATE EXTENSION pg_trgm""")
    known = scan(client)
    assert known.notifying == {b"tell", b"t", b"u"}
    assert known.reads_sequences
    assert {known.words.pop(word) for word in known.notifying} == {NOTIFIES}
    assert known.words.pop(b"last_id") == Need.SEQUENCES << NEED_SHIFT
    assert known.words.pop(b"v") == Need.PREPARED << NEED_SHIFT
    assert known.words.pop(b"set_limit") == Touch.SETTINGS
    assert set(known.words) == {b"dblink_connect", b"dblink_connect_u", b"dblink_disconnect"}
    assert known.custom == (b"pg_trgm.similarity_threshold",)


CHANGES = [
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'",
    "ALTER FUNCTION f RENAME TO g",
    "CREATE TABLE t (a int)",
    "ALTER TABLE t ALTER a SET DEFAULT g()",
    "ALTER TABLE t ADD CHECK (a > 0)",
    "CREATE TABLE p (a int PRIMARY KEY)",
    "ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES p ON DELETE CASCADE",
    "CREATE FUNCTION tf() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    "CREATE TRIGGER tr BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION tf()",
    "DROP TRIGGER tr ON t",
    "CREATE RULE r AS ON INSERT TO t DO ALSO SELECT 1",
    "DROP RULE r ON t",
    "CREATE VIEW v AS SELECT a FROM t",
    "CREATE OR REPLACE VIEW v AS SELECT a + 1 AS a FROM t",
    "ALTER VIEW v RENAME TO w",
    "CREATE POLICY o ON t USING (a > 0)",
    "ALTER POLICY o ON t USING (a > 1)",
    "ALTER TABLE t FORCE ROW LEVEL SECURITY",
    "CREATE DOMAIN d AS int",
    "ALTER TABLE t ADD b d",
    "ALTER TABLE p ALTER a TYPE d",
    "ALTER DOMAIN d ADD CHECK (VALUE > 0)",
    "CREATE OPERATOR app.=== (leftarg = int, rightarg = int, function = int4pl)",
    "CREATE AGGREGATE total (int) (sfunc = int4pl, stype = int)",
    "CREATE OR REPLACE AGGREGATE total (int) (sfunc = int4mi, stype = int)",
    "CREATE TYPE c AS (a int)",
    "CREATE FUNCTION ci(c) RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE CAST (c AS int) WITH FUNCTION ci(c)",
    "CREATE FUNCTION ef() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN NULL; END'",
    "CREATE EVENT TRIGGER et ON ddl_command_end EXECUTE FUNCTION ef()",
    "ALTER EVENT TRIGGER et DISABLE",
    "CREATE EXTENSION hstore",
    "DROP EXTENSION hstore",
    "CREATE TABLE q (a int) PARTITION BY LIST (a)",
    "CREATE TABLE q1 PARTITION OF q FOR VALUES IN (1)",
    "ALTER TABLE q DETACH PARTITION q1",
    "CREATE FUNCTION i(int) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT 1'",
    "CREATE INDEX ix ON q1 (i(a))",
    "DROP INDEX ix",
    "DROP FUNCTION tf()",
]


@pytest.fixture
def version_of(client: Connection) -> Callable[[], str]:
    def ask() -> str:
        rows = client.query(VERSION_QUERY.decode()).rows
        assert len(rows) == 1 and len(rows[0]) == 1 and rows[0][0]
        return rows[0][0]

    client.query("SET search_path = app, trap, pg_catalog; SET standard_conforming_strings = on")
    return ask


def test_every_change_changes_the_version(client: Connection, version_of: Callable[[], str]) -> None:
    before = version_of()
    for change in CHANGES:
        client.query("BEGIN; SET LOCAL search_path = app; " + change + "; COMMIT")
        after = version_of()
        assert after != before, change
        before = after


def test_what_changes_no_code_changes_no_version(client: Connection, version_of: Callable[[], str]) -> None:
    client.query("CREATE TABLE app.t (a int); CREATE VIEW app.v AS SELECT 1")
    before = version_of()
    for statement in (
        "INSERT INTO app.t VALUES (1)",
        "CREATE TEMP TABLE x (a serial PRIMARY KEY, b int CHECK (b > 0)); CREATE TEMP VIEW y AS SELECT 1",
        "DROP VIEW y; DROP TABLE x",
        "VACUUM FULL app.t",
        "ANALYZE",
        "TRUNCATE app.t",
        "CREATE INDEX ON app.t (a)",
        "VACUUM FREEZE",
    ):
        client.query(statement)
        assert version_of() == before, statement
