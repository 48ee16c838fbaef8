"""`pgferry bench` on a real database: what it measures, and what it does not touch."""

import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgferry.embedded import Cluster
from support import cluster as clusters
from support.pooler import Pooler

SCRAM = ("local all all trust", "host all all all scram-sha-256")


@pytest.fixture
def guarded(pg_version: int) -> Iterator[Cluster]:
    """A server with passwords and few connections."""
    server = clusters.new_cluster(pg_version, settings={"max_connections": 40}, hba=SCRAM)
    server.sql("CREATE ROLE app LOGIN PASSWORD 'geh''eim'")
    server.sql("CREATE TABLE t AS SELECT g AS id FROM generate_series(1, 100) g")
    server.sql("GRANT SELECT, INSERT ON t TO app")
    yield server
    server.close()


def bench(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pgferry", "bench", *arguments],
        capture_output=True,
        text=True,
        timeout=100,
        env=dict(os.environ),
    )


def url_of(cluster: Cluster) -> str:
    return f"postgresql://app:geh%27eim@127.0.0.1:{cluster.port}/postgres"


@pytest.mark.pg(18)
def test_the_table(guarded: Cluster, tmp_path: Path) -> None:
    picture = tmp_path / "bench.svg"
    answer = bench(
        url_of(guarded), "--query", "SELECT id FROM t WHERE id = 7", "--clients", "30", "--seconds", "1",
        "--pool", "4", "--pool", "3:session", "--pool", "90", "--json", "--svg", str(picture),
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert "geh" not in answer.stderr
    told = json.loads(answer.stdout)
    assert told["left_out"] == ["pgferry, 90 transaction"]
    rows = {row["name"]: row for row in told["rows"]}
    assert list(rows) == [
        "new connection per query",
        "one connection per client",
        "pgferry, 4 transaction",
        "pgferry, 3 session",
    ]
    for row in rows.values():
        assert row["errors"] == 0, row
        assert row["transactions"] > 0
        assert row["latency_ms"]["p50"] <= row["latency_ms"]["p99"]
    # Half of the free connections at most; through pgferry all clients are served by four.
    assert 10 <= rows["one connection per client"]["clients"] <= 20
    assert rows["one connection per client"]["server_connections"] <= 20
    pooled = rows["pgferry, 4 transaction"]
    assert (pooled["clients_served"], pooled["server_connections"]) == (30, 4)
    assert pooled["pooler_cpu_seconds"] > 0
    # Those that wait are served only when a process of the load ends and its clients leave.
    assert 3 <= rows["pgferry, 3 session"]["clients_served"] < 30
    assert ET.parse(picture).getroot().tag.endswith("svg")
    assert guarded.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgferry bench%'"
    ) == [("0",)]


@pytest.mark.pg(15)
def test_text_and_a_running_pooler(cluster: Cluster, pooler: Pooler) -> None:
    answer = bench(
        f"postgresql://postgres@127.0.0.1:{cluster.port}/postgres", "--clients", "8", "--seconds", "0.5",
        "--pool", "2", "--pooler", f"postgresql://postgres@127.0.0.1:{pooler.port}/postgres",
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    for text in ("pooler 1", "pgferry, 2 transaction", "p99 latency, ms", "█", "MB", "8 of 8"):
        assert text in answer.stdout, text


@pytest.mark.pg(15)
def test_it_does_not_write(guarded: Cluster) -> None:
    refused = bench(url_of(guarded), "--query", "INSERT INTO t VALUES (0)")
    assert refused.returncode == 2
    assert "not a single SELECT" in refused.stderr
    assert bench(url_of(guarded), "--query", "SELECT 1; DELETE FROM t").returncode == 2
    # What looks like a SELECT and writes is stopped by PostgreSQL, directly and through the pool.
    hidden = "WITH x AS (INSERT INTO t VALUES (0) RETURNING 1) SELECT * FROM x"
    answer = bench(url_of(guarded), "--query", hidden, "--clients", "2", "--seconds", "0.5", "--pool", "2")
    assert answer.returncode == 1
    assert answer.stdout.count("read-only transaction") == 3
    assert guarded.sql("SELECT count(*) FROM t") == [("100",)]
    allowed = bench(
        url_of(guarded),
        "--query",
        hidden,
        "--clients",
        "2",
        "--seconds",
        "0.5",
        "--pool",
        "2",
        "--allow-writes",
    )
    assert allowed.returncode == 0, allowed.stderr
    assert guarded.sql("SELECT count(*) > 100 FROM t") == [("t",)]


@pytest.mark.parametrize(
    "arguments", [("mysql://x",), ("postgresql://h", "--pool", "x"), ("postgresql://h", "--pool", "2:y")]
)
def test_wrong_options(arguments: tuple[str, ...]) -> None:
    assert bench(*arguments).returncode == 2


def test_nobody_there() -> None:
    answer = bench("postgresql://me:geheim@127.0.0.1:1/x")
    assert answer.returncode == 1
    assert "refused" in answer.stderr
    assert "geheim" not in answer.stderr
