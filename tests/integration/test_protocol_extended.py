"""Extended protocol through a pooler: pipelines, Flush, portals, prepared statements over several servers."""

from collections.abc import Callable

import psycopg
import pytest

from pgferry.embedded import Cluster
from support.clients import raw
from support.pooler import Pooler
from support.wire import (
    Wire,
    bind,
    close,
    describe,
    execute,
    flush,
    last_words,
    message,
    parse,
    query,
    sync,
    types,
)

TWO = {"default_pool_size": 2, "server_round_robin": 1}


@pytest.fixture
def two_servers(cluster: Cluster, make_pooler: Callable[..., Pooler]) -> Pooler:
    """Two servers in turn, so that a client's next transaction is on the other one."""
    return make_pooler(cluster, settings=TWO)


def pid(wire: Wire) -> bytes | None:
    return wire.rows("SELECT pg_backend_pid()")[0][0]


def both_servers(pooler: Pooler) -> Wire:
    """A client of a pool whose two servers are both there, so that they take turns."""
    one, two = Wire.login((pooler.host, pooler.port)), Wire.login((pooler.host, pooler.port))
    one.query("BEGIN")
    two.query("BEGIN")
    one.query("COMMIT")
    two.query("COMMIT")
    two.close()
    return one


@pytest.mark.workers(1)
def test_named_statement_on_every_server(two_servers: Pooler) -> None:
    with both_servers(two_servers) as wire:
        wire.send(parse("SELECT pg_backend_pid(), $1::int + 1", "s"), sync())
        assert types(wire.until()) == "1Z"
        seen = set()
        for n in range(6):
            wire.send(bind([str(n)], "s"), execute(), sync())
            answer = wire.until()
            assert types(answer) == "2DCZ"
            assert answer[1].row[1] == b"%d" % (n + 1)
            seen.add(answer[1].row[0])
        assert len(seen) == 2


@pytest.mark.workers(1)
def test_unnamed_statement_on_every_server(two_servers: Pooler) -> None:
    with both_servers(two_servers) as wire, both_servers(two_servers) as other:
        wire.send(parse("SELECT pg_backend_pid(), 'mine'"), sync())
        assert types(wire.until()) == "1Z"
        seen = set()
        for n in range(4):
            for _ in range(1 + n % 2):  # so that it is not always the same server's turn
                other.send(parse("SELECT 'another'"), bind(), execute(), sync())
                assert other.until()[2].row == [b"another"]
            wire.send(bind(), execute(), sync())
            answer = wire.until()
            assert answer[1].row[1] == b"mine"
            seen.add(answer[1].row[0])
        assert len(seen) == 2
        wire.query("SELECT 1")  # drops it, as on a direct connection
        wire.send(bind(), sync())
        assert wire.until()[0].text == "unnamed prepared statement does not exist"


def test_names_are_the_clients_own(pooler: Pooler) -> None:
    address = (pooler.host, pooler.port)
    with Wire.login(address) as one, Wire.login(address) as two:
        for wire, word in ((one, "one"), (two, "two")):
            wire.send(parse(f"SELECT '{word}'", "same"), sync())
            assert types(wire.until()) == "1Z"
        for wire, word in ((one, b"one"), (two, b"two")):
            wire.send(bind([], "same"), execute(), sync())
            assert wire.until()[1].row == [word]


@pytest.mark.parametrize(
    ("messages", "code", "text"),
    [
        (parse("SELECT 1", "s") + parse("SELECT 2", "s"), "42P05", 'prepared statement "s" already exists'),
        (bind([], "gone"), "26000", 'prepared statement "gone" does not exist'),
        (describe("gone"), "26000", 'prepared statement "gone" does not exist'),
        (
            parse("SELECT 1", "s") + close("s") + bind([], "s"),
            "26000",
            'prepared statement "s" does not exist',
        ),
        (parse("SELEC", "s"), "42601", 'syntax error at or near "SELEC"'),
        (
            parse("SELECT $1", "s") + bind([], "s"),
            "08P01",
            'bind message supplies 0 parameters, but prepared statement "s" requires 1',
        ),
        (execute("none"), "34000", 'portal "none" does not exist'),
    ],
    ids=["twice", "bind unknown", "describe unknown", "closed", "syntax", "parameters", "portal"],
)
def test_errors_name_the_clients_statement(pooler: Pooler, messages: bytes, code: str, text: str) -> None:
    with Wire.login((pooler.host, pooler.port)) as wire:
        wire.send(messages, execute(), sync())
        error = wire.until()[-2]
        assert (error.sqlstate, error.text) == (code, text)
        assert types(wire.query("SELECT 1")) == "TDCZ"


def test_close_of_an_unknown_name_is_no_error(pooler: Pooler) -> None:
    with Wire.login((pooler.host, pooler.port)) as wire:
        wire.send(close("never"), close("", "P"), sync())
        assert types(wire.until()) == "33Z"


def test_failed_parse_leaves_the_name_free(pooler: Pooler) -> None:
    with Wire.login((pooler.host, pooler.port)) as wire:
        wire.send(
            parse("SELECT nothing", "s"), sync(), parse("SELECT 5", "s"), bind([], "s"), execute(), sync()
        )
        answer = wire.until(count=2)
        assert types(answer) == "EZ12DCZ"


def test_repeated_parse_in_a_failed_transaction_fails(pooler: Pooler) -> None:
    """The server has the statement from another client: it must not be pretended that Parse succeeds."""
    address = (pooler.host, pooler.port)
    with Wire.login(address) as other, Wire.login(address) as wire:
        other.send(parse("SELECT 'shared'", "a"), sync())
        other.until()
        wire.send(
            query("BEGIN"), query("SELECT 1/0"), parse("SELECT 'shared'", "b"), sync(), query("ROLLBACK")
        )
        answer = wire.until(count=4)
        assert [m.sqlstate for m in answer if m.type == "E"] == ["22012", "25P02"]
        wire.query("BEGIN")
        wire.query("SELECT 1/0")
        wire.send(parse("SELECT 'shared'", "b"), sync())
        assert wire.until()[0].sqlstate == "25P02"


def test_many_batches_in_flight_with_errors(pooler: Pooler) -> None:
    with Wire.login((pooler.host, pooler.port)) as wire:
        data = b""
        for n in range(200):
            sql = "SELECT 1/0" if n % 7 == 3 else f"SELECT {n}"
            data += parse(sql, f"s{n % 20}" if n % 3 else "") + bind([], f"s{n % 20}" if n % 3 else "")
            data += execute() + (close(f"s{n % 20}") if n % 3 else b"") + sync()
            if n % 7 == 3 and n % 3:
                data += close(f"s{n % 20}") + sync()
        wire.send(data)
        expected = 200 + sum(1 for n in range(200) if n % 7 == 3 and n % 3)
        answer = wire.until(count=expected)
        rows = [m.row[0] for m in answer if m.type == "D"]
        assert rows == [b"%d" % n for n in range(200) if n % 7 != 3]
        assert {m.sqlstate for m in answer if m.type == "E"} == {"22012"}


def test_flush(pooler: Pooler) -> None:
    with Wire.login((pooler.host, pooler.port)) as wire:
        wire.send(parse("SELECT 1", "f"), flush())
        assert wire.recv().type == "1"
        wire.send(describe("f"), flush())
        assert types([wire.recv(), wire.recv()]) == "tT"
        wire.send(bind([], "f"), execute(), flush())
        assert types([wire.recv() for _ in range(3)]) == "2DC"
        wire.send(sync())
        assert types(wire.until()) == "Z"


def test_portal_with_row_limit(pooler: Pooler) -> None:
    with Wire.login((pooler.host, pooler.port)) as wire:
        wire.query("BEGIN")
        wire.send(parse("SELECT generate_series(1, 5)"), bind(portal="p"), execute("p", 2), sync())
        assert types(wire.until()) == "12DDsZ"
        wire.send(execute("p", 2), execute("p", 2), sync())
        assert types(wire.until()) == "DDsDCZ"
        wire.query("COMMIT")
        wire.send(execute("p", 2), sync())
        assert wire.until()[0].sqlstate == "34000"


def test_lru_with_small_limit(cluster: Cluster, make_pooler: Callable[..., Pooler]) -> None:
    pooler = make_pooler(cluster, settings={"max_prepared_statements": 2, "default_pool_size": 1})
    with Wire.login((pooler.host, pooler.port)) as wire:
        for n in range(6):
            wire.send(parse(f"SELECT {n}", f"s{n}"), sync())
            assert types(wire.until()) == "1Z"
        for n in [0, 5, 3, 0, 1, 2, 4, 0]:
            wire.send(bind([], f"s{n}"), execute(), sync())
            assert wire.until()[1].row == [b"%d" % n]
        names = wire.rows("SELECT count(*) FROM pg_prepared_statements")
        assert names == [[b"2"]]


@pytest.mark.parametrize("command", ["DEALLOCATE ALL", "DISCARD ALL"])
def test_forgetting_all(pooler: Pooler, command: str) -> None:
    with Wire.login((pooler.host, pooler.port)) as wire, Wire.login((pooler.host, pooler.port)) as other:
        for w in (wire, other):
            w.send(parse("SELECT 1", "s"), sync())
            w.until()
        wire.query(command)
        wire.send(bind([], "s"), sync())
        assert wire.until()[0].text == 'prepared statement "s" does not exist'
        other.send(bind([], "s"), execute(), sync())
        assert types(other.until()) == "2DCZ"
        wire.send(parse("SELECT 2", "s"), bind([], "s"), execute(), sync())
        assert wire.until()[2].row == [b"2"]


def test_preparing_anew_after_ddl(pooler: Pooler, database: str) -> None:
    """A stale plan is an error, as on a direct connection; whoever prepares anew gets a new plan."""
    with Wire.login((pooler.host, pooler.port), database=database) as wire:
        wire.query("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
        wire.send(parse("SELECT * FROM t", "s"), bind([], "s"), execute(), sync())
        assert len(wire.until()[2].row) == 1
        wire.query("ALTER TABLE t ADD b int")
        wire.send(bind([], "s"), execute(), sync())
        assert wire.until()[0].text == "cached plan must not change result type"
        wire.send(close("s"), parse("SELECT * FROM t", "s"), bind([], "s"), execute(), sync())
        answer = wire.until()
        assert types(answer) == "312DCZ" and len(answer[3].row) == 2


@pytest.mark.parametrize("change", ["ADD b int", "ALTER a TYPE text"])
@pytest.mark.parametrize("again", ["bind", "describe", "in a transaction"])
def test_described_columns_hold_on_every_server(
    cluster: Cluster, make_pooler: Callable[..., Pooler], database: str, change: str, again: str
) -> None:
    """Who was told the columns of a statement never gets rows of others, from servers that did not know it either."""
    pooler = make_pooler(cluster, settings=TWO)
    cluster.sql("CREATE TABLE t (a int); INSERT INTO t VALUES (1)", database)
    with (
        Wire.login((pooler.host, pooler.port), database=database) as wire,
        Wire.login((pooler.host, pooler.port), database=database) as other,
    ):
        other.query("BEGIN")
        wire.send(parse("SELECT * FROM t WHERE a::text <> $1", "s"), describe("s"), sync())
        assert types(wire.until()) == "1tTZ"
        wire.send(bind(["x"], "s"), execute(), bind(["x"], "s"), execute(), sync())
        assert types(wire.until()) == "2DC2DCZ"
        wire.query("BEGIN")
        other.query("COMMIT")
        # On the other server, which prepares it anew: the same columns.
        other.send(
            parse("SELECT * FROM t WHERE a::text <> $1", "mine"), bind(["x"], "mine"), execute(), sync()
        )
        assert types(other.until()) == "12DCZ"
        other.send(close("mine"), sync())
        other.until()
        other.query("BEGIN")
        wire.query("COMMIT")
        cluster.sql(f"ALTER TABLE t {change}", database)
        pooler.admin("RECONNECT")
        other.query("COMMIT")
        if again == "in a transaction":
            wire.query("BEGIN")
        use = describe("s") if again == "describe" else bind(["x"], "s") + execute()
        wire.send(use, bind(["x"], "s"), execute(), sync())
        answer = wire.until()
        assert types(answer) == "EZ"
        assert (answer[0].sqlstate, answer[0].text) == ("0A000", "cached plan must not change result type")
        assert answer[0].fields["R"] == "RevalidateCachedQuery"  # by which drivers know it
        wire.query("ROLLBACK")
        wire.send(close("s"), parse("SELECT * FROM t", "s"), describe("s"), bind([], "s"), execute(), sync())
        assert types(wire.until()) == "31tT2DCZ"


def test_described_statements_on_new_servers(cluster: Cluster, make_pooler: Callable[..., Pooler]) -> None:
    """Nothing has changed: pipelines go on as if the server had known the statement."""
    pooler = make_pooler(cluster, settings=TWO)
    with Wire.login((pooler.host, pooler.port)) as wire:
        wire.send(
            parse("SELECT $1::int, 'x'", "s"), describe("s"), parse("SELECT 2", "t"), describe("t"), sync()
        )
        wire.until()
        for _ in range(3):
            pooler.admin("RECONNECT")
            wire.send(bind(["1"], "s"), execute(), bind([], "t"), execute(), describe("s"), sync())
            wire.send(bind(["7"], "s"), execute(), sync())
            assert types(wire.until()) == "2DC2DCtTZ"
            assert wire.until()[1].row == [b"7", b"x"]
        pooler.admin("RECONNECT")
        wire.query("BEGIN")
        wire.query("SELECT 1/0")
        wire.send(bind(["1"], "s"), execute(), sync())
        assert wire.until()[0].sqlstate == "25P02"
        wire.query("ROLLBACK")
        wire.send(bind(["1"], "s"), execute(), sync())
        assert types(wire.until()) == "2DCZ"


def test_one_text_in_several_schemas(
    cluster: Cluster, make_pooler: Callable[..., Pooler], database: str
) -> None:
    """Tenants whose tables differ send the same text: each has its own columns, and no error because of another."""
    cluster.sql(
        "CREATE SCHEMA a; CREATE SCHEMA b; CREATE TABLE a.t (v int); CREATE TABLE b.t (v text, w int);"
        "INSERT INTO a.t VALUES (1); INSERT INTO b.t VALUES ('x', 2)",
        database,
    )
    pooler = make_pooler(cluster, settings=TWO)
    with (
        Wire.login((pooler.host, pooler.port), database=database) as one,
        Wire.login((pooler.host, pooler.port), database=database) as two,
    ):
        one.query("SET search_path = a")
        two.query("SET search_path = b")
        for wire in (one, two):
            wire.send(parse("SELECT * FROM t", "s"), describe("s"), sync())
            assert types(wire.until()) == "1tTZ"
        for _ in range(6):
            for wire, row in ((one, [b"1"]), (two, [b"x", b"2"])):
                wire.send(bind([], "s"), execute(), sync())
                answer = wire.until()
                assert types(answer) == "2DCZ"
                assert answer[1].row == row


def test_ddl_from_elsewhere(cluster: Cluster, pooler: Pooler, database: str) -> None:
    """DDL that did not go through the pooler is learned from the first error."""
    cluster.sql("CREATE TABLE t (a int); INSERT INTO t VALUES (1)", database)
    with Wire.login((pooler.host, pooler.port), database=database) as wire:
        wire.send(parse("SELECT * FROM t", "s"), bind([], "s"), execute(), sync())
        wire.until()
        cluster.sql("ALTER TABLE t ADD b int", database)
        wire.send(bind([], "s"), execute(), sync())
        assert wire.until()[0].sqlstate == "0A000"
        wire.send(close("s"), parse("SELECT * FROM t", "s"), bind([], "s"), execute(), sync())
        assert types(wire.until()) == "312DCZ"


def test_psycopg_pipeline(pooler: Pooler) -> None:
    with pooler.connect() as conn, conn.pipeline() as pipe:
        cursors = [conn.execute("SELECT %s::int", [n]) for n in range(50)]
        pipe.sync()
        assert [c.fetchone() for c in cursors] == [(n,) for n in range(50)]
        bad = conn.execute("SELECT 1/0")
        with pytest.raises(psycopg.errors.DivisionByZero):
            bad.fetchone()
        pipe.sync()
        assert conn.execute("SELECT 7").fetchone() == (7,)


def test_psycopg_prepared_on_many_clients(two_servers: Pooler) -> None:
    clients = [two_servers.connect() for _ in range(6)]
    for client in clients:
        client.prepare_threshold = 0
    for n in range(5):
        for i, client in enumerate(clients):
            assert client.execute("SELECT %s::int, %s::text", [n, i]).fetchone() == (n, str(i))
    for client in clients:
        client.close()


def test_message_of_an_unknown_type(pooler: Pooler) -> None:
    with Wire.login((pooler.host, pooler.port)) as wire:
        wire.send(message(b"y", b"?"))
        assert wire.recv().fields["S"] == "FATAL"
        assert wire.at_end()


@pytest.mark.parametrize("which", ["portal", "statement"])
def test_a_bind_whose_name_has_no_end_is_refused(
    cluster: Cluster, make_pooler: Callable[..., Pooler], which: str
) -> None:
    """It is not kept whole to look for one: 1 GB of it would be."""
    pooler = make_pooler(cluster, ignore="Bind")
    with raw(pooler) as wire:
        wire.query("SELECT 1")
        start = b"" if which == "portal" else b"portal\0"
        wire.send(b"B" + (1 << 30).to_bytes(4, "big") + start + b"x" * 100_000)
        assert [m.sqlstate for m in last_words(wire) if m.type == "E"] == ["08P01"]
    with raw(pooler) as wire:
        assert wire.rows("SELECT 1") == [[b"1"]]
