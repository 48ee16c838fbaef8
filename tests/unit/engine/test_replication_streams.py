"""CopyBoth through the relay, however the bytes are cut; a server of a replication client serves nobody else."""

from collections.abc import Iterable

import pytest

from pgferry.engine.ops import harness
from support.fake_backend import FakeBackend
from support.rig import Port, Rig
from support.wire import copy_data, copy_done, message, query, startup

SCRIPTS = {
    "echoes": query("STREAM 3") + copy_data("a") + copy_data("b" * 40) + copy_done() + query("SELECT z"),
    "nothing to say": query("STREAM 0") + copy_done() + query("STREAM 2") + copy_done(),
    "the server ends first": query("STREAM 2 END") + copy_data("late") + copy_done() + query("SELECT z"),
    "an error in the middle": query("STREAM 2") + copy_data("ax") + copy_data("late") + copy_done(),
    "an error, and more": query("STREAM 1")
    + copy_data("x")
    + query("SELECT z")
    + query("STREAM 1")
    + copy_done(),
    "rows around it": query("SELECT y")
    + query("COPY OUT 3")
    + query("STREAM 1")
    + copy_done()
    + query("ROWS 3 9"),
}


def parameters(**more: str) -> bytes:
    return startup("app", "db", replication="database", **more)


def direct(data: bytes) -> bytes:
    """What the backend itself answers."""
    backend = FakeBackend()
    backend.receive(startup("app", "db"))
    return backend.receive(data)


def through(
    data: bytes, cuts: Iterable[int] = (), server_cuts: Iterable[int] = (), lazy: bool = False
) -> bytes:
    """What comes out of the relay, both sides' bytes in pieces; lazy: the server answers when all is said."""
    rig = Rig(settings={"pool_mode": "transaction", "default_pool_size": 2})
    try:
        client = rig.login(replication="database")
        rig.auto = False
        [server] = [s for pool in rig.engine.pools() for s in pool.servers()]
        port, sent = rig.port(server), 0

        def answer() -> None:
            nonlocal sent
            while port.got:
                said = rig.backends[server].receive(port.read())
                for byte in range(len(said)):
                    port.to_deliver += said[byte : byte + 1]
                    sent += 1
                    if sent in server_cuts:
                        rig.pump()
                rig.pump()

        at = 0
        for cut in [*sorted(cuts), len(data)]:
            rig.feed(client, data[at:cut])
            at = cut
            if not lazy:
                answer()
        answer()
        rig.check()
        return bytes(client.got)
    finally:
        rig.close()


@pytest.mark.parametrize("lazy", [False, True], ids=["prompt", "lazy"])
@pytest.mark.parametrize("data", SCRIPTS.values(), ids=SCRIPTS)
def test_every_cut(data: bytes, lazy: bool) -> None:
    want = direct(data)
    assert through(data, lazy=lazy) == want
    assert through(data, range(1, len(data)), range(1, len(want)), lazy) == want
    for cut in range(1, len(data)):
        assert through(data, cuts=[cut], lazy=lazy) == want
    for cut in range(1, len(want)):
        assert through(data, server_cuts=[cut], lazy=lazy) == want


@pytest.fixture
def rig() -> Iterable[Rig]:
    made = Rig(
        settings={"pool_mode": "transaction", "default_pool_size": 2, "server_reset_query": "SELECT 1"}
    )
    yield made
    made.close()


def replication_servers(rig: Rig) -> int:
    return sum(pool.total_servers for pool in rig.engine.pools() if pool.main_pool is not None)


@pytest.mark.parametrize("cut", range(0, 16, 3))
def test_a_client_that_leaves_takes_its_server_along(rig: Rig, cut: int) -> None:
    """At rest, in the middle of its own message, of the server's, of a stream."""
    data = query("STREAM 1") + copy_data("abc")
    client = rig.login(replication="database")
    rig.feed(client, data[: len(data) - cut])
    assert replication_servers(rig) == 1
    harness.end(client.stream)
    rig.pump()
    rig.check()
    assert replication_servers(rig) == 0
    [server] = rig.backends
    assert server.closed
    other = rig.login()
    rig.feed(other, query("SELECT PID"))
    assert b"2" in bytes(other.got)


def test_one_that_waits_goes_before_it_is_served(rig: Rig) -> None:
    first, second = rig.login(replication="database"), rig.login(replication="true")
    waiting = [rig.connect(parameters()) for _ in range(3)]
    ordinary = rig.connect(startup("app", "db"))
    assert not any(port.got for port in (*waiting, ordinary))
    harness.end(waiting[0].stream)
    rig.feed(first, message(b"X"))
    rig.check()
    assert bytes(waiting[1].got).endswith(b"Z\0\0\0\5I")
    assert not waiting[2].got
    for port in (second, waiting[1]):
        rig.feed(port, message(b"X"))
    rig.tick()
    assert bytes(waiting[2].got).endswith(b"Z\0\0\0\5I")
    assert bytes(ordinary.got).endswith(b"Z\0\0\0\5I")
    rig.check()


def test_a_full_pool_gives_up_its_idle_servers_only(rig: Rig) -> None:
    busy, idle = rig.login(), rig.login()
    for port in (busy, idle):
        rig.feed(port, query("BEGIN"))
    rig.feed(idle, query("COMMIT"))
    one = rig.login(replication="database")
    assert replication_servers(rig) == 1
    two = rig.connect(parameters())
    assert not two.got
    rig.feed(busy, query("SELECT mine"))
    assert b"mine" in bytes(busy.got)
    rig.tick()
    rig.feed(busy, query("COMMIT"))  # closed behind it, for the one that waits
    assert bytes(two.got).endswith(b"Z\0\0\0\5I")
    assert replication_servers(rig) == 2
    rig.check()
    end(rig, one)
    rig.feed(idle, query("SELECT again"))
    assert b"again" in bytes(idle.got)


def end(rig: Rig, port: Port) -> None:
    rig.feed(port, message(b"X"))
    rig.check()
