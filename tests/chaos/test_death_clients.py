"""Clients that leave at the wrong moment: their server is closed or comes back clean, nothing is left."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from chaos.health import Health, private_kb
from pgferry.embedded import Cluster
from support.pooler import Pooler, eventually
from support.programs import program
from support.sanitizer import fits
from support.wire import SSL_CODE, Wire, bind, copy_data, execute, parse, query, special, startup, terminate

MakePooler = Callable[..., Pooler]
MakeHealth = Callable[[Pooler], Health]
NOT_READY = "client disconnect while server was not ready"
IN_PROGRESS = "client disconnected with query in progress"


@pytest.fixture(params=["fin", "reset"])
def leave(request: pytest.FixtureRequest) -> Callable[[Wire], None]:
    """How a client goes away: close() of its socket, or a TCP reset."""
    return Wire.close if request.param == "fin" else Wire.reset


def login(pooler: Pooler, database: str = "postgres") -> Wire:
    return Wire.login((pooler.host, pooler.port), database=database)


def console_answers(pooler: Pooler) -> bool:
    try:
        return bool(pooler.show("VERSION"))
    except psycopg.OperationalError:
        return False


@contextmanager
def stopped(pooler: Pooler) -> Iterator[None]:
    """Workers see nothing of what happens meanwhile, and then all of it at once."""
    pids = pooler.worker_pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_mid_query(pooler: Pooler, health: MakeHealth, leave: Callable[[Wire], None]) -> None:
    well = health(pooler)
    wire = login(pooler)
    wire.send(query("SELECT pg_sleep(2)"))
    eventually(lambda: pooler.show("POOLS", database="postgres")[0]["sv_active"] == 1)
    leave(wire)
    pooler.wait_log(f"closing because: {IN_PROGRESS}")
    well.recovered()


def test_in_transaction(
    pooler: Pooler, cluster: Cluster, database: str, health: MakeHealth, leave: Callable[[Wire], None]
) -> None:
    """The transaction is gone with its server; another client never comes into it."""
    cluster.sql("CREATE TABLE t (a int)", database)
    well = health(pooler)
    wire = login(pooler, database)
    wire.query("BEGIN")
    wire.query("INSERT INTO t VALUES (1)")
    leave(wire)
    pooler.wait_log(f"closing because: {NOT_READY}")
    assert cluster.sql("SELECT count(*) FROM t", database) == [("0",)]
    with login(pooler, database) as other:
        assert other.query("SELECT 1")[-1].body == b"I"
    well.recovered()


def test_failed_transaction(pooler: Pooler, health: MakeHealth, leave: Callable[[Wire], None]) -> None:
    well = health(pooler)
    wire = login(pooler)
    wire.query("BEGIN")
    assert wire.query("SELECT 1/0")[-1].body == b"E"
    leave(wire)
    pooler.wait_log(f"closing because: {NOT_READY}")
    well.recovered()


def test_copy_in(
    pooler: Pooler, cluster: Cluster, database: str, health: MakeHealth, leave: Callable[[Wire], None]
) -> None:
    cluster.sql("CREATE TABLE t (a text)", database)
    well = health(pooler)
    wire = login(pooler, database)
    wire.send(query("COPY t FROM STDIN"))
    wire.until("G")
    wire.send(copy_data("row\n") * 1000, copy_data("half a r")[:8])
    leave(wire)
    pooler.wait_log(f"closing because: {IN_PROGRESS}")
    eventually(lambda: "COPY t" not in str(cluster.sql("SELECT query FROM pg_stat_activity WHERE pid > 0")))
    assert cluster.sql("SELECT count(*) FROM t", database) == [("0",)]
    well.recovered()


def test_copy_out(pooler: Pooler, health: MakeHealth, leave: Callable[[Wire], None]) -> None:
    well = health(pooler)
    wire = login(pooler)
    wire.send(query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 1000000)) TO STDOUT"))
    wire.until("d", 100)
    leave(wire)
    pooler.wait_log(f"closing because: {IN_PROGRESS}")
    well.recovered()


def test_waiting(
    make_pooler: MakePooler, cluster: Cluster, health: MakeHealth, leave: Callable[[Wire], None]
) -> None:
    """In the queue: its place is given up, its query is never run."""
    pooler = make_pooler(cluster, settings={"default_pool_size": 1})
    well = health(pooler)
    waiting = [login(pooler) for _ in range(3)]
    with login(pooler) as busy:
        busy.query("BEGIN")
        for wire in waiting:
            wire.send(query("SELECT 'never run'"))
        eventually(lambda: pooler.show("POOLS", database="postgres")[0]["cl_waiting"] == 3)
        for wire in waiting:
            leave(wire)
        eventually(lambda: pooler.show("POOLS", database="postgres")[0]["cl_waiting"] == 0)
        busy.query("COMMIT")
        assert busy.rows("SELECT query FROM pg_stat_activity WHERE query = 'SELECT ''never run'''") == []
        busy.send(terminate())
    well.recovered()


def test_mid_message(pooler: Pooler, health: MakeHealth, leave: Callable[[Wire], None]) -> None:
    """A message that never becomes whole: on the way to a server already, or not judged yet."""
    well = health(pooler)
    pieces = [query("SELECT 1" + " " * 100000)[:50000], parse("SELECT 1" * 1000, "name")[:300], b"Q\0\0"]
    pieces += [parse("SELECT 1") + bind(["x" * 1000])[:500], b"Q", b"X\0", copy_data("x" * 99)[:50]]
    for piece in pieces:
        wire = login(pooler)
        wire.send(piece)
        leave(wire)
    well.recovered()


def test_in_a_batch(pooler: Pooler, health: MakeHealth, leave: Callable[[Wire], None]) -> None:
    """A batch without its Sync, answered and not."""
    well = health(pooler)
    for name in ("", "named"):
        wire = login(pooler)
        wire.send(parse("SELECT pg_sleep(0.01)", name), bind(statement=name), execute(), b"H\0\0\0\4")
        wire.until("C")
        leave(wire)
        wire = login(pooler)
        wire.send(parse("SELECT 1", name), bind(statement=name))
        leave(wire)
    well.recovered()


def test_logging_in(
    make_pooler: MakePooler, cluster: Cluster, health: MakeHealth, leave: Callable[[Wire], None]
) -> None:
    """At every step of a login: nothing sent, half a startup packet, no password, no server."""
    pooler = make_pooler(
        cluster,
        settings={"server_login_retry": 0.2},
        databases={"down": "host=127.0.0.1 port=1", "*": f"host=127.0.0.1 port={cluster.port}"},
        userlist={"postgres": "secret", "admin": ""},
    )
    well = health(pooler)
    packet = startup("postgres", "down")
    whole = [Wire((pooler.host, pooler.port)) for _ in range(3)]
    for wire in whole:
        wire.send(packet)
    eventually(lambda: len(pooler.show("SOCKETS", database="down", type="C")) == 3)
    pooler.set({"auth_type": "scram-sha-256"})
    for end in (0, 1, 8, len(packet) - 1, len(packet)):
        wire = Wire((pooler.host, pooler.port))
        wire.send(packet[:end])
        if end == len(packet):
            assert wire.recv().type == "R"
        whole.append(wire)
    wire = Wire((pooler.host, pooler.port))
    wire.send(special(SSL_CODE))
    assert wire.recv_bytes(1) == b"N"
    whole.append(wire)
    for wire in whole:
        leave(wire)
    pooler.set({"auth_type": "trust"}, reload=False)
    pooler.signal(signal.SIGHUP)
    eventually(lambda: console_answers(pooler))
    eventually(lambda: not pooler.show("SOCKETS", database="down", type="C"))
    assert pooler.show("LISTS", list="login_clients")[0]["items"] == 0
    pooler.set(databases={"down": None})
    well.recovered()


def test_kill_9(pooler: Pooler, health: MakeHealth) -> None:
    """psql killed in the middle of its query."""
    well = health(pooler)
    with subprocess.Popen(
        [program("psql"), "-X", "-c", "SELECT pg_sleep(2)", pooler.conninfo()], stdout=subprocess.DEVNULL
    ) as psql:
        eventually(lambda: pooler.show("POOLS", database="postgres")[0]["sv_active"] == 1)
        psql.kill()
    pooler.wait_log(f"closing because: {IN_PROGRESS}")
    well.recovered()


def test_last_words_and_end_at_once(
    pooler: Pooler, cluster: Cluster, database: str, health: MakeHealth
) -> None:
    """Query and end of stream (or Terminate) seen together: carried out, and the client is not forgotten."""
    cluster.sql("CREATE TABLE t (a int)", database)
    well = health(pooler)
    wires = [login(pooler, database) for _ in range(4)]
    wires[0].rows("SELECT 1")
    with stopped(pooler):
        for number, wire in enumerate(wires):
            wire.send(query(f"INSERT INTO t VALUES ({number})"), terminate() if number % 2 else b"")
            wire.close()
    well.recovered()
    eventually(lambda: cluster.sql("SELECT count(*) FROM t", database) == [("4",)])


def test_half_closed(pooler: Pooler, health: MakeHealth) -> None:
    """A client that shuts its sending side while idle is gone."""
    well = health(pooler)
    with login(pooler) as wire:
        wire.sock.shutdown(1)
        with pytest.raises(EOFError):
            wire.recv()
    well.recovered()


@pytest.mark.workers(1)
@pytest.mark.pg(15)
def test_many_rounds(make_pooler: MakePooler, cluster: Cluster, health: MakeHealth) -> None:
    """Hundreds of deaths of every kind: memory does not grow, and no place in max_client_conn is lost."""
    settings = {"max_client_conn": 15, "default_pool_size": 5, "server_login_retry": 0.2}
    pooler = make_pooler(cluster, settings=settings)
    well = health(pooler)

    def some() -> None:
        for number in range(120):
            wire = login(pooler)
            if number % 4 == 0:
                wire.send(query("SELECT repeat('x', 100000)"))
            elif number % 4 == 1:
                wire.query("BEGIN")
            elif number % 4 == 2:
                wire.send(parse("SELECT 1", f"s{number}"), bind(statement=f"s{number}"), b"H\0\0\0\4")
                wire.until("2")
            else:
                wire.send(query("SELECT 1"))
            (Wire.reset if number % 3 else Wire.close)(wire)
            if number % 10 == 9:
                eventually(lambda: len(pooler.show("CLIENTS", database="postgres")) == 0)

    some()
    before = private_kb(pooler.worker_pids[0])
    for _ in range(3):
        some()
    well.recovered()
    grown = private_kb(pooler.worker_pids[0]) - before
    print(f"memory grew by {grown} KB in 360 deaths")
    assert fits(grown, 600)
