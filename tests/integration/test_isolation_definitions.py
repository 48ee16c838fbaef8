"""What defines functions where no text shows it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import psycopg
import pytest

from pgferry.embedded import Cluster
from pgferry.session.catalog import VERSION_QUERY
from support.clients import raw
from support.pooler import Pooler, eventually
from support.wire import Message, Wire, bind, execute, parse, query, sync

Make = Callable[..., Pooler]

LOOK = "SELECT current_setting('work_mem'), coalesce(current_setting('app.tenant', true), '')"
CLEAN: list[bytes | None] = [b"4MB", b""]

pytestmark = pytest.mark.workers(1)

SETTER = """CREATE OR REPLACE FUNCTION g() RETURNS int LANGUAGE plpgsql AS ''
    BEGIN PERFORM set_config(''''app.tenant'''', ''''evil'''', false); SET work_mem = ''''7MB''''; RETURN 1; END''"""
HARMLESS = "CREATE FUNCTION g() RETURNS int LANGUAGE sql AS 'SELECT 1'"


def maker(body: str) -> str:
    return f"CREATE FUNCTION make_g() RETURNS int LANGUAGE plpgsql AS 'BEGIN {body}; RETURN 1; END'"


# What defines g(), or has something call it, without a word of that in `SELECT make_g()`.
MAKERS = {
    "create": [maker(SETTER)],
    "dynamic": [
        maker(
            "EXECUTE replace(''" + SETTER.replace("'", "''").replace("CREATE", "CXEATE") + "'', ''X'', ''R'')"
        )
    ],
    "literal": [maker("EXECUTE ''" + SETTER.replace("'", "''") + "''")],
    "by another": [maker(SETTER), "ALTER FUNCTION make_g() RENAME TO make_it", maker("PERFORM make_it()")],
    "by the name of another": [
        maker(SETTER),
        "ALTER FUNCTION make_g() RENAME TO make_it",
        "CREATE FUNCTION run(f text) RETURNS int LANGUAGE plpgsql AS"
        " 'BEGIN EXECUTE format(''SELECT %I()'', f); RETURN 1; END'",
        maker("PERFORM run(''make_'' || ''it'')"),
    ],
}


@dataclass
class Place:
    """A database behind a pooler."""

    pooler: Pooler
    database: str
    cluster: Cluster

    def has(self, *texts: str) -> None:
        """Run these before pgferry's first look at the catalog."""
        for text in texts:
            self.cluster.sql(text, self.database)

    def join(self) -> Wire:
        return raw(self.pooler, self.database)

    def pins(self) -> str:
        return "".join(row["reasons"] for row in self.pooler.show("PINS"))

    def finds_nothing(self, owner: Wire) -> None:
        """The next client of that server, now or when its owner has left, finds a session as it was made."""
        witness = self.join()
        witness.send(query(LOOK))
        if witness.silent(0.5):
            owner.close()
        assert [m.row for m in witness.until() if m.type == "D"] == [CLEAN]


@pytest.fixture
def one(make_pooler: Make, cluster: Cluster, database: str) -> Place:
    """A pool of one server, so that whoever comes next finds what is left."""
    return Place(make_pooler(cluster, settings={"default_pool_size": 1}), database, cluster)


def no_errors(answers: list[Message]) -> None:
    assert [m.text for m in answers if m.type == "E"] == []


@pytest.mark.parametrize(
    ("made_by", "how"),
    [*(("create", how) for how in ("query", "pipeline", "batch")), *((made_by, "two") for made_by in MAKERS)],
)
def test_a_function_that_makes_a_function(one: Place, made_by: str, how: str) -> None:
    one.has(*MAKERS[made_by])
    owner = one.join()
    if how == "query":
        answers = owner.query("SELECT make_g(); SELECT g()")
    elif how == "pipeline":
        owner.send(query("SELECT make_g()"), query("SELECT g()"))
        answers = owner.until(count=2)
    elif how == "batch":
        owner.send(
            parse("SELECT make_g()"), bind(), execute(), parse("SELECT g()"), bind(), execute(), sync()
        )
        answers = owner.until()
    else:
        answers = [*owner.query("SELECT make_g()"), *owner.query("SELECT g()")]
    no_errors(answers)
    one.finds_nothing(owner)


DEFINITIONS = [
    "ALTER FUNCTION h() RENAME TO g",
    "CREATE VIEW v AS SELECT h()",
    "CREATE RULE r AS ON UPDATE TO t DO ALSO SELECT h()",
    "CREATE TRIGGER tr BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION tr_h()",
    "CREATE DOMAIN d AS int CHECK (h() = VALUE)",
    "CREATE OPERATOR @@@ (LEFTARG = int, RIGHTARG = int, FUNCTION = h2)",
    "ALTER TABLE t ADD c int DEFAULT h2(1, 1)",
    "CREATE TABLE t2 (a int DEFAULT h())",
    "CREATE CAST (text AS point) WITH FUNCTION h_cast(text)",
]


@pytest.mark.parametrize(
    ("define", "way"),
    [*((define, "function") for define in DEFINITIONS), (DEFINITIONS[0], "DO"), (DEFINITIONS[0], "EXECUTE")],
)
def test_other_definitions(one: Place, define: str, way: str) -> None:
    body = SETTER.replace("'' BEGIN", "''BEGIN")
    h = body.replace("''", "'").replace(" g()", " {0}").replace("RETURNS int", "RETURNS {1}")
    run = maker(define.replace("'", "''"))
    one.has(
        "CREATE TABLE t (a int); INSERT INTO t VALUES (1)",
        h.format("h()", "int"),
        h.format("h2(int, int)", "int"),
        h.format("h_cast(text)", "point").replace("RETURN 1", "RETURN point(1, 2)"),
        h.format("tr_h()", "trigger").replace("RETURN 1", "RETURN NEW"),
        run,
    )
    use = {
        "ALTER F": "SELECT g()",
        "CREATE V": "SELECT * FROM v",
        "CREATE R": "UPDATE t SET a = 2",
        "CREATE T": "UPDATE t SET a = 2" if "TRIGGER" in define else "INSERT INTO t2 DEFAULT VALUES",
        "CREATE D": "SELECT 1::d",
        "CREATE O": "SELECT 1 @@@ 2",
        "ALTER T": "INSERT INTO t VALUES (3)",
        "CREATE C": "SELECT '1'::text::point",
    }[define[: define.index(" ") + 2]]
    owner = one.join()
    if way == "EXECUTE":
        owner.query("PREPARE p AS SELECT make_g()")
    text = {"function": "SELECT make_g()", "DO": "DO 'BEGIN PERFORM make_g(); END'", "EXECUTE": "EXECUTE p"}[
        way
    ]
    owner.send(query(text), query(use))
    no_errors(owner.until(count=2))
    one.finds_nothing(owner)


def test_whoever_calls_what_another_client_s_function_has_made(
    make_pooler: Make, cluster: Cluster, database: str
) -> None:
    place = Place(make_pooler(cluster, settings={"default_pool_size": 2}), database, cluster)
    place.has(maker(SETTER), HARMLESS)
    owner, caller = place.join(), place.join()
    caller.query("BEGIN")
    no_errors(owner.query("SELECT make_g()"))
    no_errors(caller.query("SELECT g()"))
    no_errors(caller.query("COMMIT"))
    assert caller.rows(LOOK) == [[b"7MB", b"evil"]]
    for _ in range(3):
        assert owner.rows(LOOK) == [CLEAN]
        owner.query("BEGIN")
        assert place.join().rows(LOOK) == [CLEAN]
        owner.query("COMMIT")


def test_what_defines_nothing_in_the_end_does_not_have_the_catalog_read_again(
    one: Place, cluster: Cluster
) -> None:
    """Its version is looked at, and that is all."""
    one.has(maker("EXECUTE replace(''SELXCT 1'', ''X'', ''E'')"))
    owner = one.join()
    with psycopg.connect(cluster.conninfo(dbname="postgres"), autocommit=True) as direct:
        for _ in range(3):
            no_errors(owner.query("SELECT make_g()"))
            eventually(lambda: "being read" not in one.pins())
            found = direct.execute(
                "SELECT query FROM pg_stat_activity WHERE application_name LIKE 'pgferry%%' AND datname = %s",
                (one.database,),
            ).fetchall()
            assert [row[0] for row in found] == [VERSION_QUERY.decode()[:1023]]


OUTSIDE = SETTER.replace("''", "$$").replace("$$$$", "'")


def test_functions_from_outside_after_a_quiet_time(one: Place) -> None:
    """Nobody comes between what has run and the next client: nobody has looked at the catalog, either."""
    owner = one.join()
    owner.query("SELECT 1")
    one.has(OUTSIDE)
    no_errors(owner.query("SELECT g()"))
    time.sleep(4)
    assert one.join().rows(LOOK) == [CLEAN]


def test_functions_from_outside_and_a_server_in_use(one: Place) -> None:
    """The server has another client when the change is seen."""
    owner, other = one.join(), one.join()
    owner.query("SELECT 1")
    one.has(OUTSIDE)
    no_errors(owner.query("SELECT g()"))
    no_errors(other.query("BEGIN"))
    for _ in range(40):
        other.query("SELECT 1")
        time.sleep(0.05)
    no_errors(other.query("COMMIT"))
    one.finds_nothing(owner)
    one.finds_nothing(other)


def test_functions_from_outside(one: Place) -> None:
    """What a direct connection defines is seen within a second or so, and what has run meanwhile is undone."""
    owner = one.join()
    owner.query("SELECT 1")
    one.has(OUTSIDE)
    no_errors(owner.query("SELECT g()"))
    time.sleep(1.5)  # nobody comes
    for _ in range(30):  # somebody does
        owner.query("SELECT 1")
        time.sleep(0.05)
    one.finds_nothing(owner)
