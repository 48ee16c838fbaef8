"""PostgreSQL's own replication clients through the pool: pg_basebackup, pg_receivewal, pg_recvlogical, a standby,
a logical subscriber."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGINT

import pytest

from pgferry.embedded import Cluster
from support import cluster as clusters
from support.clients import raw
from support.pooler import Pooler, eventually
from support.replication import SETTINGS, Tool, has_tools, run_tool

Make = Callable[..., Pooler]


def _replicated(version: int) -> Cluster:
    cluster = clusters.new_cluster(version, settings=SETTINGS)
    cluster.sql("CREATE TABLE t (a text)")
    return cluster


@pytest.fixture(scope="module")
def source(pg_version: int) -> Iterator[Cluster]:
    """A PostgreSQL that can be replicated."""
    cluster = _replicated(pg_version)
    yield cluster
    cluster.close()


@pytest.fixture(scope="module", params=clusters.versions(), ids=lambda version: f"tools{version}")
def tools(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The same, of each version that comes with the client programs."""
    if not has_tools(clusters.server(request.param)):
        pytest.skip("this PostgreSQL comes without client programs")
    cluster = _replicated(request.param)
    yield cluster
    cluster.close()


_numbers = itertools.count(1)


def fresh(server: Cluster, name: str) -> Path:
    """A name in the server's directory that no test before this one has used."""
    return server.directory / f"{name}-{next(_numbers)}"


def to(pooler: Pooler) -> tuple[str, ...]:
    return ("-h", pooler.host, "-p", str(pooler.port), "-U", "postgres", "-w")


def test_pg_basebackup(make_pooler: Make, tools: Cluster) -> None:
    """Two connections at once, the backup and the WAL; pg_verifybackup looks at every byte of it."""
    pooler = make_pooler(tools, settings={"default_pool_size": 2})
    tools.sql(
        "DROP TABLE IF EXISTS big; CREATE TABLE big AS SELECT repeat('pgferry', 1000) FROM generate_series(1, 2000)"
    )
    with raw(pooler) as ordinary:
        ordinary.query("SELECT 1")
    for form in ("plain", "tar"):
        target = fresh(tools, "backup")
        run_tool(
            tools, "pg_basebackup", *to(pooler), "-D", target, "-X", "stream", "-c", "fast", "-F", form[0]
        )
        if form == "plain":
            run_tool(tools, "pg_verifybackup", target)
        else:
            assert (target / "base.tar").stat().st_size > 10_000_000
    kinds = {r["replication"] for r in pooler.show("SERVERS", database="replication")}
    assert kinds <= {"physical"}
    eventually(lambda: not pooler.show("SERVERS", replication="physical"))


def test_a_standby(make_pooler: Make, tools: Cluster) -> None:
    """Made by pg_basebackup -R and fed through the pool, across RECONNECT and a server that is killed."""
    pooler = make_pooler(tools)
    standby = Cluster(server=tools.server)
    try:
        tools.account.run(["/bin/rm", "-rf", str(standby.data_dir)])
        run_tool(tools, "pg_basebackup", *to(pooler), "-D", standby.data_dir, "-R", "-c", "fast")
        standby.settings.update({**SETTINGS, **clusters.SETTINGS, "wal_retrieve_retry_interval": "100ms"})
        standby._write_settings()
        standby.start()
        number = 0

        def arrives() -> None:
            nonlocal number
            number += 1
            tools.sql(f"INSERT INTO t VALUES ('standby {number}')")
            wanted = f"SELECT count(*) FROM t WHERE a = 'standby {number}'"
            eventually(lambda: standby.sql(wanted) == [("1",)], 60)

        arrives()
        assert [r["application_name"] for r in pooler.show("CLIENTS", replication="physical")] == [
            "walreceiver"
        ]
        pooler.admin("RECONNECT")
        arrives()
        assert "database configuration changed" in standby.log()
        tools.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
        arrives()
        pooler.restart()
        arrives()
    finally:
        standby.close()


def test_pg_receivewal(make_pooler: Make, tools: Cluster) -> None:
    pooler = make_pooler(tools)
    target = fresh(tools, "received")
    target.mkdir()
    tools.account.own(target)
    slot = ("--slot", "of_receivewal")
    run_tool(tools, "pg_receivewal", *to(pooler), *slot, "--create-slot")
    with Tool(tools, "pg_receivewal", *to(pooler), *slot, "-D", target, "--synchronous", "-v") as tool:
        eventually(lambda: "starting log streaming" in tool.log())
        for _ in range(2):
            tools.sql("INSERT INTO t SELECT 'to be received'; SELECT pg_switch_wal()")
        eventually(lambda: len([f for f in target.iterdir() if f.suffix != ".partial"]) >= 2, 20)
        assert tool.stop(SIGINT) == 0, tool.log()
    for segment in target.iterdir():
        if segment.suffix != ".partial":
            own = (tools.data_dir / "pg_wal" / segment.name).read_bytes()
            assert segment.read_bytes() == own
    run_tool(tools, "pg_receivewal", *to(pooler), *slot, "--drop-slot")


def test_pg_recvlogical(make_pooler: Make, tools: Cluster) -> None:
    pooler = make_pooler(tools)
    slot = ("--slot", "of_recvlogical", "-d", "postgres")
    run_tool(tools, "pg_recvlogical", *to(pooler), *slot, "--create-slot", "-P", "test_decoding")
    with Tool(
        tools, "pg_recvlogical", *to(pooler), *slot, "--start", "-f", "-", "-F", "1", "-s", "1"
    ) as tool:
        for number in range(3):
            tools.sql(f"INSERT INTO t VALUES ('decoded {number}')")
            wanted = f"decoded {number}"
            eventually(lambda wanted=wanted: wanted in tool.log(), 20)
            if number == 0:
                tools.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
        assert tool.stop(SIGINT) == 0, tool.log()
    run_tool(tools, "pg_recvlogical", *to(pooler), *slot, "--drop-slot")


def test_a_logical_subscriber(make_pooler: Make, source: Cluster, cluster: Cluster, database: str) -> None:
    """CREATE SUBSCRIPTION to a pool in transaction mode: the copy of the tables, then changes, across failures."""
    source.sql("DROP TABLE IF EXISTS r; CREATE TABLE r (a int PRIMARY KEY, b text)")
    source.sql("INSERT INTO r SELECT g, repeat('x', 100) FROM generate_series(1, 20000) g")
    source.sql("DROP PUBLICATION IF EXISTS p; CREATE PUBLICATION p FOR TABLE r")
    pooler = make_pooler(source, settings={"default_pool_size": 3})
    cluster.sql("CREATE TABLE r (a int PRIMARY KEY, b text)", database)
    name = f"of_{database}"
    cluster.query(f"CREATE SUBSCRIPTION {name} CONNECTION '{pooler.conninfo()}' PUBLICATION p", database)
    count = "SELECT count(*), coalesce(sum(length(b)), 0) FROM r"

    def same() -> bool:
        return cluster.sql(count, database) == source.sql(count)

    try:
        eventually(same, 30)
        ordinary = [raw(pooler) for _ in range(4)]
        for wire in ordinary:
            assert wire.rows("SELECT 1") == [[b"1"]]
            wire.close()
        source.sql("INSERT INTO r SELECT g, repeat('y', 50) FROM generate_series(20001, 25000) g")
        eventually(same, 30)
        source.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
        source.sql("DELETE FROM r WHERE a % 3 = 0")
        eventually(same, 30)
        pooler.admin("RECONNECT")
        source.sql("UPDATE r SET b = b || 'more' WHERE a < 1000")
        eventually(same, 30)
        eventually(lambda: len(pooler.show("SERVERS", replication="logical")) == 1)
    finally:
        cluster.sql(f"ALTER SUBSCRIPTION {name} DISABLE", database)
        cluster.sql(f"DROP SUBSCRIPTION {name}", database)
    eventually(lambda: not pooler.show("SERVERS", replication="logical"))
    assert source.sql("SELECT count(*) FROM pg_replication_slots WHERE NOT temporary") == [("0",)]
