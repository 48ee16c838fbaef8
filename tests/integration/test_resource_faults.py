"""What runs out (memory, watches of epoll) costs the connection that needed it, and nobody else."""

import contextlib
import os
import socket
from collections.abc import Callable

import pytest

from pgferry.embedded import Cluster
from support import faults
from support.clients import raw, raw_soon
from support.pooler import Pooler, eventually
from support.wire import Wire, query, startup

Make = Callable[..., Pooler]

pytestmark = [
    pytest.mark.workers(1),
    pytest.mark.skipif(faults.compiler() is None, reason="no C compiler"),
    pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="something is preloaded already: a sanitizer"),
]


@pytest.fixture
def broken(tmp_path_factory: pytest.TempPathFactory) -> faults.Faults:
    directory = tmp_path_factory.mktemp("faults")
    for path in (directory, directory.parent, directory.parent.parent):
        path.chmod(0o755)
    return faults.Faults(directory)


def is_served(pooler: Pooler, *old: Wire) -> None:
    """Old clients and new ones, the console and RELOAD."""
    for wire in old:
        assert wire.rows("SELECT 1") == [[b"1"]]
    with raw_soon(pooler) as wire:
        assert wire.rows("SELECT 2") == [[b"2"]]
    pooler.admin("RELOAD")
    assert pooler.show("POOLS")


def slow_client(pooler: Pooler) -> Wire:
    """A client for which the kernel keeps little."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.settimeout(10)
    sock.connect((pooler.host, pooler.port))
    wire = Wire(sock)
    wire.send(startup("postgres", "postgres"))
    wire.authenticate("postgres", "")
    return wire


def test_accepting(cluster: Cluster, make_pooler: Make, broken: faults.Faults) -> None:
    """The listener goes on when a connection cannot be watched."""
    pooler = make_pooler(cluster, environment=broken.environment, ignore=".")
    with raw(pooler) as wire:
        is_served(pooler, wire)
        broken.fail("epoll_add", 3)
        for _ in range(3):
            with socket.create_connection((pooler.host, pooler.port), timeout=10) as sock:
                sock.send(startup("postgres", "postgres"))
                with contextlib.suppress(ConnectionResetError):
                    assert sock.recv(1) == b""
        assert broken.left("epoll_add") == 0
        is_served(pooler, wire)
    eventually(lambda: pooler.log().count("[Errno 28] epoll_ctl") == 3)


def test_connecting_to_postgresql(cluster: Cluster, make_pooler: Make, broken: faults.Faults) -> None:
    """A server connection that cannot be watched is one that has failed."""
    pooler = make_pooler(
        cluster,
        environment=broken.environment,
        settings={"default_pool_size": 2, "server_login_retry": 0},
        ignore=".",
    )
    with raw(pooler) as wire, raw(pooler) as other:
        is_served(pooler, wire, other)
        wire.query("BEGIN")
        broken.fail("epoll_add", 3)
        assert other.rows("SELECT 1") == [[b"1"]]
        wire.query("COMMIT")
        broken.fail("epoll_add", 0)
        is_served(pooler, wire, other)


@pytest.mark.parametrize("what", ["queries", "rows"])
def test_memory(cluster: Cluster, make_pooler: Make, broken: faults.Faults, what: str) -> None:
    """Large messages that there is no memory for end their connections; the process lives."""
    pooler = make_pooler(cluster, environment=broken.environment, ignore=".")
    pid = pooler.worker_pids
    large = "x" * 3_000_000
    text = (
        f"SELECT length('{large}')"
        if what == "queries"
        else "SELECT repeat('x', 100000) FROM generate_series(1, 300)"
    )

    def ask(times: int) -> None:
        """One that reads nothing until memory was wanted: with one that keeps up nothing has to be kept."""
        with slow_client(pooler) as wire:
            broken.fail("memory", times)
            wire.send(query(text))
            eventually(lambda: broken.left("memory") < times, message="no memory was wanted")
            wire.until()

    with raw(pooler) as idle:
        is_served(pooler, idle)
        for times in (1, 2, 3, 5, 8):
            with contextlib.suppress(EOFError, ConnectionError):
                ask(times)
            broken.stop()
            is_served(pooler, idle)
    assert pooler.worker_pids == pid


def test_no_login_starts_within_the_failure_of_another(make_pooler: Make) -> None:
    """server_login_retry = 0 and an address that fails at once: tried again and again, and the worker lives."""
    pooler = make_pooler(
        databases={"gone": "host=/nowhere/at/all"},
        settings={"server_login_retry": 0, "client_login_timeout": 2},
        ignore=".",
    )
    pids = pooler.worker_pids
    for _ in range(2):
        with pytest.raises((ConnectionError, EOFError)):
            raw(pooler, "gone")
    assert pooler.worker_pids == pids
    assert pooler.log().count("could not") + pooler.log().count("connect failed") >= 2
