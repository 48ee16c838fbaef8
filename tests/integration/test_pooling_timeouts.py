"""Every timeout of the configuration: who is told what, when, and what becomes of the server."""

import time
from collections.abc import Callable

import pytest

from pgferry.embedded import Cluster
from support.clients import begin, fatal, pid_of, raw
from support.pooler import Pooler, eventually
from support.ports import take_port
from support.proxy import FaultProxy
from support.wire import Wire, cancel_request, query, startup, types

Make = Callable[..., Pooler]
TICK = 1 / 3


def server(cluster: Cluster, **more: object) -> str:
    pairs = {"host": "127.0.0.1", "port": cluster.port, "dbname": "postgres", **more}
    return " ".join(f"{k}={v}" for k, v in pairs.items())


@pytest.fixture
def timed(cluster: Cluster, make_pooler: Make) -> Pooler:
    """A user for each timeout (whole seconds), and a user without."""
    for role in ("running", "idle_xact", "xact", "silent", "queued"):
        cluster.sql(
            f"DO $$ BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )
    return make_pooler(
        databases={"postgres": server(cluster), "one": server(cluster, pool_size=1)},
        users={
            "running": "query_timeout=1",
            "idle_xact": "idle_transaction_timeout=1",
            "xact": "transaction_timeout=1",
            "silent": "client_idle_timeout=1",
            "queued": "query_wait_timeout=1",
        },
        userlist=dict.fromkeys(("postgres", "admin", "running", "idle_xact", "xact", "silent", "queued"), ""),
    )


def test_timeouts_of_users(timed: Pooler) -> None:
    bystander, in_transaction = raw(timed), raw(timed)
    begin(in_transaction)
    running = raw(timed, user="running")
    running.send(query("SELECT pg_sleep(30)"))
    idle = raw(timed, user="idle_xact")
    begin(idle)
    xact = raw(timed, user="xact")
    begin(xact)
    silent = raw(timed, user="silent")
    assert types(silent.query("SELECT 1")) == "TDCZ"
    busy = raw(timed, user="silent")
    busy.send(query("SELECT pg_sleep(2)"))
    started = time.monotonic()
    assert fatal(running) == "query timeout"
    assert fatal(idle) == "idle transaction timeout"
    assert fatal(xact) == "transaction timeout"
    assert fatal(silent) == "client_idle_timeout"
    assert time.monotonic() - started < 5
    assert types(busy.until()) == "TDCZ"  # a running query is no idleness
    assert types(bystander.query("SELECT 1")) == "TDCZ"
    assert types(in_transaction.query("COMMIT")) == "CZ"
    for text in ("query timeout", "idle transaction timeout", "transaction timeout", "client_idle_timeout"):
        timed.wait_log(f"pooler error: {text}")
        timed.wait_log(f"closing because: {text}")


def test_a_query_that_ends_in_time_is_not_disturbed(timed: Pooler) -> None:
    with raw(timed, user="running") as wire:
        for _ in range(3):
            assert types(wire.query("SELECT pg_sleep(0.4)")) == "TDCZ"
    with raw(timed, user="xact") as wire, raw(timed, user="idle_xact") as other:
        for _ in range(4):
            for each in (wire, other):
                begin(each)
                each.query("SELECT pg_sleep(0.15)")
                assert types(each.query("COMMIT")) == "CZ"


@pytest.mark.workers(1)
def test_waiting_clients(timed: Pooler) -> None:
    timed.set({"query_wait_timeout": 1, "query_wait_notify": 1})
    holder = raw(timed, "one")
    begin(holder)
    waiting = raw(timed, "one")
    waiting.send(query("SELECT 1"))
    started = time.monotonic()
    assert fatal(waiting) == "query_wait_timeout"
    assert 0.9 < time.monotonic() - started < 3
    timed.set({"query_wait_timeout": 0, "query_wait_notify": 1})
    waiting = raw(timed, "one")
    waiting.send(query("SELECT 1"))
    notice = waiting.recv()
    assert notice.type == "N"
    assert (notice.fields["S"], notice.sqlstate) == ("NOTICE", "00000")
    assert notice.text == "No server connection available in postgres backend, client being queued"
    assert waiting.silent(0.5)  # once
    holder.query("COMMIT")
    assert types(waiting.until()) == "TDCZ"
    begin(holder)
    timed.set({"query_timeout": 1, "query_wait_notify": 0})
    waiting.send(query("SELECT 1"))
    assert fatal(waiting) == "query_timeout"


@pytest.mark.workers(1)
def test_wait_timeout_of_user_and_database(timed: Pooler, cluster: Cluster) -> None:
    timed.set(
        {"query_wait_timeout": 0}, databases={"two": server(cluster, pool_size=1, query_wait_timeout=1)}
    )
    holder, user_holder = raw(timed, "two"), raw(timed, "one", "queued")
    begin(holder)
    begin(user_holder)
    waiting, of_user = raw(timed, "two"), raw(timed, "one", "queued")
    waiting.send(query("SELECT 1"))
    of_user.send(query("SELECT 1"))
    assert fatal(waiting) == "query_wait_timeout"
    assert fatal(of_user) == "query_wait_timeout"


def test_wait_timeout_while_paused(timed: Pooler) -> None:
    timed.set({"query_wait_timeout": 1})
    wire = raw(timed)
    with timed.console() as console:
        console.execute("PAUSE")
        wire.send(query("SELECT 1"))
        assert fatal(wire) == "query_wait_timeout"
        console.execute("RESUME")


def test_login_timeout(timed: Pooler) -> None:
    timed.set({"client_login_timeout": 1})
    # A silent TCP client would wait in the kernel (tcp_defer_accept).
    unix = f"{timed.socket_dir}/.s.PGSQL.{timed.port}"
    silent, half = Wire(unix), Wire((timed.host, timed.port))
    half.send(startup("postgres", "postgres")[:7])
    assert fatal(silent) == "client_login_timeout"
    assert fatal(half) == "client_login_timeout"


def test_unreachable_server(make_pooler: Make) -> None:
    with take_port() as dead:
        pooler = make_pooler(
            databases={
                "dead": f"host=127.0.0.1 port={dead}",
                "slow": f"host=127.0.0.1 port={dead} query_wait_timeout=1",
            },
            settings={"client_login_timeout": 2, "server_login_retry": 0.3},
        )
        cold, impatient = Wire((pooler.host, pooler.port)), Wire((pooler.host, pooler.port))
        cold.send(startup("postgres", "dead"))
        impatient.send(startup("postgres", "slow"))
        assert fatal(impatient) == "query_wait_timeout"
        assert fatal(cold) == "client_login_timeout (server down)"
        pooler.wait_log("closing because: connect failed")


def test_server_that_does_not_answer(cluster: Cluster, make_pooler: Make) -> None:
    """server_connect_timeout covers the login too, and the next attempt waits for server_login_retry."""
    with FaultProxy(("127.0.0.1", cluster.port)) as proxy:
        pooler = make_pooler(
            databases={"postgres": f"host=127.0.0.1 port={proxy.port} pool_size=3"},
            settings={"server_connect_timeout": 0.5, "server_login_retry": 1, "query_wait_timeout": 20},
        )
        proxy.stall()
        wire = Wire((pooler.host, pooler.port))
        wire.send(startup("postgres", "postgres"))
        pooler.wait_log("closing because: connect timeout")
        before = proxy.accepted
        assert before <= 4
        time.sleep(0.5)
        assert proxy.accepted == before
        proxy.resume()
        wire.until()
        assert types(wire.query("SELECT 1")) == "TDCZ"


def test_cancel_wait_timeout(cluster: Cluster, make_pooler: Make) -> None:
    """A cancel request that PostgreSQL never closes is dropped, and its server is not used again."""
    with FaultProxy(("127.0.0.1", cluster.port)) as proxy:
        pooler = make_pooler(
            databases={"postgres": f"host=127.0.0.1 port={proxy.port}"},
            settings={"cancel_wait_timeout": 0.5},
        )
        wire = raw(pooler)
        pid = begin(wire)
        wire.send(query("SELECT pg_sleep(1)"))
        proxy.stall()
        requester = Wire((pooler.host, pooler.port))
        requester.send(cancel_request(wire.pid, wire.key))
        assert requester.at_end(5)
        proxy.resume()
        wire.until()
        wire.query("ROLLBACK")
        with pooler.connect() as conn:
            assert conn.execute("SELECT pg_backend_pid()").fetchone() != (pid,)
        eventually(lambda: pooler.show("POOLS", database="postgres")[0]["sv_being_canceled"] == 0)
        assert pid_of(wire) != pid
