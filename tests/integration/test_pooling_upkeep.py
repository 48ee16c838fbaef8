"""What happens to servers between clients: lifetimes, checks, order of use, hosts, entries come and gone."""

import os
import socket
import time
from collections.abc import Callable

import psycopg
import pytest

from pgferry.embedded import Cluster
from support.clients import begin, fatal, pid_of, raw, refusal
from support.pooler import Pooler, eventually
from support.ports import take_port
from support.wire import Wire, query, startup, types

Make = Callable[..., Pooler]


@pytest.fixture
def server(cluster: Cluster) -> Callable[..., str]:
    def line(**more: object) -> str:
        pairs = {"host": "127.0.0.1", "port": cluster.port, "dbname": "postgres", **more}
        return " ".join(f"{k}={v}" for k, v in pairs.items())

    return line


def pids(pooler: Pooler, db: str = "postgres") -> set[int]:
    return {s["remote_pid"] for s in pooler.show("SERVERS", database=db)}


def test_lifetime_and_idle_timeout(make_pooler: Make, server: Callable[..., str]) -> None:
    pooler = make_pooler(
        databases={
            "postgres": server(),
            "short": server(server_lifetime=1, pool_size=1),
        }
    )
    busy, wire = raw(pooler, "short"), raw(pooler)
    pid = pid_of(wire)
    pooler.set({"server_idle_timeout": 0.3})
    eventually(lambda: pid not in pids(pooler))
    pooler.wait_log("closing because: server idle timeout")
    pooler.set({"server_idle_timeout": 600})
    first = begin(busy)
    time.sleep(1.2)
    assert types(busy.query("SELECT 1")) == "TDCZ"  # not under a client's feet
    assert types(busy.query("COMMIT")) == "CZ"
    pooler.wait_log("closing because: server lifetime over")
    assert pid_of(busy) != first
    # 0: each server serves once.
    pooler.set({"server_lifetime": 0})
    assert len({pid_of(wire) for _ in range(3)}) == 3


@pytest.mark.workers(1)
def test_check_query(make_pooler: Make, server: Callable[..., str], cluster: Cluster) -> None:
    pooler = make_pooler(
        databases={"postgres": server(pool_size=1)},
        settings={
            "server_check_delay": 0,
            "server_check_query": "SELECT set_config('my.checked', 'yes', false)",
        },
    )
    wire = raw(pooler)
    eventually(lambda: wire.rows("SELECT current_setting('my.checked', true)") == [[b"yes"]])
    first = pid_of(wire)
    # A check that fails costs the server, not the client.
    pooler.set({"server_check_query": "SELECT 1/0"})
    wire.query("SELECT 1")
    pooler.wait_log("closing because: test query failed")
    pooler.set({"server_check_query": "<empty>", "server_check_delay": 0.3})
    second = pid_of(wire)
    assert second != first
    eventually(lambda: pooler.show("POOLS", database="postgres")[0]["sv_used"] == 1)
    assert pid_of(wire) == second
    eventually(lambda: pooler.show("POOLS", database="postgres")[0]["sv_used"] == 1)
    cluster.sql(f"SELECT pg_terminate_backend({second})")
    assert pid_of(wire) != second
    pooler.set({"server_check_query": "", "server_check_delay": 0})
    assert pid_of(wire) == pid_of(wire)


@pytest.mark.workers(1)
def test_order_of_use(make_pooler: Make, server: Callable[..., str]) -> None:
    pooler = make_pooler(databases={"postgres": server(pool_size=3)})
    crowd = [raw(pooler) for _ in range(3)]
    for _ in range(2):  # the first server that is free reads the catalog
        every = [begin(wire) for wire in crowd]
        for wire in crowd:
            wire.query("COMMIT")
    assert len(set(every)) == 3
    wire = crowd[0]
    assert {pid_of(wire) for _ in range(6)} == {every[2]}  # last in, first out
    pooler.set({"server_round_robin": 1})
    seen = [pid_of(wire) for _ in range(6)]
    assert set(seen) == set(every)
    assert seen[:3] == seen[3:]


def test_connect_query_and_parameters_of_the_entry(make_pooler: Make, server: Callable[..., str]) -> None:
    pooler = make_pooler(
        databases={
            "postgres": server(connect_query="'SET work_mem = ''55MB'''", timezone="Asia/Tokyo"),
            "reported": server(connect_query="'SET timezone = ''Asia/Tokyo''; SET datestyle = SQL'"),
            "broken": server(connect_query="'SELECT nothing'"),
            "named": server(application_name="mine", client_encoding="LATIN1", datestyle="German"),
        }
    )
    with raw(pooler) as wire:
        assert wire.rows("SHOW work_mem") == [[b"55MB"]]
        assert wire.parameters["TimeZone"] == "Asia/Tokyo"
        assert wire.rows("SHOW TimeZone") == [[b"Asia/Tokyo"]]
    for _ in range(2):  # what it sets is what clients begin with: it is not set back for them
        with raw(pooler, "reported") as wire:
            assert wire.parameters["TimeZone"] == "Asia/Tokyo"
            assert wire.rows("SHOW TimeZone") == [[b"Asia/Tokyo"]]
            assert wire.rows("SHOW datestyle")[0][0].startswith(b"SQL")  # type: ignore[union-attr]
        pooler.admin("RECONNECT reported")
    with raw(pooler, "broken") as wire:
        assert types(wire.query("SELECT 1")) == "TDCZ"
    pooler.wait_log('column "nothing" does not exist')
    with raw(pooler, "named") as wire:
        assert wire.rows("SHOW application_name") == [[b"mine"]]
        assert wire.rows("SHOW client_encoding") == [[b"LATIN1"]]
        assert wire.parameters["DateStyle"].startswith("German")


def test_words_at_login(make_pooler: Make, server: Callable[..., str]) -> None:
    pooler = make_pooler(
        databases={"postgres": server()},
        settings={"login_notify_message": "all hands on deck", "application_name_add_host": 1},
    )
    with psycopg.connect(pooler.conninfo(application_name="boat"), autocommit=True) as conn:
        assert conn.execute("SHOW application_name").fetchone() == (f"boat - 127.0.0.1:{_port(conn)}",)
    wire = raw(pooler)
    assert wire.rows("SHOW application_name") == [[f"app - 127.0.0.1:{wire.sock.getsockname()[1]}".encode()]]
    with Wire((pooler.host, pooler.port)) as other:
        other.send(startup("postgres", "postgres"))
        seen = other.until()
        kinds = types(seen)
        assert kinds.endswith("KNZ")
        notice = seen[-2]
        assert (notice.fields["S"], notice.sqlstate, notice.text) == ("NOTICE", "00000", "all hands on deck")


def _port(conn: "psycopg.Connection[object]") -> int:
    with socket.socket(fileno=os.dup(conn.fileno())) as sock:
        return int(sock.getsockname()[1])


def test_disable_pqexec(make_pooler: Make, server: Callable[..., str]) -> None:
    pooler = make_pooler(databases={"postgres": server()}, settings={"disable_pqexec": 1})
    wire = raw(pooler)
    wire.send(query("SELECT 1"))
    assert fatal(wire) == "PQexec disallowed"
    with pooler.console() as console:
        assert console.execute("SHOW VERSION").fetchone()
    with pooler.connect() as conn:
        assert conn.execute("SELECT 1 + %s", [1], binary=True, prepare=True).fetchone() == (2,)


def test_fast_close(make_pooler: Make, server: Callable[..., str]) -> None:
    pooler = make_pooler(
        databases={"postgres": server(pool_mode="session")}, settings={"server_fast_close": 1}
    )
    idle, busy = raw(pooler), raw(pooler)
    pid_of(idle)
    begin(busy)
    pooler.admin("RECONNECT")
    assert fatal(idle) == "database configuration changed"
    assert busy.silent(0.5)
    busy.send(query("COMMIT"))
    busy.until()
    assert fatal(busy) == "database configuration changed"


def test_hosts(make_pooler: Make, server: Callable[..., str], cluster: Cluster) -> None:
    with take_port():
        pooler = make_pooler(
            databases={
                "both": server(host="127.0.0.1,localhost", pool_size=4),
                "first": server(host="127.0.0.1,127.0.0.9", pool_size=4, load_balance_hosts="disable"),
                "moves_on": server(host="/nonexistent,127.0.0.1", load_balance_hosts="disable"),
                "name": server(host="localhost"),
            },
            settings={"server_login_retry": 0.1, "query_wait_timeout": 15},
            workers=1,
        )
        for db in ("both", "first"):
            crowd = [raw(pooler, db) for _ in range(4)]
            for wire in crowd:
                begin(wire)
            addrs = {s["addr"] for s in pooler.show("SERVERS", database=db)}
            if db == "first":
                assert addrs == {"127.0.0.1"}
            for wire in crowd:
                wire.close()
        with raw(pooler, "moves_on") as wire:
            assert types(wire.query("SELECT 1")) == "TDCZ"
        with raw(pooler, "name") as wire:
            assert types(wire.query("SELECT 1")) == "TDCZ"
        shown = {d["name"]: d["load_balance_hosts"] for d in pooler.show("DATABASES")}
        assert shown["both"] == "round-robin"
        assert shown["first"] == "disable"
        assert shown["name"] is None
        assert cluster.port == pooler.show("DATABASES", name="both")[0]["port"]


def test_host_that_does_not_resolve(make_pooler: Make) -> None:
    pooler = make_pooler(
        databases={"lost": "host=no-such-host.invalid"},
        settings={"query_wait_timeout": 1.5, "dns_nxdomain_ttl": 1, "server_login_retry": 0.3},
    )
    assert refusal(pooler, "lost") == "FATAL 08P01 query_wait_timeout"
    pooler.wait_log("server DNS lookup failed")


def test_wildcard_and_unused_pools(make_pooler: Make, cluster: Cluster, database: str) -> None:
    pooler = make_pooler(
        settings={"autodb_idle_timeout": 0.5, "pool_idle_timeout": 0.5, "server_idle_timeout": 0.3},
        databases={
            "fixed": f"host=127.0.0.1 port={cluster.port} dbname=postgres",
            "*": f"host=127.0.0.1 port={cluster.port}",
        },
    )
    wire, fixed = raw(pooler, database), raw(pooler, "fixed")
    assert wire.rows("SELECT current_database()") == [[database.encode()]]
    pooler.wait_log(f"registered new auto-database: {database}")
    pid_of(fixed)
    assert pooler.show("DATABASES", name=database)
    assert not pooler.show("DATABASES", name="*")
    wire.close()
    fixed.close()
    eventually(lambda: not pooler.show("DATABASES", name=database))
    eventually(lambda: not pooler.show("POOLS", database="fixed"))
    assert pooler.show("DATABASES", name="fixed")
    with raw(pooler, database) as wire:
        assert types(wire.query("SELECT 1")) == "TDCZ"
        time.sleep(1.2)
        assert types(wire.query("SELECT 1")) == "TDCZ"
    said = refusal(pooler, "x" * 64)
    assert said == f"FATAL 08P01 no such database: {'x' * 64}"


def test_a_catalog_that_cannot_be_read(make_pooler: Make, cluster: Cluster, database: str) -> None:
    """It is tried again for clients only: else its connection, and an entry made by `*`, would stay for ever."""
    cluster.sql("DO $$ BEGIN CREATE ROLE reader LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    cluster.sql("REVOKE SELECT ON pg_catalog.pg_trigger FROM PUBLIC", database)
    pooler = make_pooler(
        settings={"autodb_idle_timeout": 3, "server_idle_timeout": 0.3},
        userlist={"reader": "", "admin": ""},
    )

    def failures() -> int:
        return sum(row["count"] for row in pooler.show("STATE_COUNTERS", counter="catalog_failures"))

    with raw(pooler, database, "reader") as wire:
        assert types(wire.query("SELECT 1")) == "TDCZ"
    pooler.wait_log(f"{database}: the catalog cannot be read.*permission denied")
    eventually(lambda: not pooler.show("CLIENTS", database=database))
    seen = failures()
    time.sleep(2)
    assert failures() <= seen + 1  # the one under way; for a client it would be the third by now
    eventually(lambda: not pooler.show("DATABASES", name=database))
    eventually(lambda: not cluster.sql(f"SELECT 1 FROM pg_stat_activity WHERE datname = '{database}'"))


def test_forced_user(make_pooler: Make, server: Callable[..., str], cluster: Cluster) -> None:
    cluster.sql("DO $$ BEGIN CREATE ROLE forced LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    pooler = make_pooler(databases={"postgres": server(user="forced")})
    for user in ("postgres", "app"):
        with raw(pooler, user=user) as wire:
            assert wire.rows("SELECT current_user") == [[b"forced"]]
    assert [p["user"] for p in pooler.show("POOLS", database="postgres")] == ["forced"]
    assert pooler.show("DATABASES", name="postgres")[0]["force_user"] == "forced"


def test_startup_parameters(make_pooler: Make, server: Callable[..., str]) -> None:
    pooler = make_pooler(
        databases={"postgres": server()},
        settings={
            "ignore_startup_parameters": "extra_float_digits,options_of_mine",
            "session_state": "ignore",
        },
    )
    cases = {
        "search_path": "unsupported startup parameter: search_path",
        "options_x": "unsupported startup parameter: options_x",
    }
    for name, text in cases.items():
        assert refusal(pooler, **{name: "1"}) == f"FATAL 08P01 {text}"
    assert refusal(pooler, extra_float_digits="2") == "logged in"
    assert refusal(pooler, options="-c work_mem=1MB") == (
        "FATAL 08P01 unsupported startup parameter in options: work_mem"
    )
    assert refusal(pooler, options="-f") == (
        "FATAL 08P01 unsupported options startup parameter: "
        "only '-c config=val' and '--config=val' are allowed"
    )
    with raw(pooler, options="-c datestyle=German -ctimezone=UTC --client_encoding=UTF8") as wire:
        assert wire.parameters["TimeZone"] == "UTC"
        assert wire.rows("SHOW datestyle")[0][0].startswith(b"German")  # type: ignore[union-attr]
