"""Servers by name: addresses that change, lists of hosts, failing over between them."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pgferry.embedded import Cluster
from support.dns_server import DnsServer
from support.pooler import Pooler, eventually
from support.ports import take_port
from support.proxy import FaultProxy
from support.web import Browser, Web

MakePooler = Callable[..., Pooler]
pytestmark = pytest.mark.pg(18)


@pytest.fixture
def dns() -> Iterator[DnsServer]:
    for last in range(1, 250):
        try:
            made = DnsServer(f"127.53.1.{last}", 53)
            break
        except PermissionError:
            pytest.skip("port 53 is not allowed here")
        except OSError:
            continue
    yield made
    made.close()
    Path(f"/tmp/pgferry-resolv-{made.address}").unlink(missing_ok=True)


@pytest.fixture
def places(cluster: Cluster) -> Iterator[list[FaultProxy]]:
    """The cluster under three addresses with one port."""
    with contextlib.ExitStack() as stack:
        target = ("127.0.0.1", cluster.port)
        first = stack.enter_context(FaultProxy(target, "127.9.0.1"))
        more = [stack.enter_context(FaultProxy(target, f"127.9.0.{n}", first.port)) for n in (2, 3)]
        yield [first, *more]


@pytest.fixture
def http_port() -> Iterator[int]:
    with take_port() as port:
        yield port


def named(make_pooler: MakePooler, dns: DnsServer, line: str, **settings: object) -> Pooler:
    """A pooler that asks this DNS server; its resolv.conf lies where every account can read it."""
    conf = dns.write_resolv_conf(Path(f"/tmp/pgferry-resolv-{dns.address}"), "options timeout:1 attempts:1")
    return make_pooler(databases={"*": line}, settings={"resolv_conf": conf, **settings})


def addresses(pooler: Pooler) -> set[str]:
    return {row["addr"] for row in pooler.show("SERVERS")}


def works(pooler: Pooler) -> bool:
    with pooler.connect() as conn:
        return conn.execute("SELECT 1").fetchone() == (1,)


def test_a_name_that_moves(
    make_pooler: MakePooler, dns: DnsServer, places: list[FaultProxy], http_port: int
) -> None:
    """Servers at an address that the name has lost are replaced, when they are free; nobody has to ask."""
    dns.set("db.example", "127.9.0.1", ttl=1)
    line = f"host=db.example port={places[0].port} dbname=postgres"
    pooler = named(make_pooler, dns, line, http_listen=f"127.0.0.1:{http_port}", dashboard_trust=1)
    assert works(pooler)
    assert addresses(pooler) == {"127.9.0.1"}
    [row] = pooler.show("DNS_HOSTS")
    assert (row["hostname"], row["addrs"]) == ("db.example", "127.9.0.1")
    with pooler.connect() as busy:
        busy.execute("BEGIN")
        dns.set("db.example", "127.9.0.2", "127.9.0.3", ttl=1)
        pooler.wait_log("DNS: db.example has moved from 127.9.0.1 to 127.9.0.2,127.9.0.3")
        busy.execute("SELECT 1")
        busy.execute("COMMIT")
        busy.execute("SELECT 1")
    eventually(lambda: "127.9.0.1" not in addresses(pooler))
    pooler.wait_log("closing because: obsolete connection")
    assert addresses(pooler) <= {"127.9.0.2", "127.9.0.3"}
    events = Browser(Web(pooler, http_port), "admin").get("/api/now")["events"]
    assert "DNS: db.example has moved from 127.9.0.1 to 127.9.0.2, 127.9.0.3" in [e["text"] for e in events]


def test_reconnect_asks_again(make_pooler: MakePooler, dns: DnsServer, places: list[FaultProxy]) -> None:
    dns.set("db.example", "127.9.0.1", ttl=3600)
    pooler = named(
        make_pooler, dns, f"host=db.example port={places[0].port} dbname=postgres", dns_max_ttl=3600
    )
    assert works(pooler)
    dns.set("db.example", "127.9.0.2", ttl=3600)
    pooler.admin("RECONNECT")
    assert works(pooler)
    assert addresses(pooler) == {"127.9.0.2"}


def test_an_address_that_does_not_answer(
    make_pooler: MakePooler, dns: DnsServer, places: list[FaultProxy]
) -> None:
    """One of two addresses of a name refuses: no client waits for server_login_retry."""
    dns.set("db.example", "127.9.0.1", "127.9.0.9")
    pooler = named(
        make_pooler, dns, f"host=db.example port={places[0].port} dbname=postgres", query_wait_timeout=5
    )
    for _ in range(4):
        assert works(pooler)
        pooler.admin("RECONNECT")
    pooler.wait_log("connect failed: Connection refused; trying the next address")


@pytest.mark.workers(1)
@pytest.mark.parametrize("balance", ["round-robin", "disable"])
def test_host_list(make_pooler: MakePooler, places: list[FaultProxy], balance: str) -> None:
    """Dead hosts are passed over; `disable` stays where it is until that fails, round-robin goes round."""
    hosts = "127.9.0.8,127.9.0.1,127.9.0.2"
    line = f"host={hosts} port={places[0].port} dbname=postgres load_balance_hosts={balance}"
    pooler = make_pooler(databases={"*": line}, settings={"server_login_retry": 60, "query_wait_timeout": 5})
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(pooler.connect()) for _ in range(4)]
        for client in clients:
            client.execute("BEGIN")
        assert addresses(pooler) == (
            {"127.9.0.1", "127.9.0.2"} if balance == "round-robin" else {"127.9.0.1"}
        )
        for client in clients:
            client.execute("COMMIT")
    assert pooler.show("POOLS", database="postgres")[0]["load_balance_hosts"] == balance
    # The one in use dies: the next one takes over, no client sees an error but those it had then.
    places[0].refuse()
    places[0].cut()
    assert works(pooler)
    eventually(lambda: addresses(pooler) == {"127.9.0.2"})
    if balance == "disable":
        places[0].resume()
        pooler.admin("RECONNECT")
        assert works(pooler)
        assert addresses(pooler) == {"127.9.0.2"}


def test_all_hosts_down(make_pooler: MakePooler, dns: DnsServer, places: list[FaultProxy]) -> None:
    """When nothing is left to try the pool waits server_login_retry, and then comes back by itself."""
    line = f"host=none.example,127.9.0.1 port={places[0].port} dbname=postgres"
    places[0].refuse()
    pooler = named(make_pooler, dns, line, server_login_retry=1)
    with pytest.raises(AssertionError):
        eventually(lambda: pooler.show("SERVERS") and works(pooler), 1)
    places[0].resume()
    assert works(pooler)
    assert "server DNS lookup failed: name does not exist; trying the next address" in pooler.log()
