"""The demo's load: figures that are right, and refusals that are told."""

import statistics

import pytest

from pgferry.embedded import Cluster
from pgferry.embedded.load import Figures, Load, Plan, bucket
from support import cluster as clusters


@pytest.mark.parametrize("micros", [1, 2, 3, 17, 100, 999, 54_321, 10_000_000])
def test_a_bucket_is_five_percent_wide(micros: int) -> None:
    figures = Figures(latency={str(bucket(micros / 1e6)): 1})
    assert figures.percentile(0.5) * 1000 == pytest.approx(micros, rel=0.08, abs=1)


def test_percentiles_of_a_known_series() -> None:
    figures = Figures()
    series = [i / 1e5 for i in range(1, 1001)]
    for seconds in series:
        figures.add(Figures(latency={str(bucket(seconds)): 1}))
    cuts = statistics.quantiles(series, n=100)
    assert figures.percentile(0.50) == pytest.approx(cuts[49] * 1000, rel=0.08)
    assert figures.percentile(0.99) == pytest.approx(cuts[98] * 1000, rel=0.08)


def test_load_counts_transactions_and_refusals() -> None:
    settings = {"max_connections": 10, "superuser_reserved_connections": 3}
    with clusters.new_cluster(clusters.versions()[-1], settings=settings) as server:
        server.sql("CREATE TABLE accounts AS SELECT i AS id, i AS balance FROM generate_series(1, 10) i")
        server.sql("CREATE ROLE demo LOGIN; GRANT ALL ON accounts TO demo")
        figures = run(server, clients=12, rows=10)
        assert (figures.connected, figures.refused, figures.errors) == (7, 5, 0)
        assert "connection" in figures.reason or "clients" in figures.reason
        assert figures.transactions == sum(figures.latency.values()) > 100
        missing = run(server, clients=1, rows=10, user="postgres", database="template1")
        assert missing.transactions == 0
        assert "accounts" in missing.reason


def run(
    server: Cluster, *, clients: int, rows: int, user: str = "demo", database: str = "postgres"
) -> Figures:
    plan = Plan("127.0.0.1", server.port, user, database, clients, 0.3, rows)
    return Load(plan).run(lambda _: None)
