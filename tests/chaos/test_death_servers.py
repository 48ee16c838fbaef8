"""PostgreSQL dies, restarts, refuses, hangs: the right error to the right client, then health again."""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chaos.health import Health
from pgferry.embedded import Cluster
from support.pooler import Pooler, eventually
from support.proxy import TO_CLIENT, FaultProxy
from support.wire import Wire, copy_data, last_words, query, said, terminate

MakePooler = Callable[..., Pooler]
MakeHealth = Callable[[Pooler], Health]
CRASHED = ("FATAL", "08P01", "server conn crashed?")
QUICK = {"server_login_retry": 0.2, "server_connect_timeout": 3}


def login(pooler: Pooler, database: str = "postgres") -> Wire:
    return Wire.login((pooler.host, pooler.port), database=database)


def busy(pooler: Pooler, count: int, database: str = "postgres") -> None:
    """Wait until so many clients are linked."""

    def linked() -> bool:
        return sum(row["link"] != "" for row in pooler.show("CLIENTS", database=database)) == count

    eventually(linked, message=f"there were never {count} linked clients")


@contextmanager
def stopped(pooler: Pooler) -> Iterator[None]:
    """Workers see nothing of what happens meanwhile, and then all of it at once."""
    pids = pooler.worker_pids
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    eventually(lambda: all(state(pid) == "T" for pid in pids))
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def state(pid: int) -> str:
    """The process's state as ps shows it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def backend(wire: Wire) -> int:
    return int(wire.rows("SELECT pg_backend_pid()")[0][0] or 0)


@pytest.mark.parametrize("together", [False, True])
def test_terminated(pooler: Pooler, cluster: Cluster, health: MakeHealth, together: bool) -> None:
    """pg_terminate_backend: PostgreSQL's own error first, then the pooler's; other clients go on.

    `together`: error and end of the stream reach the worker in one event.
    """
    well = health(pooler)
    running, idle, other = login(pooler), login(pooler), login(pooler)
    running.query("BEGIN")
    idle.query("BEGIN")
    pids = [backend(running), backend(idle)]
    running.send(query("SELECT pg_sleep(20)"))
    eventually(lambda: cluster.sql(f"SELECT 1 FROM pg_stat_activity WHERE pid={pids[0]} AND query ~ 'sleep'"))

    def kill() -> None:
        for pid in pids:
            cluster.sql(f"SELECT pg_terminate_backend({pid})")
        eventually(lambda: not any(map(exists, pids)))

    if together:
        with stopped(pooler):
            kill()
    else:
        kill()
    admin = ("FATAL", "57P01", "terminating connection due to administrator command")
    for wire in (running, idle):
        assert said(last_words(wire)) == [admin, CRASHED]
    assert other.rows("SELECT 1") == [[b"1"]]
    other.close()
    well.recovered()


def test_idle_server_terminated(pooler: Pooler, cluster: Cluster, health: MakeHealth) -> None:
    """No client notices the death of a server that nobody used."""
    well = health(pooler)
    with login(pooler) as wire:
        for _ in range(3):
            pid = backend(wire)
            assert pooler.show("SERVERS", remote_pid=pid)
            with stopped(pooler):
                cluster.sql(f"SELECT pg_terminate_backend({pid})")
                eventually(lambda p=pid: not exists(p))
            eventually(lambda p=pid: not pooler.show("SERVERS", remote_pid=p))
            assert backend(wire) != pid
        wire.send(terminate())
    well.recovered()


def test_idle_server_terminated_when_a_query_comes(
    pooler: Pooler, cluster: Cluster, health: MakeHealth
) -> None:
    """The worker hears of the query first, of the server's death second, both at once: the query goes elsewhere."""
    well = health(pooler)
    with login(pooler) as wire:
        for _ in range(3):
            pid = backend(wire)
            eventually(lambda p=pid: pooler.show("SERVERS", remote_pid=p, state="idle"))
            with stopped(pooler):
                wire.send(query("SELECT pg_backend_pid()"))
                cluster.sql(f"SELECT pg_terminate_backend({pid})")
                eventually(lambda p=pid: not exists(p))
            answer = wire.until()
            assert "".join(message.type for message in answer) == "TDCZ", answer
        wire.send(terminate())
    well.recovered()


def test_kill_9_of_a_backend(own_cluster: Cluster, make_pooler: MakePooler, health: MakeHealth) -> None:
    """All of PostgreSQL restarts; the pooler is there again when PostgreSQL is."""
    pooler = make_pooler(own_cluster, settings=QUICK)
    well = health(pooler)
    victim, bystander, transaction = (login(pooler) for _ in range(3))
    victim.query("BEGIN")
    transaction.query("BEGIN")
    pid = backend(victim)
    for wire in (victim, bystander):
        wire.send(query("SELECT pg_sleep(20)"))
    busy(pooler, 3)
    os.kill(pid, signal.SIGKILL)
    assert said(last_words(victim)) == [CRASHED]
    for wire in (bystander, transaction):
        heard = said(last_words(wire))
        assert heard[-1] == CRASHED
        assert [code for _, code, _ in heard[:-1]] in ([], ["57P02"])
    with login(pooler) as wire:
        assert wire.rows("SELECT 1") == [[b"1"]]
        wire.send(terminate())
    well.recovered(30)


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_stop_and_start(own_cluster: Cluster, make_pooler: MakePooler, health: MakeHealth, mode: str) -> None:
    """Running queries fail, waiting and new ones wait for the server's return."""
    pooler = make_pooler(own_cluster, settings={**QUICK, "default_pool_size": 1})
    well = health(pooler)
    running, waiting, idle = (login(pooler) for _ in range(3))
    running.send(query("SELECT pg_sleep(20)"))
    busy(pooler, 1)
    waiting.send(query("SELECT 'waited'"))
    eventually(lambda: pooler.show("POOLS", database="postgres")[0]["cl_waiting"] == 1)
    own_cluster.stop(mode)
    heard = said(last_words(running))
    assert heard[-1] == CRASHED
    assert [code for _, code, _ in heard[:-1]] in (["57P01"], ["57P02"], [])
    idle.send(query("SELECT 'new'"))
    pooler.wait_log("connect failed: Connection refused")
    assert waiting.silent(0.2)
    assert idle.silent(0.05)
    own_cluster.start()
    for wire, word in ((waiting, b"waited"), (idle, b"new")):
        assert [m.row for m in wire.until() if m.type == "D"] == [[word]]
        wire.close()
    well.recovered()


def test_copy_and_transaction_over_a_restart(
    own_cluster: Cluster, make_pooler: MakePooler, health: MakeHealth
) -> None:
    own_cluster.sql("CREATE TABLE t (a text)")
    pooler = make_pooler(own_cluster, settings=QUICK)
    well = health(pooler)
    copying, transaction = login(pooler), login(pooler)
    copying.send(query("COPY t FROM STDIN"))
    copying.until("G")
    copying.send(copy_data("row\n") * 100)
    transaction.query("BEGIN")
    transaction.query("INSERT INTO t VALUES ('never')")
    own_cluster.restart("immediate")
    for wire in (copying, transaction):
        assert said(last_words(wire))[-1] == CRASHED
    well.recovered()
    assert own_cluster.sql("SELECT count(*) FROM t") == [("0",)]


def test_refusing(make_pooler: MakePooler, cluster: Cluster, health: MakeHealth) -> None:
    """The port is closed: who waits is told by query_wait_timeout, newcomers by client_login_timeout."""
    line = f"host=127.0.0.1 port={cluster.port}"
    settings = {**QUICK, "query_wait_timeout": 1, "client_login_timeout": 1}
    pooler = make_pooler(
        cluster, databases={"postgres": line, "cold": "host=127.0.0.1 port=1"}, settings=settings
    )
    well = health(pooler)
    warm = login(pooler)
    warm.query("SELECT 1")
    pooler.set(databases={"postgres": "host=127.0.0.1 port=1"})
    warm.send(query("SELECT 1"))
    assert said(last_words(warm)) == [("FATAL", "08P01", "query_wait_timeout")]
    with pytest.raises(ConnectionError, match=r"FATAL 08P01 client_login_timeout \(server down\)"):
        login(pooler, "cold")
    pooler.set(databases={"postgres": line, "cold": None})
    well.recovered()


def test_server_refuses_the_login(make_pooler: MakePooler, cluster: Cluster, health: MakeHealth) -> None:
    """PostgreSQL's own words and SQLSTATE; those who wait for the pool are told at once."""
    pooler = make_pooler(cluster, settings={"server_login_retry": 0.5})
    well = health(pooler)
    for _ in range(2):
        with pytest.raises(ConnectionError, match='FATAL 3D000 database "nowhere" does not exist'):
            login(pooler, "nowhere")
    pooler.wait_log("server login failed: FATAL database .nowhere. does not exist")
    well.recovered()


def test_login_fails_later(own_cluster: Cluster, make_pooler: MakePooler, health: MakeHealth) -> None:
    """A warm pool whose server turns logins away: queries fail with the cached error until it lets us in."""
    pooler = make_pooler(own_cluster, settings={"server_login_retry": 1})
    well = health(pooler)
    wires = [login(pooler) for _ in range(2)]
    own_cluster.set_hba(["host all postgres 127.0.0.1/32 reject", "host all all all trust"])
    pooler.admin("RECONNECT")
    wires[0].send(query("SELECT 1"))
    heard = said(last_words(wires[0]))
    assert [(s, c) for s, c, _ in heard] == [("FATAL", "28000")], heard
    wires[1].send(query("SELECT 1"))
    heard = said(last_words(wires[1]))
    assert heard[0][2].startswith(("server login has been failing, cached error: ", "pg_hba.conf rejects"))
    own_cluster.set_hba()
    well.recovered()


@contextmanager
def deaf_listener() -> Iterator[int]:
    """A port where connecting neither succeeds nor fails: its backlog is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        yield listener.getsockname()[1]
        for filler in fillers:
            filler.close()


def test_hanging_at_connect(make_pooler: MakePooler, cluster: Cluster, health: MakeHealth) -> None:
    with deaf_listener() as port:
        settings = {"server_connect_timeout": 0.5, "server_login_retry": 0.2, "client_login_timeout": 2}
        databases = {"postgres": f"host=127.0.0.1 port={cluster.port}", "deaf": f"host=127.0.0.1 port={port}"}
        pooler = make_pooler(cluster, databases=databases, settings=settings)
        well = health(pooler)
        began = time.monotonic()
        with pytest.raises(ConnectionError, match=r"client_login_timeout \(server down\)"):
            login(pooler, "deaf")
        assert time.monotonic() - began < 5
        pooler.wait_log("closing because: connect timeout")
        pooler.set(databases={"deaf": None})
        well.recovered()


def test_hanging_after_a_query(make_pooler: MakePooler, cluster: Cluster, health: MakeHealth) -> None:
    """The network between is gone without a word: query_timeout ends it; the next query gets a new server."""
    with FaultProxy(("127.0.0.1", cluster.port)) as proxy:
        line = f"host={proxy.host} port={proxy.port}"
        pooler = make_pooler(cluster, databases={"*": line}, settings={**QUICK, "query_timeout": 1})
        well = health(pooler)
        wire = login(pooler)
        first = backend(wire)
        proxy.stall()
        wire.send(query("SELECT 1"))
        assert said(last_words(wire)) == [("FATAL", "08P01", "query timeout")]
        proxy.resume()
        with login(pooler) as other:
            assert backend(other) != first
            other.send(terminate())
        well.recovered()


def test_cut(make_pooler: MakePooler, cluster: Cluster, health: MakeHealth) -> None:
    """Connections to the server are cut: idle, in the middle of a row, in a transaction."""
    with FaultProxy(("127.0.0.1", cluster.port)) as proxy:
        line = f"host={proxy.host} port={proxy.port}"
        pooler = make_pooler(cluster, databases={"*": line}, settings=QUICK)
        well = health(pooler)
        for reset in (False, True):
            with login(pooler) as idle:
                idle.query("SELECT 1")
                busy(pooler, 0)  # it has been asked what the session holds
                proxy.cut(reset=reset)
                eventually(lambda: not pooler.show("SERVERS", state="idle"))
                assert idle.rows("SELECT 2") == [[b"2"]]
            wire = login(pooler)
            wire.query("BEGIN")
            proxy.cut(reset=reset)
            assert said(last_words(wire)) == [CRASHED]
            wire = login(pooler)
            proxy.cut_after(5000, TO_CLIENT)
            wire.send(query("SELECT repeat('x', 100) FROM generate_series(1, 1000)"))
            heard = last_words(wire)
            assert said(heard) == [CRASHED] or said(heard) == []
        well.recovered()
