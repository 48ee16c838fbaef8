"""Percentiles, who holds a server and why, slow transactions in the log, why connections ended."""

import re
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pgferry.embedded import Cluster
from support.clients import raw
from support.pooler import Pooler, eventually
from support.wire import query

Make = Callable[..., Pooler]


def percentiles(pooler: Pooler, time: str) -> dict[str, Any]:
    rows = pooler.show("STATS_PERCENTILES", database="postgres", user="postgres", time=time)
    return rows[0] if rows else {"total_count": 0}


def test_percentiles_of_queries_waits_and_logins(make_pooler: Make, cluster: Cluster) -> None:
    pooler = make_pooler(cluster, settings={"default_pool_size": 2})
    with pooler.connect() as client:
        for _ in range(9):
            client.execute("SELECT 1")
        client.execute("SELECT pg_sleep(0.2)")
    row = percentiles(pooler, "query")
    assert row["total_count"] >= 10
    assert 0 < row["total_p50"] < 200_000 <= row["total_p99"] * 1.07
    assert (row["count"], row["p99"]) == (row["total_count"], row["total_p99"]), "all within the first period"
    assert percentiles(pooler, "xact")["total_count"] >= 10
    assert percentiles(pooler, "wait")["total_count"] >= 10
    assert percentiles(pooler, "connect")["total_p50"] > 0


def test_longest_tells_why(make_pooler: Make, cluster: Cluster) -> None:
    pooler = make_pooler(
        cluster,
        settings={"statement_text_length": 40, "transaction_log_threshold": 0.2, "pool_mode": "transaction"},
    )
    assert pooler.show("LONGEST") == []
    with pooler.connect(application_name="leaky", autocommit=False) as client:
        client.execute("SELECT 'a statement that is much longer than forty characters'")
        row = pooler.show("LONGEST")[0]
        assert (row["state"], row["application_name"]) == ("idle in transaction", "leaky")
        assert row["statement"] == "SELECT 'a statement that is much longer"
        assert row["addr"] == "127.0.0.1"
        pooler.wait_log(r"postgres/postgres@.* transaction open for 0\..* s, idle in transaction; .*leaky")
        assert pooler.show("LONGEST")[0]["slow"] == 1
        client.rollback()
        pooler.wait_log(r"slow transaction: .* s, with its server for .* s; application_name 'leaky'")
    wire = raw(pooler)
    wire.send(query("SELECT pg_sleep(30)"))
    eventually(lambda: [r["state"] for r in pooler.show("LONGEST")] == ["running"])
    assert pooler.show("LONGEST")[0]["statement"] == "SELECT pg_sleep(30)"
    wire.close()
    eventually(lambda: pooler.show("LONGEST") == [])


def test_statements_are_not_shown_unless_allowed(make_pooler: Make, cluster: Cluster) -> None:
    pooler = make_pooler(cluster, settings={"transaction_log_threshold": 0.1})
    with pooler.connect(autocommit=False) as client:
        client.execute("SELECT 'secret value'")
        assert pooler.show("LONGEST")[0]["statement"] == ""
        pooler.wait_log("transaction open for")
        client.rollback()
        pooler.wait_log("slow transaction")
    assert "secret value" not in pooler.log()


def test_prepared_statements_are_shown_by_their_text(make_pooler: Make, cluster: Cluster) -> None:
    pooler = make_pooler(cluster, settings={"statement_text_length": 100, "max_prepared_statements": 10})
    with pooler.connect(autocommit=False) as client:
        for _ in range(3):
            client.execute("SELECT %s::int AS chosen", [1], prepare=True)
            client.commit()
        client.execute("SELECT %s::int AS chosen", [1], prepare=True)
        assert pooler.show("LONGEST")[0]["statement"] == "SELECT $1::int AS chosen"


def test_a_threshold_for_one_database(make_pooler: Make, cluster: Cluster, database: str) -> None:
    pooler = make_pooler(cluster, settings={"transaction_log_threshold": 0})
    pooler.set(databases={database: pooler.server(dbname=database, transaction_log_threshold=1)})
    with pooler.connect(autocommit=False) as other, pooler.connect(database, autocommit=False) as client:
        other.execute("SELECT 1")
        client.execute("SELECT 1")
        pooler.wait_log(rf"{database}/postgres@.*transaction open for 1\.")
    assert not re.search(r"postgres/postgres@.*transaction open", pooler.log())


def test_closes_by_reason(make_pooler: Make, cluster: Cluster) -> None:
    pooler = make_pooler(cluster)
    pooler.set(databases={"*": None, "known": pooler.server(dbname="postgres")})
    pooler.connect("known").close()
    for _ in range(2):
        with pytest.raises(psycopg.OperationalError):
            pooler.connect("unknown")
    counted = {(r["kind"], r["reason"]): r["count"] for r in pooler.show("CLOSES")}
    assert counted["client", "client close request"] >= 1
    assert [
        n for (kind, reason), n in counted.items() if kind == "refused" and "no such database" in reason
    ] == [2]
