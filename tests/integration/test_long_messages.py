"""Results of long rows, which pass from socket to socket unread (engine/splicing)."""

import hashlib
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pgferry.embedded.cluster import Cluster
from support.pooler import Pooler, eventually
from support.wire import Wire, query, startup, types

Make = Callable[..., Pooler]
SIZES = (1_300_000, 700_000, 150_000, 132_000, 120_000, 5, 2_500_000, 40, 600_000)  # around splicing's limits
ROWS = 90
MANY = "SELECT g, repeat(md5(g::text), 40000) FROM generate_series(1, 200) g"  # 256 MB


def statement() -> str:
    sizes = ",".join(map(str, SIZES))
    return (
        f"SELECT left(repeat(md5(g::text), 80000), ('{{{sizes}}}'::int[])[g % {len(SIZES)} + 1]) "
        f"FROM generate_series(0, {ROWS - 1}) g"
    )


def expected(row: int) -> bytes:
    return (hashlib.md5(b"%d" % row).hexdigest() * 80000)[: SIZES[row % len(SIZES)]].encode()


def pipes(pooler: Pooler) -> int:
    """Ends of pipes that the workers have open."""
    found = 0
    for pid in pooler.worker_pids:
        for fd in Path(f"/proc/{pid}/fd").iterdir():
            try:
                found += str(fd.readlink()).startswith("pipe:")
            except FileNotFoundError:
                continue
    return found


def read_all(wire: Wire, pause: float = 0) -> None:
    """The result of statement(), every byte."""
    for row in range(ROWS):
        if pause and row % 9 == 0:
            time.sleep(pause)
        got = wire.recv()
        assert got.type == "D"
        assert got.row == [expected(row)], f"row {row}"
    assert types(wire.until()) == "CZ"


@pytest.mark.parametrize("towards_server", ["tcp", "unix"])
@pytest.mark.parametrize("from_client", ["tcp", "unix"])
def test_every_byte_arrives(
    cluster: Cluster, make_pooler: Make, towards_server: str, from_client: str
) -> None:
    pooler = make_pooler(cluster)
    if towards_server == "unix":
        pooler.set(databases={"*": pooler.server(host=cluster.socket_dir)})
    tcp = (pooler.host, pooler.port)
    address = tcp if from_client == "tcp" else f"{pooler.socket_dir}/.s.PGSQL.{pooler.port}"
    before = pipes(pooler)
    with Wire.login(address, timeout=60) as wire:
        for _ in range(2):
            wire.send(query(statement()))
            assert wire.recv().type == "T"
            read_all(wire)
    assert pipes(pooler) == before + 2


def test_a_slow_reader_gets_every_byte(pooler: Pooler) -> None:
    """Its small buffer leaves bytes in the pipe; another client reads fast meanwhile."""
    address = (pooler.host, pooler.port)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(60)
    sock.connect(address)
    with Wire(sock) as slow, Wire.login(address, timeout=60) as fast:
        slow.send(startup("postgres", "postgres"))
        slow.until()
        slow.send(query(statement()))
        assert slow.recv().type == "T"
        fast.send(query(statement()))
        assert fast.recv().type == "T"
        read_all(fast)
        read_all(slow, pause=0.05)


def test_a_client_that_leaves_takes_nothing_along(pooler: Pooler) -> None:
    """Neither the next client nor one that reads at the same time gets a byte of what it left behind."""
    address = (pooler.host, pooler.port)
    for _ in range(3):
        with Wire.login(address, timeout=60) as reader:
            with Wire.login(address, timeout=60) as leaver:
                reader.send(query(statement()))
                leaver.send(query(MANY))
                assert reader.recv().type == "T"
                leaver.recv_bytes(3_000_000)
            read_all(reader)
            assert reader.rows("SELECT 1") == [[b"1"]]
    eventually(lambda: not pooler.show("CLIENTS", database="postgres"))


def test_a_server_that_dies_in_the_middle(cluster: Cluster, pooler: Pooler) -> None:
    with Wire.login((pooler.host, pooler.port), timeout=60) as wire:
        wire.send(query(MANY))
        assert wire.recv().type == "T"
        wire.recv_bytes(3_000_000)
        cluster.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%40000%generate%'"
            " AND pid <> pg_backend_pid()"
        )
        with pytest.raises((EOFError, ConnectionResetError)):
            while True:
                wire.recv_bytes(1_000_000)
    with Wire.login((pooler.host, pooler.port), timeout=60) as wire:
        wire.send(query(statement()))
        assert wire.recv().type == "T"
        read_all(wire)


def test_without_descriptors_for_a_pipe(cluster: Cluster, make_pooler: Make) -> None:
    pooler = make_pooler(cluster, workers=1)
    with Wire.login((pooler.host, pooler.port), timeout=60) as wire:
        wire.query("SELECT 1")
        before = pipes(pooler)
        with no_descriptors(pooler.worker_pids[0]):
            wire.send(query(statement()))
            assert wire.recv().type == "T"
            read_all(wire)
        assert pipes(pooler) == before


@contextmanager
def no_descriptors(pid: int) -> Iterator[None]:
    """The process can open nothing."""
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
