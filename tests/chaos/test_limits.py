"""What runs out: descriptors, the patience of slow readers and writers, memory."""

import itertools
import os
import resource
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from chaos.health import Health, descriptors, private_kb
from pgferry.embedded import Cluster
from support.pooler import Pooler, eventually
from support.proxy import TO_SERVER, FaultProxy
from support.sanitizer import fits
from support.wire import Wire, cancel_request, copy_data, copy_done, query, startup, terminate

MakePooler = Callable[..., Pooler]
MakeHealth = Callable[[Pooler], Health]
HUGE = "SELECT repeat('x', 1000) FROM generate_series(1, 300000)"


def login(pooler: Pooler, database: str = "postgres") -> Wire:
    return Wire.login((pooler.host, pooler.port), database=database)


def settled(pid: int) -> None:
    """Wait until a worker has closed what is on its way out (the last console connection)."""
    count = -1

    def same() -> bool:
        nonlocal count
        before, count = count, descriptors(pid)
        time.sleep(0.1)
        return before == count

    eventually(same)


@contextmanager
def few_descriptors(pooler: Pooler, more: int) -> Iterator[None]:
    """Each worker may open only so many more than it has open now."""
    before = {}
    for pid in pooler.worker_pids:
        settled(pid)
        before[pid] = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        used = {int(fd.name) for fd in os.scandir(f"/proc/{pid}/fd")}
        limit = next(itertools.islice((n for n in itertools.count() if n not in used), more, None))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[pid][1]))
    try:
        yield
    finally:
        for pid, limits in before.items():
            with suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


def latencies(pooler: Pooler, seconds: float) -> list[float]:
    """How long `SELECT 1` takes for another client, in seconds."""
    found = []
    with login(pooler) as wire:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.monotonic()
            assert wire.rows("SELECT 1") == [[b"1"]]
            found.append(time.monotonic() - began)
            time.sleep(0.002)
        wire.send(terminate())
    return found


@contextmanager
def watched(pooler: Pooler) -> Iterator[list[int]]:
    """The highest growth of the workers' memory meanwhile, in KB, as the one item of a list."""
    pids = pooler.worker_pids
    before = sum(map(private_kb, pids))
    most = [0]
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            most[0] = max(most[0], sum(map(private_kb, pids)) - before)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def test_descriptors_for_clients(make_pooler: MakePooler, cluster: Cluster, health: MakeHealth) -> None:
    """Newcomers wait in the kernel, those inside are served; when some leave, the next come in."""
    pooler = make_pooler(cluster, settings={"max_client_conn": 1000})
    well = health(pooler)
    # With a server of its own for each worker before there is no room for more.
    inside = [login(pooler) for _ in range(8)]
    for wire in inside:
        wire.rows("SELECT 1")
    with few_descriptors(pooler, 4):
        outside = []
        while "accept() failed" not in pooler.log():
            outside.append(socket.create_connection((pooler.host, pooler.port), 5))
            outside[-1].sendall(startup("postgres", "postgres"))
            assert len(outside) < 200
            time.sleep(0.005)
        outside += [socket.create_connection((pooler.host, pooler.port), 5) for _ in range(10)]
        for sock in outside[-10:]:
            sock.sendall(startup("postgres", "postgres"))
        for wire in inside:
            assert wire.rows("SELECT 2") == [[b"2"]]
        pooler.wait_log(r"WARNING accept\(\) failed: Too many open files; new clients must wait")
        # Someone leaves: the oldest in the backlog come in.
        for wire in inside:
            wire.close()
        for sock in outside[:-10]:
            sock.close()
        for sock in outside[-10:]:
            sock.settimeout(10)
            assert sock.recv(1) == b"R"
            sock.close()
    well.recovered()
    assert pooler.log().count("accept() failed") < 10


def test_descriptors_for_servers(make_pooler: MakePooler, cluster: Cluster, health: MakeHealth) -> None:
    """No descriptor for a server or a cancel request: clients wait, nothing breaks, and it works later."""
    pooler = make_pooler(cluster, settings={"server_login_retry": 0.2, "log_connections": 0})
    well = health(pooler)
    wires = [login(pooler) for _ in range(6)]
    for wire in wires:
        wire.query("SELECT 1")
    with few_descriptors(pooler, 0):
        for wire in wires:
            wire.send(query("SELECT pg_sleep(0.2)"))
        pooler.wait_log("connect failed: Too many open files")
        for wire in wires:
            assert [m.type for m in wire.until()][-1] == "Z"
    assert wires[0].rows("SELECT 1") == [[b"1"]]
    for wire in wires:
        wire.close()
    well.recovered()


@pytest.mark.workers(1)
def test_descriptors_for_cancel_and_console(
    make_pooler: MakePooler, cluster: Cluster, health: MakeHealth
) -> None:
    """One descriptor left, for the asker: a cancel request is dropped, a console client refused."""
    pooler = make_pooler(cluster)
    well = health(pooler)
    with login(pooler) as wire:
        wire.send(query("SELECT pg_sleep(1)"))
        eventually(lambda: pooler.show("POOLS", database="postgres")[0]["sv_active"] == 1)
        with few_descriptors(pooler, 1):
            with Wire((pooler.host, pooler.port)) as asking:
                key = cancel_request(wire.pid, wire.key)
                asking.send(key)
                assert asking.sock.recv(1) == b""
            with pytest.raises(ConnectionError, match="Too many open files"):
                Wire.login((pooler.host, pooler.port), "admin", "pgbouncer")
        assert [m.type for m in wire.until()] == ["T", "D", "C", "Z"]
        wire.send(terminate())
    pooler.wait_log("failed cancel request: Too many open files")
    well.recovered()


def test_slow_reader(pooler: Pooler, health: MakeHealth) -> None:
    """300 MB that nobody reads: little of it is kept, and other clients notice nothing."""
    well = health(pooler)
    with login(pooler) as slow, watched(pooler) as grown:
        slow.send(query(HUGE))
        found = latencies(pooler, 1.0)
        slow.recv_bytes(1000000)
        found += latencies(pooler, 0.5)
    print(f"grew by {grown[0]} KB, median latency {statistics.median(found) * 1e3:.2f} ms of {len(found)}")
    assert fits(grown[0], 3000)
    assert statistics.median(found) < 0.05
    well.recovered()


def test_slow_reader_gets_everything(pooler: Pooler, health: MakeHealth) -> None:
    """A small window, little by little: every byte in its place."""
    well = health(pooler)
    with login(pooler) as wire:
        wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        wire.send(query("SELECT i, repeat(chr(65 + i % 26), 5000) FROM generate_series(1, 2000) i"))
        rows = []
        for message in wire.until():
            if message.type == "D":
                rows.append(message.row)
            if len(rows) % 400 == 0:
                time.sleep(0.02)
        assert [int(r[0] or 0) for r in rows] == list(range(1, 2001))
        assert all(row[1] == bytes([65 + i % 26]) * 5000 for i, row in enumerate(rows, 1))
        wire.send(terminate())
    well.recovered()


def test_slow_writer(pooler: Pooler, cluster: Cluster, database: str, health: MakeHealth) -> None:
    """Messages that arrive in crumbs hold up nobody else."""
    cluster.sql("CREATE TABLE t (a text)", database)
    well = health(pooler)
    with login(pooler, database) as wire:
        for byte in query("SELECT 1"):
            wire.send(bytes([byte]))
            time.sleep(0.001)
        assert wire.until()[-1].body == b"I"
        wire.send(query("COPY t FROM STDIN"))
        wire.until("G")
        data = b"".join(copy_data(f"line {i}\n") for i in range(200)) + copy_done()
        found: list[float] = []
        thread = threading.Thread(target=lambda: found.extend(latencies(pooler, 0.5)))
        thread.start()
        for at in range(0, len(data), 7):
            wire.send(data[at : at + 7])
            time.sleep(0.0005)
        assert wire.until()[-1].body == b"I"
        thread.join()
        wire.send(terminate())
    assert statistics.median(found) < 0.05
    assert cluster.sql("SELECT count(DISTINCT a) FROM t", database) == [("200",)]
    well.recovered()


def test_server_that_reads_slowly(make_pooler: MakePooler, cluster: Cluster, health: MakeHealth) -> None:
    """A COPY into a server that takes nothing: the client is held back, memory stays."""
    cluster.sql("CREATE TABLE IF NOT EXISTS slow_copy (a text)")
    cluster.sql("TRUNCATE slow_copy")
    with FaultProxy(("127.0.0.1", cluster.port)) as proxy:
        line = f"host={proxy.host} port={proxy.port}"
        pooler = make_pooler(cluster, databases={"*": line})
        well = health(pooler)
        with login(pooler) as wire:
            wire.send(query("COPY slow_copy FROM STDIN"))
            wire.until("G")
            proxy.stall(TO_SERVER)
            piece = copy_data("y" * 9999 + "\n") * 10
            sent = 0
            wire.sock.settimeout(0.5)
            with watched(pooler) as grown, suppress(TimeoutError):
                while sent < 1000:
                    rest = piece
                    while rest:
                        rest = rest[wire.sock.send(rest) :]
                    sent += 1
            assert sent < 1000
            print(f"{sent * 100} KB were taken, memory grew by {grown[0]} KB")
            assert fits(grown[0], 3000)
            proxy.resume()
            wire.sock.settimeout(10)
            wire.send(rest, copy_done())
            assert wire.until()[-1].body == b"I"
            count = wire.rows("SELECT count(*) FROM slow_copy WHERE length(a) = 9999")
            assert count == [[str((sent + 1) * 10).encode()]]
            wire.send(terminate())
        well.recovered()


@pytest.mark.workers(1)
@pytest.mark.pg(15)
def test_error_that_nobody_reads(pooler: Pooler, health: MakeHealth) -> None:
    """A client that does not read loses its server at once, and its connection after ten seconds."""
    well = health(pooler)
    slow = login(pooler)
    slow.send(query(HUGE))
    eventually(lambda: any(r["send_remain"] for r in pooler.show("SOCKETS", type="C", database="postgres")))
    client = pooler.show("CLIENTS", database="postgres")[0]
    pooler.admin(f"KILL_CLIENT {client['id'] if 'id' in client else client['ptr']}")
    eventually(lambda: not pooler.show("SERVERS", state="active"))
    well.recovered(15)
    slow.close()


@pytest.mark.workers(1)
@pytest.mark.pg(15)
def test_memory_of_idle_clients(make_pooler: MakePooler, cluster: Cluster) -> None:
    """At most 4 KB for each idle client (issue 2); a worker at rest within 40 MB."""
    count = 2000
    settings = {"max_client_conn": 5000, "log_connections": 0, "log_disconnections": 0}
    pooler = make_pooler(cluster, settings={**settings, "listen_backlog": 1000})
    [pid] = pooler.worker_pids
    with login(pooler) as wire:
        wire.rows("SELECT 1")
    at_rest = private_kb(pid)
    greeting = startup("postgres", "postgres", application_name="idle client")
    with ExitStack() as stack:
        before = private_kb(pid)
        wires = []
        for _ in range(count):
            wire = stack.enter_context(Wire((pooler.host, pooler.port)))
            wire.send(greeting)
            wires.append(wire)
        for wire in wires:
            wire.until()
        connected = private_kb(pid) - before
        for wire in wires:
            wire.send(query("SELECT 1"))
            wire.until()
        used = private_kb(pid) - before
    print(f"at rest {at_rest} KB; a client {connected / count:.2f} KB, {used / count:.2f} KB after a query")
    assert fits(at_rest, 40 * 1024)
    assert fits(max(connected, used) / count, 4)
    eventually(lambda: not pooler.show("CLIENTS", database="postgres"))
    # A second crowd fits into what the first one left.
    with ExitStack() as stack:
        for _ in range(count):
            wire = stack.enter_context(Wire((pooler.host, pooler.port)))
            wire.send(greeting)
        wire.until()
        again = private_kb(pid) - before
    assert fits(again, max(connected, used) * 1.3 + 1000)
