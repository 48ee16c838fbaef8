"""What the test suites of other projects (`make foreign`) have shown to be wrong, each as small as can be."""

from collections.abc import Callable

import pytest

from pgferry.embedded import Cluster
from support.pooler import Pooler
from support.wire import Message, Wire, bind, describe, execute, parse, query, sync, types

Make = Callable[..., Pooler]
ONE = {"default_pool_size": 1}


def error(wire: Wire, sql: str) -> Message:
    """What PostgreSQL says against it."""
    return next(m for m in wire.query(sql) if m.type == "E")


def test_unnamed_execute_is_described_on_any_server(cluster: Cluster, make_pooler: Make) -> None:
    """psql's \\gdesc: PostgreSQL looks up the columns of EXECUTE when it parses it, so what it names comes first."""
    pooler = make_pooler(cluster, settings=ONE)
    with Wire.login((pooler.host, pooler.port)) as wire:
        wire.query("PREPARE q AS SELECT 1 AS first, 2 AS second")
        wire.send(parse("EXECUTE q"), sync())
        assert types(wire.until()) == "1Z"
        pooler.admin("RECONNECT")
        wire.send(describe(), sync())
        assert types(wire.until()) == "tTZ"
        pooler.admin("RECONNECT")
        wire.send(bind(), describe(kind="P"), execute(), sync())
        assert types(wire.until()) == "2TDCZ"


def test_named_execute_is_described_on_any_server(cluster: Cluster, make_pooler: Make) -> None:
    """The same for a statement whose columns the client knows: they have not changed."""
    pooler = make_pooler(cluster, settings=ONE)
    with Wire.login((pooler.host, pooler.port)) as wire:
        wire.query("PREPARE q AS SELECT 1 AS first, 2 AS second")
        wire.send(parse("EXECUTE q", "s"), describe("s"), sync())
        assert types(wire.until()) == "1tTZ"
        pooler.admin("RECONNECT")
        wire.send(describe("s"), sync())
        assert types(wire.until()) == "tTZ"
        pooler.admin("RECONNECT")
        wire.send(bind([], "s"), execute(), sync())
        assert types(wire.until()) == "2DCZ"


def test_first_need_of_sequences_outside_transactions(
    cluster: Cluster, make_pooler: Make, database: str
) -> None:
    """On a server with another client's values, which the client has had for earlier transactions already."""
    pooler = make_pooler(cluster, settings=ONE)
    cluster.sql("CREATE SEQUENCE s", database)
    address = (pooler.host, pooler.port)
    with Wire.login(address, database=database) as other, Wire.login(address, database=database) as wire:
        other.query("SELECT nextval('s')")
        wire.query("CREATE TEMP TABLE pins (a int)")
        assert error(wire, "SELECT U&'wrong: +0061' UESCAPE +").sqlstate == "42601"
        assert error(wire, "SELECT lastval()").text == "lastval is not yet defined in this session"
        assert wire.rows("SELECT nextval('s')") == [[b"2"]]
        assert wire.rows("SELECT lastval()") == [[b"2"]]


def test_dynamic_code_in_a_transaction(cluster: Cluster, make_pooler: Make, database: str) -> None:
    """The first that may read sequences, on a server that others have used: it goes on, and reads nobody's values."""
    pooler = make_pooler(cluster, settings=ONE)
    cluster.sql("CREATE SEQUENCE s", database)
    address = (pooler.host, pooler.port)
    with Wire.login(address, database=database) as other, Wire.login(address, database=database) as wire:
        other.query("SELECT nextval('s')")
        wire.query("BEGIN")
        wire.query("SELECT 1")
        assert types(wire.query("DO $$BEGIN EXECUTE 'CREATE TABLE t (a int)'; END$$")) == "CZ"
        reads = error(wire, "DO $$BEGIN EXECUTE 'SELECT lastval()'; END$$")
        assert reads.text == "lastval is not yet defined in this session"


MAKE = {
    "noise": "CREATE FUNCTION noise() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "run": """CREATE FUNCTION run(text) RETURNS int LANGUAGE plpgsql AS
        'DECLARE n int; BEGIN EXECUTE $1 INTO n; RETURN n; END'""",
    "last": "CREATE FUNCTION last() RETURNS bigint LANGUAGE sql AS 'SELECT lastval()'",
}


@pytest.mark.parametrize("how", ["simple", "extended", "in one transaction"])
@pytest.mark.parametrize("what", ["run", "last"])
def test_functions_that_are_not_known_yet(
    cluster: Cluster, make_pooler: Make, database: str, how: str, what: str
) -> None:
    """Between CREATE FUNCTION and the next look at the catalog nobody knows what the function executes or reads."""
    pooler = make_pooler(cluster, settings=ONE)
    cluster.sql("CREATE SEQUENCE s", database)
    address = (pooler.host, pooler.port)
    with Wire.login(address, database=database) as other, Wire.login(address, database=database) as wire:
        wire.query("PREPARE q AS SELECT 7")
        pooler.admin("RECONNECT")
        other.query("SELECT nextval('s')")
        if how == "in one transaction":
            wire.query("BEGIN")
        wire.query(MAKE["noise"])  # the catalog is read at once; soon after that, not again
        wire.query(MAKE[what])
        sql = "SELECT run('EXECUTE q')" if what == "run" else "SELECT last()"
        wire.send(parse(sql) + bind() + execute() + sync() if how == "extended" else query(sql))
        answer = wire.until()
        if what == "run" and how == "in one transaction":  # nothing is prepared there that nobody has named
            assert [m.sqlstate for m in answer if m.type == "E"] == ["26000"]
        elif what == "run":
            assert [m.row for m in answer if m.type == "D"] == [[b"7"]]
        else:
            assert [m.text for m in answer if m.type == "E"] == ["lastval is not yet defined in this session"]


def test_what_cannot_be_prepared_again_harms_no_other_transaction(
    cluster: Cluster, make_pooler: Make, database: str
) -> None:
    """A prepared statement whose table is gone fails where it is named, not where functions are not known yet."""
    pooler = make_pooler(cluster, settings=ONE)
    cluster.sql("CREATE TABLE gone (a int)", database)
    with Wire.login((pooler.host, pooler.port), database=database) as wire:
        wire.query("PREPARE q AS SELECT * FROM gone")
        cluster.sql("DROP TABLE gone", database)
        pooler.admin("RECONNECT")
        wire.query(MAKE["noise"])
        wire.query(MAKE["last"])  # from here on the catalog is not known
        for sql in ("BEGIN", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SELECT noise()", "COMMIT"):
            assert "E" not in types(wire.query(sql)), sql
        assert error(wire, "EXECUTE q").sqlstate == "42P01"
        assert wire.rows("SELECT 1") == [[b"1"]]


def test_own_values_of_before_are_not_the_last(cluster: Cluster, make_pooler: Make, database: str) -> None:
    """A server that has served nobody else since then knows the client's sequence values, but not the newest."""
    pooler = make_pooler(cluster, settings={"default_pool_size": 2, "server_round_robin": 1})
    cluster.sql("CREATE SEQUENCE s", database)
    address = (pooler.host, pooler.port)
    with Wire.login(address, database=database) as other, Wire.login(address, database=database) as wire:
        for sql in ("BEGIN", "COMMIT"):
            wire.query(sql)
            other.query(sql)  # so that there are two servers
        for _ in range(4):
            wire.query("SELECT lastval()")  # from now on both are kept clean
        for value in (b"1", b"2", b"3"):
            assert wire.rows("SELECT nextval('s')") == [[value]]
        last = wire.query("SELECT lastval()")
        assert [m.row for m in last if m.type == "D"] in ([], [[b"3"]])
