"""The first thing that must work: a SELECT through pgferry in every mode."""

from collections.abc import Callable

import pytest

from pgferry.embedded import Cluster
from support.pooler import Pooler
from support.wire import Wire, types


@pytest.mark.parametrize("mode", ["session", "transaction", "statement"])
def test_select(cluster: Cluster, make_pooler: Callable[..., Pooler], mode: str) -> None:
    pooler = make_pooler(settings={"pool_mode": mode})
    with pooler.connect() as conn:
        assert conn.execute("SELECT 6 * 7").fetchone() == (42,)
        assert conn.execute("SELECT %s::text", ["a parameter"]).fetchone() == ("a parameter",)
        assert conn.info.server_version // 10000 == cluster.version


def test_many_clients_few_servers(pooler: Pooler) -> None:
    pooler.set({"default_pool_size": 2})
    clients = [pooler.connect() for _ in range(20)]
    servers = {c.execute("SELECT pg_backend_pid()").fetchone() for c in clients for _ in range(3)}
    for client in clients:
        client.close()
    assert 1 <= len(servers) <= 2


def test_console(pooler: Pooler, workers: int) -> None:
    with pooler.connect():
        pools = pooler.show("POOLS", database="postgres")
    assert [p["pool_mode"] for p in pools] == ["transaction"]
    assert pooler.show("CONFIG", key="workers")[0]["value"] == str(workers)


def test_raw_protocol_on_every_listener(pooler: Pooler) -> None:
    unix = f"{pooler.socket_dir}/.s.PGSQL.{pooler.port}"
    for address in (("127.0.0.1", pooler.port), ("::1", pooler.port), unix):
        with Wire.login(address) as wire:
            assert types(wire.query("SELECT 1")) == "TDCZ"
