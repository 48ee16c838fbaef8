"""Cancel requests: they end the query of the client that asked, and never anybody else's (COMPAT 4.7)."""

import contextlib
import random
import socket
import struct
import threading
import time
from collections.abc import Callable

import pytest

from chaos.health import Health
from pgferry.embedded import Cluster
from support.pooler import Pooler, eventually
from support.proxy import TO_CLIENT, FaultProxy
from support.wire import (
    CANCEL_CODE,
    PROTOCOL_3_2,
    Message,
    Wire,
    bind,
    cancel_request,
    execute,
    parse,
    query,
    special,
    startup,
    sync,
    terminate,
)

SLEEP = "SELECT pg_sleep(20)"
CANCELED = ["57014"]
MakePooler = Callable[..., Pooler]
MakeHealth = Callable[[Pooler], Health]


def request(pooler: Pooler, wire: Wire, address: object = None) -> float:
    """Send a cancel request for this client and wait until the pooler closes it; seconds that took."""
    began = time.monotonic()
    with Wire(address or (pooler.host, pooler.port)) as asking:  # type: ignore[arg-type]
        asking.send(cancel_request(wire.pid, wire.key))
        assert asking.sock.recv(1) == b""
    return time.monotonic() - began


def errors(answer: list[Message]) -> list[str]:
    return [m.sqlstate for m in answer if m.type == "E"]


def login(pooler: Pooler, **more: object) -> Wire:
    return Wire.login((pooler.host, pooler.port), **more)  # type: ignore[arg-type]


def start_query(pooler: Pooler, sql: str = SLEEP, **more: object) -> Wire:
    """A client whose query runs on a server already."""
    wire = login(pooler, **more)
    wire.send(query(sql))
    eventually(lambda: running(pooler, wire), message="the query did not start")
    return wire


def running(pooler: Pooler, wire: Wire) -> bool:
    """Whether PostgreSQL is in this client's pg_sleep(): before, it would ignore a cancel request."""
    port = wire.sock.getsockname()[1] if wire.sock.family != socket.AF_UNIX else None
    links = {r["link"] for r in pooler.show("CLIENTS") if r["link"] and port in (None, r["port"])}
    pids = [r["remote_pid"] for r in pooler.show("SERVERS") if r["ptr"] in links]
    assert pooler.cluster is not None
    asleep = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid = "
    return any(pooler.cluster.sql(asleep + str(pid)) for pid in pids)


def test_right_query(pooler: Pooler, health: MakeHealth, workers: int) -> None:
    """Only the one; requests arrive at either worker, since each has a connection of its own."""
    well = health(pooler)
    others = [start_query(pooler) for _ in range(4)]
    for _ in range(4 * workers):
        with start_query(pooler) as wire:
            request(pooler, wire)
            answer = wire.until()
            assert errors(answer) == CANCELED
            assert answer[-1].body == b"I"
            assert wire.rows("SELECT 1") == [[b"1"]]
    assert all(wire.silent(0.05) for wire in others)
    for wire in others:
        request(pooler, wire)
        assert errors(wire.until()) == CANCELED
        wire.close()
    well.recovered()


@pytest.mark.parametrize("mode", ["session", "statement"])
def test_modes(make_pooler: MakePooler, cluster: Cluster, health: MakeHealth, mode: str) -> None:
    pooler = make_pooler(cluster, settings={"pool_mode": mode})
    well = health(pooler)
    with start_query(pooler) as wire:
        request(pooler, wire)
        assert errors(wire.until()) == CANCELED
        assert wire.rows("SELECT 1") == [[b"1"]]
        wire.send(terminate())
    well.recovered()


def test_long_keys(pooler: Pooler) -> None:
    """Protocol 3.2: 32 bytes of secret; a truncated or extended one is nobody's."""
    with start_query(pooler, version=PROTOCOL_3_2) as wire:
        assert len(wire.key) == 32
        head = struct.pack("!i", wire.pid)
        for key in (wire.key[:4], wire.key[:31], wire.key + b"x"):
            with Wire((pooler.host, pooler.port)) as asking:
                asking.send(special(CANCEL_CODE, head + key))
                assert asking.sock.recv(1) == b""
        assert wire.silent(0.1)
        request(pooler, wire)
        assert errors(wire.until()) == CANCELED


def test_wrong_keys(pooler: Pooler, health: MakeHealth) -> None:
    """Unknown, short, empty and absurd keys: closed without a word, nobody is cancelled."""
    well = health(pooler)
    wire = start_query(pooler)
    good = struct.pack("!i", wire.pid) + wire.key
    wrong = [b"", good[:1], good[:7], good[:4] + bytes(4), bytes(8), b"\xff" * 8, good + bytes(300)]
    wrong += [good[:3] + bytes([good[3] ^ bit]) + good[4:] for bit in (1, 2, 128)]
    wrong += [good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :] for i in range(8)]
    for key in wrong:
        with Wire((pooler.host, pooler.port)) as asking:
            asking.send(special(CANCEL_CODE, key))
            with contextlib.suppress(ConnectionResetError):
                asking.sock.recv(1)
    assert wire.silent(0.2)
    request(pooler, wire)
    assert errors(wire.until()) == CANCELED
    wire.close()
    well.recovered()


def test_idle_client(pooler: Pooler) -> None:
    """Outside a query, and in a transaction between two queries, nothing happens."""
    with login(pooler) as wire:
        request(pooler, wire)
        assert wire.rows("SELECT 1") == [[b"1"]]
        wire.query("BEGIN")
        request(pooler, wire)
        assert wire.rows("SELECT 2") == [[b"2"]]
        assert wire.query("COMMIT")[-1].body == b"I"


def test_waiting_client(make_pooler: MakePooler, cluster: Cluster) -> None:
    """A request for a client that still waits is dropped (as PgBouncer does); its query runs in its turn."""
    pooler = make_pooler(cluster, settings={"default_pool_size": 1})
    second = login(pooler)
    first = start_query(pooler, "SELECT pg_sleep(20), 'first'")
    second.send(query("SELECT 'second'"))
    eventually(lambda: pooler.show("POOLS", database="postgres")[0]["cl_waiting"] == 1)
    request(pooler, second)
    assert second.silent(0.1)
    assert first.silent(0.01)
    request(pooler, first)
    assert errors(first.until()) == CANCELED
    assert [m.row for m in second.until() if m.type == "D"] == [[b"second"]]


def test_unix_socket(pooler: Pooler) -> None:
    """Key from TCP, request over the unix socket, and the other way round."""
    path = f"{pooler.socket_dir}/.s.PGSQL.{pooler.port}"
    with start_query(pooler) as wire:
        request(pooler, wire, path)
        assert errors(wire.until()) == CANCELED
    with Wire.login(path) as wire:
        wire.send(query(SLEEP))
        eventually(lambda: running(pooler, wire))
        request(pooler, wire)
        assert errors(wire.until()) == CANCELED


def test_server_on_unix_socket(make_pooler: MakePooler, cluster: Cluster) -> None:
    """The request goes to PostgreSQL the way the server connection went."""
    line = f"host={cluster.socket_dir} port={cluster.port}"
    pooler = make_pooler(cluster, databases={"postgres": line})
    with start_query(pooler) as wire:
        request(pooler, wire)
        assert errors(wire.until()) == CANCELED


@pytest.mark.parametrize("what", ["PAUSE", "PAUSE postgres"])
def test_console_pause(pooler: Pooler, health: MakeHealth, what: str) -> None:
    """A PAUSE that waits is given up, and what it had stopped goes on."""
    well = health(pooler)
    with login(pooler) as wire, Wire.login((pooler.host, pooler.port), "admin", "pgbouncer") as console:
        wire.query("BEGIN")
        console.send(query(what))
        assert console.silent(0.2)
        with Wire((pooler.host, pooler.port)) as other:
            other.send(startup("postgres", "postgres"))
            other.until()
            other.send(query("SELECT 1"))
            assert other.silent(0.2)
            request(pooler, console)
            assert [m.type for m in console.until()] == ["E", "Z"]
            assert [m.row for m in other.until() if m.type == "D"] == [[b"1"]]
        assert wire.query("COMMIT")[-1].body == b"I"
        wire.send(terminate())
    well.recovered()


def test_pipeline(pooler: Pooler) -> None:
    """In a pipeline the running batch fails; batches behind its Sync are carried out."""
    with login(pooler) as wire:
        for sql in (SLEEP, "SELECT 7"):
            wire.send(parse(sql), bind(), execute(), sync())
        eventually(lambda: running(pooler, wire))
        request(pooler, wire)
        answer = wire.until(count=2)
        assert errors(answer) == CANCELED
        assert [m.row for m in answer if m.type == "D"] == [[b"7"]]


class Load:
    """Clients that run short queries and cancel them at bad moments, over few servers.

    Half of them ask for cancels, the others must never notice.
    """

    def __init__(self, pooler: Pooler, seconds: float) -> None:
        self.pooler = pooler
        self.end = time.monotonic() + seconds
        self.strays: list[str] = []
        self.failures: list[str] = []
        self.queries = self.requests = self.hits = 0
        self.lock = threading.Lock()

    def run(self, clients: int) -> None:
        threads = [threading.Thread(target=self._client, args=(i,)) for i in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _client(self, number: int) -> None:
        try:
            with login(self.pooler) as wire:
                if number % 2:
                    self._asking(wire, number)
                else:
                    self._quiet(wire, number)
        except (OSError, EOFError, AssertionError) as error:
            self.failures.append(f"client {number}: {error!r}")

    def _quiet(self, wire: Wire, number: int) -> None:
        turn = 0
        while time.monotonic() < self.end:
            turn += 1
            answer = wire.query(f"SELECT {number}, {turn}, pg_sleep({(turn % 3) / 500})")
            self.strays += [f"client {number}: {m.text}" for m in answer if m.type == "E"]
            rows = [m.row[:2] for m in answer if m.type == "D"]
            assert rows == [[b"%d" % number, b"%d" % turn]] or self.strays, rows
        self._add(turn, 0, 0)

    def _asking(self, wire: Wire, number: int) -> None:
        turn = hits = 0
        while time.monotonic() < self.end:
            turn += 1
            seconds = 0.05 if turn % 4 == 0 else turn % 5 / 1000
            wire.send(query(f"SELECT {number}, {turn}, pg_sleep({seconds})"))
            time.sleep(random.random() * seconds)
            with Wire((self.pooler.host, self.pooler.port)) as asking:
                asking.send(cancel_request(wire.pid, wire.key))
                if turn % 2:
                    assert asking.sock.recv(1) == b""
                answer = wire.until()
            found = errors(answer)
            assert found in ([], CANCELED), found
            hits += bool(found)
            rows = [m.row[:2] for m in answer if m.type == "D"]
            assert found or rows == [[b"%d" % number, b"%d" % turn]], rows
        self._add(turn, turn, hits)

    def _add(self, queries: int, requests: int, hits: int) -> None:
        with self.lock:
            self.queries += queries
            self.requests += requests
            self.hits += hits


def test_never_another_client(make_pooler: MakePooler, cluster: Cluster, health: MakeHealth) -> None:
    """Thousands of cancel requests that race with the end of their queries: only the right client is hit."""
    pooler = make_pooler(
        cluster, settings={"default_pool_size": 3, "log_connections": 0, "log_disconnections": 0}
    )
    well = health(pooler)
    load = Load(pooler, 4.0)
    load.run(16)
    print(f"{load.queries} queries, {load.requests} requests, {load.hits} hits")
    assert not load.strays, load.strays[:5]
    assert not load.failures, load.failures[:5]
    assert load.requests > 200
    assert load.hits > 10
    well.recovered()


def test_being_canceled_is_not_handed_out(
    make_pooler: MakePooler, cluster: Cluster, health: MakeHealth
) -> None:
    """Query over, request still on its way: the server waits for the request's end, and so do clients."""
    with FaultProxy(("127.0.0.1", cluster.port)) as proxy:
        line = f"host={proxy.host} port={proxy.port}"
        pooler = make_pooler(cluster, databases={"*": line}, settings={"default_pool_size": 1})
        well = health(pooler)
        other, wire = login(pooler), login(pooler)
        wire.send(query("SELECT pg_sleep(0.4)"))
        eventually(lambda: running(pooler, wire))
        with Held(proxy) as held, Wire((pooler.host, pooler.port)) as asking:
            asking.send(cancel_request(wire.pid, wire.key))
            assert errors(wire.until()) == []
            # Not at once where the worker does not know the functions yet: it asks for session state first.
            waiting = {"sv_being_canceled": 1, "cl_active_cancel_req": 1}
            eventually(lambda: pooler.show("POOLS", database="postgres", **waiting))
            other.send(query("SELECT pg_sleep(0.3)"))
            assert other.silent(0.3)
            assert asking.silent(0.01)
            held.release()
            assert asking.sock.recv(1) == b""
            assert errors(other.until()) == []
        other.close()
        wire.close()
        well.recovered()


class Held:
    """While it lasts, new connections through the proxy are accepted and not forwarded."""

    def __init__(self, proxy: FaultProxy) -> None:
        self.proxy = proxy

    def __enter__(self) -> "Held":
        self.proxy.hold_new()
        return self

    def release(self) -> None:
        self.proxy.release_new()

    def __exit__(self, *_: object) -> None:
        self.release()


def test_no_answer_to_the_request(make_pooler: MakePooler, cluster: Cluster, health: MakeHealth) -> None:
    """Nobody knows whether the signal comes: after cancel_wait_timeout the server is closed, not reused."""
    with FaultProxy(("127.0.0.1", cluster.port)) as proxy:
        line = f"host={proxy.host} port={proxy.port}"
        settings = {"default_pool_size": 1, "cancel_wait_timeout": 1}
        pooler = make_pooler(cluster, databases={"*": line}, settings=settings)
        well = health(pooler)
        with start_query(pooler, "SELECT pg_backend_pid(), pg_sleep(0.6)") as wire, Held(proxy):
            took = request(pooler, wire)
            assert 0.9 < took < 4
            [backend] = [m.row[0] for m in wire.until() if m.type == "D"]
            proxy.release_new()
            assert wire.rows("SELECT pg_backend_pid()") != [[backend]]
        pooler.wait_log("closing because: cancel request got no answer")
        well.recovered()


def test_requests_beyond_the_limit_wait(
    make_pooler: MakePooler, cluster: Cluster, health: MakeHealth
) -> None:
    """At most twice pool_size connections at a time; the others wait, and are dropped when in vain."""
    with FaultProxy(("127.0.0.1", cluster.port)) as proxy:
        line = f"host={proxy.host} port={proxy.port}"
        settings = {"default_pool_size": 1, "cancel_wait_timeout": 1}
        pooler = make_pooler(cluster, databases={"*": line}, settings=settings)
        well = health(pooler)
        with start_query(pooler, "SELECT pg_sleep(0.6)") as wire, Held(proxy):
            asking = [Wire((pooler.host, pooler.port)) for _ in range(5)]
            for each in asking:
                each.send(cancel_request(wire.pid, wire.key))
            eventually(lambda: pooler.show("POOLS", database="postgres")[0]["cl_waiting_cancel_req"] == 3)
            assert pooler.show("POOLS", database="postgres")[0]["cl_active_cancel_req"] == 2
            assert errors(wire.until()) == []
            for each in asking:
                assert each.sock.recv(1) == b""
                each.close()
        well.recovered()


def test_server_refuses_the_request(make_pooler: MakePooler, cluster: Cluster, health: MakeHealth) -> None:
    """A request that cannot be delivered is over; the query goes on."""
    with FaultProxy(("127.0.0.1", cluster.port)) as proxy:
        line = f"host={proxy.host} port={proxy.port}"
        pooler = make_pooler(cluster, databases={"*": line})
        well = health(pooler)
        with login(pooler) as wire:
            wire.send(query("SELECT pg_sleep(0.5)"))
            eventually(lambda: running(pooler, wire))
            proxy.refuse()
            request(pooler, wire)
            proxy.resume()
            assert errors(wire.until()) == []
        well.recovered()


def test_asker_leaves_at_once(pooler: Pooler, health: MakeHealth) -> None:
    """Who asks need not stay for the end."""
    well = health(pooler)
    with start_query(pooler) as wire:
        asking = Wire((pooler.host, pooler.port))
        asking.send(cancel_request(wire.pid, wire.key))
        asking.close()
        assert errors(wire.until()) == CANCELED
    well.recovered()


def test_client_leaves_meanwhile(pooler: Pooler, health: MakeHealth) -> None:
    """The client goes away while its cancel request is on its way: nothing is left behind."""
    well = health(pooler)
    for _ in range(10):
        wire = start_query(pooler, "SELECT pg_sleep(0.3)")
        asking = Wire((pooler.host, pooler.port))
        asking.send(cancel_request(wire.pid, wire.key))
        wire.reset()
        asking.sock.recv(1)
        asking.close()
    well.recovered()


def test_direction_stalled(make_pooler: MakePooler, cluster: Cluster, health: MakeHealth) -> None:
    """The cancel's error arrives late: the client waits for it, others use other servers."""
    with FaultProxy(("127.0.0.1", cluster.port)) as proxy:
        line = f"host={proxy.host} port={proxy.port}"
        pooler = make_pooler(cluster, databases={"*": line})
        well = health(pooler)
        with start_query(pooler) as wire:
            proxy.stall(TO_CLIENT)
            with Wire((pooler.host, pooler.port)) as asking:
                asking.send(cancel_request(wire.pid, wire.key))
                assert wire.silent(0.2)
                proxy.resume()
                assert errors(wire.until()) == CANCELED
                assert asking.sock.recv(1) == b""
        well.recovered()
