"""Peers: a cancel request that reaches the wrong pooler finds the right one, among pgferry and PgBouncer."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from pgferry.embedded import Cluster
from support.pooler import Pooler, eventually
from support.programs import pgbouncer
from support.proxy import FaultProxy
from support.wire import CANCEL_CODE, PROTOCOL_3_2, Wire, cancel_request, query, special

SLEEP = "SELECT pg_sleep(20)"
CANCELED = ["57014"]
MakePooler = Callable[..., Pooler]

pytestmark = pytest.mark.usefixtures("cluster")


@pytest.fixture
def original(cluster: Cluster) -> Iterator[Callable[..., Pooler]]:
    """Makes real PgBouncers."""
    with contextlib.ExitStack() as stack:

        def make(**options: object) -> Pooler:
            pooler = Pooler(cluster, program=pgbouncer(), **options)  # type: ignore[arg-type]
            stack.callback(pooler.close)
            return pooler.start()

        yield make


def introduce(*poolers: Pooler, unix: bool = False) -> None:
    """Give each the list of all, itself included, as a file shared by all members has it."""
    peers: dict[str, str | None] = {}
    for number, pooler in enumerate(poolers, 1):
        host = pooler.socket_dir if unix else "127.0.0.1"
        peers[str(number)] = f"host={host} port={pooler.port}"
    for pooler in poolers:
        pooler.set(peers=peers)


def asleep(pooler: Pooler, **more: object) -> Wire:
    """A client of `pooler` whose query sleeps in PostgreSQL."""
    wire = Wire.login((pooler.host, pooler.port), **more)  # type: ignore[arg-type]
    wire.send(query(SLEEP))
    assert pooler.cluster is not None
    cluster = pooler.cluster

    def sleeps() -> bool:
        links = {r["link"] for r in pooler.show("CLIENTS") if r["port"] == wire.sock.getsockname()[1]}
        pids = [r["remote_pid"] for r in pooler.show("SERVERS") if r["ptr"] in links]
        look = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid = "
        return any(cluster.sql(look + str(pid)) for pid in pids)

    eventually(sleeps, message="the query did not start")
    return wire


def ask(pooler: Pooler, request: bytes) -> None:
    """Send a cancel request to `pooler` and wait until it is over."""
    with Wire((pooler.host, pooler.port)) as asking:
        asking.send(request)
        assert asking.sock.recv(1) == b""


def errors(wire: Wire) -> list[str]:
    return [m.sqlstate for m in wire.until() if m.type == "E"]


def full_key(wire: Wire) -> bytes:
    return wire.pid.to_bytes(4, "big", signed=True) + wire.key


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_mixed_group(
    make_pooler: MakePooler, original: Callable[..., Pooler], unix: bool, workers: int
) -> None:
    """pgferry, PgBouncer, pgferry: each of them passes on for each other one, and carries out its own."""
    group = [
        make_pooler(settings={"peer_id": 1}),
        original(settings={"peer_id": 2}),
        make_pooler(settings={"peer_id": 3}),
    ]
    introduce(*group, unix=unix)
    for number, home in enumerate(group, 1):
        bystander = asleep(home)
        for asked in group:
            for _ in range(workers):
                with asleep(home) as wire:
                    key = full_key(wire)
                    assert key[1] | key[2] << 8 == number
                    assert key[7] & 3 == 3
                    ask(asked, cancel_request(wire.pid, wire.key))
                    assert errors(wire) == CANCELED
        assert bystander.silent(0.05)
        bystander.close()


def test_console_shows_the_same(make_pooler: MakePooler, original: Callable[..., Pooler]) -> None:
    home = make_pooler(settings={"peer_id": 2})
    peers = {"1": "host=/tmp", "2": f"host=127.0.0.1 port={home.port} pool_size=3", "7": "host=::1"}
    ours = make_pooler(settings={"peer_id": 1, "default_pool_size": 11}, peers=peers)
    theirs = original(settings={"peer_id": 1, "default_pool_size": 11}, peers=peers)
    for pooler in (ours, theirs):
        ask(pooler, special(CANCEL_CODE, bytes([0, 2, 0, 0, 1, 2, 3, 0xFF])))
    for what in ("PEERS", "PEER_POOLS"):
        assert ours.show(what) == theirs.show(what)
    for what in ("peers", "peer_pools"):
        assert ours.show("LISTS", list=what) == theirs.show("LISTS", list=what)


def test_protocol_3_2_has_short_keys_among_peers(make_pooler: MakePooler) -> None:
    """PgBouncer takes requests with 8 bytes only."""
    pooler = make_pooler(settings={"peer_id": 16383})
    with asleep(pooler, version=PROTOCOL_3_2) as wire:
        assert len(wire.key) == 4
        key = full_key(wire)
        assert key[1] | key[2] << 8 == 16383
        ask(pooler, special(CANCEL_CODE, key))
        assert errors(wire) == CANCELED


def test_keys_from_before_the_reload(make_pooler: MakePooler, workers: int) -> None:
    """Clients that were there before peer_id was set can still be cancelled by their own worker."""
    if workers > 1:
        pytest.skip("which worker a key of before belongs to is not known")
    pooler = make_pooler()
    with asleep(pooler) as wire:
        pooler.set({"peer_id": 5})
        ask(pooler, cancel_request(wire.pid, wire.key))
        assert errors(wire) == CANCELED


def test_hops_run_out(make_pooler: MakePooler) -> None:
    """Two members that each take the other one for peer 9: the request ends after three hops."""
    first, second = (make_pooler(settings={"peer_id": number}) for number in (1, 2))
    first.set(peers={"9": f"host=127.0.0.1 port={second.port}"})
    second.set(peers={"9": f"host=127.0.0.1 port={first.port}"})
    key = bytes([0, 9, 0, 0, 1, 2, 3, 0xFF])
    ask(first, special(CANCEL_CODE, key))
    second.wait_log("closing because: failed to forward cancel request because its TTL was exhausted")
    passed_on = "successfully sent cancel request"
    eventually(lambda: first.log().count(passed_on) == 2)
    eventually(lambda: second.log().count(passed_on) == 1)
    ask(first, special(CANCEL_CODE, key[:7] + b"\xfc"))
    first.wait_log("its TTL was exhausted")


def test_unknown_and_dead_peers(make_pooler: MakePooler) -> None:
    peers = {"2": "host=127.0.0.1 port=1", "3": "host=no-such-name.invalid", "4": "host=/nowhere"}
    pooler = make_pooler(settings={"peer_id": 1}, peers=peers)
    with asleep(pooler) as wire:
        for number in (2, 3, 4, 5):
            ask(pooler, special(CANCEL_CODE, bytes([0, number, 0, 0, 1, 2, 3, 0xFF])))
        pooler.wait_log(r"peer-2@127.0.0.1:1 failed cancel request")
        pooler.wait_log(r"peer-3@no-such-name.invalid:6432 failed cancel request: DNS lookup failed")
        pooler.wait_log(r"peer-4@unix:6432 failed cancel request")
        pooler.wait_log("could not find peer to forward request to")
        assert wire.silent(0.05)
        ask(pooler, cancel_request(wire.pid, wire.key))
        assert errors(wire) == CANCELED


def test_requests_beyond_pool_size_wait(make_pooler: MakePooler) -> None:
    """pool_size holds for all workers; a request that waits too long is dropped."""
    home = make_pooler(settings={"peer_id": 2})
    with FaultProxy((home.host, home.port)) as proxy:
        peer = f"host={proxy.host} port={proxy.port} pool_size=1"
        pooler = make_pooler(settings={"peer_id": 1, "cancel_wait_timeout": 2}, peers={"2": peer})
        with asleep(home) as wire:
            proxy.hold_new()
            request = cancel_request(wire.pid, wire.key)
            asking = [Wire((pooler.host, pooler.port)) for _ in range(4)]
            for each in asking:
                each.send(request)

            def counts() -> list[int]:
                [row] = pooler.show("PEER_POOLS")
                return [row["peer_id"], row["cl_active_cancel_req"], row["cl_waiting_cancel_req"]]

            eventually(lambda: counts() == [2, 1, 3], message="they do not wait")
            for each in asking:
                assert each.sock.recv(1) == b""
                each.close()
            assert counts() == [2, 0, 0]
            proxy.release_new()
            ask(pooler, request)
            assert errors(wire) == CANCELED


def test_without_peer_id_nothing_is_passed_on(make_pooler: MakePooler) -> None:
    home = make_pooler(settings={"peer_id": 2})
    pooler = make_pooler(peers={"2": f"host=127.0.0.1 port={home.port}"})
    with asleep(home) as wire:
        ask(pooler, cancel_request(wire.pid, wire.key))
        assert wire.silent(0.2)
