"""DNS: the hosts file, name servers with TTL, search lists, a changed resolv.conf, zones, failures."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pgferry.supervisor.dns_lookup import DnsLookup, Found, NoAnswer, NoName
from pgferry.supervisor.errors import WorkerRefused
from pgferry.supervisor.resolver import Limits, Resolver
from support.dns_server import DnsServer

SOA = "ns.example. admin.example. {} 60 60 60 60"
PORT = 53


class Lines:
    """A log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(text)

    warning = log


@pytest.fixture
def server() -> Iterator[DnsServer]:
    # resolv.conf has no place for a port: each test process takes an address of its own.
    for last in range(1, 250):
        try:
            made = DnsServer(f"127.53.0.{last}", PORT)
            break
        except PermissionError:
            pytest.skip("port 53 is not allowed here")
        except OSError:
            continue
    yield made
    made.close()


def nobody(*_: Any, **__: Any) -> Any:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def names(server: DnsServer, tmp_path: Path, **more: Any) -> DnsLookup:
    hosts = tmp_path / "hosts"
    hosts.touch()
    return DnsLookup(
        str(server.write_resolv_conf(tmp_path / "resolv.conf", "search shop.example")),
        hosts_file=str(hosts),
        **more,
    )


def run(work: Awaitable[Any]) -> Any:
    async def main() -> Any:
        return await work

    return asyncio.run(main())


def test_both_families_and_the_smallest_ttl(server: DnsServer, tmp_path: Path) -> None:
    server.set("db.shop.example", "www.shop.example", kind="CNAME", ttl=7)
    server.set("www.shop.example", "10.0.0.1", "10.0.0.2", ttl=60)
    server.set("www.shop.example", "fd00::1", kind="AAAA", ttl=50)
    asked = names(server, tmp_path)
    for name in ("db.shop.example", "db.shop.example.", "db", "DB"):
        found = run(asked.addresses(name))
        assert found.addresses == [(2, "10.0.0.1"), (2, "10.0.0.2"), (10, "fd00::1")]
        assert found.ttl == 7


def test_no_name_and_no_answer(server: DnsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgferry.supervisor.dns_lookup._SECONDS", 0.3)
    asked = names(server, tmp_path)
    with pytest.raises(NoName, match="does not exist"):
        run(asked.addresses("nobody.example"))
    server.silent = True
    with pytest.raises(NoAnswer, match="do not answer"):
        run(asked.addresses("nobody.example"))


def test_hosts_file_comes_first_and_holds_at_once(server: DnsServer, tmp_path: Path) -> None:
    server.set("db.example", "10.0.0.1")
    asked = names(server, tmp_path)
    assert run(asked.addresses("db.example")).addresses == [(2, "10.0.0.1")]
    (tmp_path / "hosts").write_text(
        "# 10.1.1.1 db.example\n10.2.2.2\tother DB.example # here\nfd00::2 db.example\nx y\n"
    )
    found = run(asked.addresses("db.example"))
    assert (found.addresses, found.ttl) == ([(2, "10.2.2.2"), (10, "fd00::2")], None)


def test_a_changed_resolv_conf(server: DnsServer, tmp_path: Path) -> None:
    asked = names(server, tmp_path)
    server.set("db.other.example", "10.0.0.9")
    with pytest.raises(NoName):
        run(asked.addresses("db"))
    server.write_resolv_conf(tmp_path / "resolv.conf", "search other.example")
    assert run(asked.addresses("db")).addresses == [(2, "10.0.0.9")]
    (tmp_path / "resolv.conf").unlink()
    with pytest.raises(NoAnswer, match="no name server"):
        run(asked.addresses("db"))


def test_the_system_knows_more_than_dns(
    server: DnsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a resolv_conf of its own."""
    conf = server.write_resolv_conf(tmp_path / "system.conf")
    monkeypatch.setattr("pgferry.supervisor.dns_lookup.SYSTEM_RESOLV_CONF", str(conf))

    def lookup(*_: Any, **__: Any) -> Any:
        return [(socket.AF_INET, 1, 6, "", ("10.3.3.3", 0))] * 2

    asked = DnsLookup(lookup=lookup, hosts_file="/nonexistent")
    assert run(asked.addresses("machine")).addresses == [(2, "10.3.3.3")]
    with pytest.raises(NoName, match="does not exist"):
        run(DnsLookup(lookup=nobody, hosts_file="/nonexistent").addresses("machine"))


class Clock:
    """Time that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def resolver(server: DnsServer, tmp_path: Path, clock: Clock, log: Lines, **limits: float) -> Resolver:
    values = {"max_ttl": 15.0, "failed_ttl": 3.0, "zone_period": 0.0, **limits}
    return Resolver(lambda: Limits(**values), log, names(server, tmp_path), clock)  # type: ignore[arg-type]


def with_resolver(
    server: DnsServer,
    tmp_path: Path,
    work: Callable[[Resolver, Clock, Lines], Awaitable[None]],
    **limits: float,
) -> None:
    async def main() -> None:
        clock, log = Clock(), Lines()
        made = resolver(server, tmp_path, clock, log, **limits)
        try:
            await work(made, clock, log)
        finally:
            made.close()

    asyncio.run(main())


def test_ttl_of_the_answer_up_to_dns_max_ttl(server: DnsServer, tmp_path: Path) -> None:
    server.set("short.example", "10.0.0.1", ttl=4)
    server.set("long.example", "10.0.0.2", ttl=4000)

    async def work(made: Resolver, clock: Clock, _log: Lines) -> None:
        assert (await made.resolve("short.example"))["ttl"] == 4
        assert (await made.resolve("long.example"))["ttl"] == 15
        clock.now += 3
        await made.resolve("short.example")
        assert server.asked["short.example", "A"] == 1
        clock.now += 2
        await asyncio.gather(*(made.resolve("short.example") for _ in range(5)))
        assert server.asked["short.example", "A"] == 2
        with pytest.raises(WorkerRefused, match="does not exist"):
            await made.resolve("none.example")
        clock.now += 2
        with pytest.raises(WorkerRefused):
            await made.resolve("none.example")
        assert server.asked["none.example", "A"] == 1
        server.set("none.example", "10.0.0.3")
        clock.now += 2
        assert (await made.resolve("none.example"))["addrs"] == [[2, "10.0.0.3"]]

    with_resolver(server, tmp_path, work)


def test_news_of_lost_addresses(server: DnsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names in use are kept fresh; who has lost an address is told; a dead name server changes nothing."""
    server.set("db.example", "10.0.0.1", "10.0.0.2", ttl=5)
    news: list[tuple[str, list[tuple[int, str]], list[str]]] = []

    async def heard(host: str, addresses: list[tuple[int, str]], gone: list[str], ttl: float) -> None:
        assert ttl > 0
        news.append((host, addresses, gone))

    async def work(made: Resolver, clock: Clock, log: Lines) -> None:
        made.on_change(heard)
        await made.resolve("db.example")
        keeping = asyncio.create_task(made.run())
        server.set("db.example", "10.0.0.2", "10.0.0.3", ttl=5)
        clock.now += 6
        async with asyncio.timeout(5):
            while not news:
                await asyncio.sleep(0.05)
        assert news == [("db.example", [(2, "10.0.0.2"), (2, "10.0.0.3")], ["10.0.0.1"])]
        assert any("db.example has moved from 10.0.0.1 to 10.0.0.2,10.0.0.3" in line for line in log.lines)
        keeping.cancel()
        server.silent = True
        monkeypatch.setattr("pgferry.supervisor.dns_lookup._SECONDS", 0.5)
        async with asyncio.timeout(30):
            while not any("last known addresses" in line for line in log.lines):
                clock.now += 6
                assert len((await made.resolve("db.example"))["addrs"]) == 2
        assert made.rows() == [("db.example", 3, "10.0.0.2,10.0.0.3")]

    with_resolver(server, tmp_path, work)


def test_a_look_up_that_has_just_ended_is_not_asked_again() -> None:
    """Whoever asks in the turn of the loop in which one ends, with other expectations, starts one of their own."""

    class Ended(DnsLookup):
        """Each look-up takes one turn; a test goes on before anybody has heard of its end."""

        asked = 0
        on_end: Callable[[], Any] = staticmethod(lambda: None)

        async def addresses(self, name: str) -> Found:  # noqa: ARG002
            self.asked += 1
            await asyncio.sleep(0)
            self.on_end()
            return Found([(2, f"10.0.0.{self.asked}")], 5.0)

    async def main() -> None:
        clock, known = Clock(), Ended("/nonexistent")
        made = Resolver(lambda: Limits(15.0, 3.0, 0.0), Lines(), known, clock)  # type: ignore[arg-type]
        woken = asyncio.Event()
        known.on_end = woken.set  # scheduled before what the end of the look-up schedules

        async def waiter() -> dict[str, Any]:
            await woken.wait()
            clock.now += 6
            return await made.resolve("db.example")

        late = asyncio.create_task(waiter())
        await asyncio.sleep(0)
        await made.resolve("db.example")
        assert (await late)["addrs"] == [[2, "10.0.0.2"]]
        assert made.pending == 0
        made.close()

    asyncio.run(main())


def test_zone_serial(server: DnsServer, tmp_path: Path) -> None:
    """dns_zone_check_period: a new serial makes us ask for the names of the zone, long before their TTL."""
    server.set("shop.example", SOA.format(1), kind="SOA")
    server.set("db.shop.example", "10.0.0.1")

    async def work(made: Resolver, clock: Clock, _log: Lines) -> None:
        await made.resolve("db.shop.example")
        keeping = asyncio.create_task(made.run())

        async def until(zones: list[tuple[str, int, int]], rows: list[tuple[str, int, str]]) -> None:
            async with asyncio.timeout(5):
                while made.zones() != zones or made.rows() != rows:
                    clock.now += 0.01
                    await asyncio.sleep(0.05)
                    rows = [(name, made.rows()[0][1], text) for name, _, text in rows]

        await until([("shop.example", 1, 1)], [("db.shop.example", 0, "10.0.0.1")])
        server.set("shop.example", SOA.format(2), kind="SOA")
        server.set("db.shop.example", "10.0.0.2")
        clock.now += 1.1
        await until([("shop.example", 2, 1)], [("db.shop.example", 0, "10.0.0.2")])
        keeping.cancel()

    with_resolver(server, tmp_path, work, max_ttl=1000.0, zone_period=1.0)
