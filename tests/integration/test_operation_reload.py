"""RELOAD in awkward moments: under load, in floods, in the middle of logins and transactions."""

import os
import threading
import time
from collections.abc import Callable
from signal import SIGHUP, SIGKILL

import psycopg
import pytest

from pgferry.embedded import Cluster
from support.clients import begin, fatal, one_of_each, pid_of, raw, refusal
from support.pooler import Pooler, eventually
from support.wire import Wire, password, query, startup, types

Make = Callable[..., Pooler]


@pytest.fixture
def server(cluster: Cluster) -> str:
    for role in ("alice", "bob"):
        cluster.sql(
            f"DO $$ BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )
    return f"host=127.0.0.1 port={cluster.port} dbname=postgres"


class Load:
    """Clients in threads that ask without a pause and must never see an error."""

    def __init__(self, pooler: Pooler, db: str, count: int) -> None:
        self._halt = threading.Event()
        self.errors: list[str] = []
        self.done = 0
        self._pooler, self._db = pooler, db
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def _work(self) -> None:
        try:
            with self._pooler.connect(self._db) as conn:
                while not self._halt.is_set():
                    with conn.transaction():
                        assert conn.execute("SELECT %s::int", [self.done]).fetchone()
                    self.done += 1
        except (psycopg.Error, AssertionError) as error:
            self.errors.append(repr(error))

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *_: object) -> None:
        self._halt.set()
        for thread in self._threads:
            thread.join(20)


def test_flood_of_reloads_under_load(make_pooler: Make, server: str) -> None:
    pooler = make_pooler(databases={"postgres": f"{server} pool_size=2"}, users={"alice": "pool_size=3"})
    with Load(pooler, "postgres", 6) as load:
        for i in range(12):
            pooler.set({"server_idle_timeout": 600 + i, "max_client_conn": 90 + i}, reload=False)
            for _ in range(5):
                pooler.signal(SIGHUP)
            pooler.reload()
            pooler.set(databases={f"extra_{i % 3}": server if i % 2 else None}, reload=False)
        pooler.set(databases={"postgres": f"{server} pool_size=5 application_name=renewed"})
        before = load.done
        eventually(lambda: load.done > before + 20)
    assert load.errors == []
    assert pooler.show("CONFIG", key="server_idle_timeout")[0]["value"] == "611"
    with raw(pooler) as wire:
        assert wire.rows("SHOW application_name") == [[b"renewed"]]


def test_database_that_goes_in_the_middle_of_a_login(make_pooler: Make, server: str) -> None:
    pooler = make_pooler(
        databases={"postgres": server, "going": server},
        settings={"auth_type": "plain"},
        userlist={"postgres": "secret", "admin": "secret"},
    )
    wire, other = (Wire((pooler.host, pooler.port)) for _ in range(2))
    wire.send(startup("postgres", "going"))
    other.send(startup("postgres", "postgres"))
    wire.recv()
    other.recv()
    pooler.set(databases={"going": None}, reload=False)
    pooler.signal(SIGHUP)
    eventually(lambda: "no such database" in refusal(pooler, "going", secret="secret"))
    wire.send(password("secret"))
    assert fatal(wire) == "no such database: going"
    other.send(password("secret"))
    other.until()
    assert types(other.query("SELECT 1")) == "TDCZ"
    # Back again: the counts have not suffered.
    pooler.set(databases={"going": f"{server} max_db_client_connections=1"}, reload=False)
    pooler.signal(SIGHUP)
    eventually(lambda: refusal(pooler, "going", secret="secret") == "logged in")


def test_forced_user_and_mode_change(make_pooler: Make, server: str, workers: int) -> None:
    pooler = make_pooler(
        databases={"postgres": f"{server} user=alice", "mode": server}, userlist={"postgres": "", "admin": ""}
    )
    wires = one_of_each(pooler, workers)
    inside = one_of_each(pooler, workers, "mode")
    for wire in wires:
        assert wire.rows("SELECT current_user") == [[b"alice"]]
    for wire in inside:
        begin(wire)
    pooler.set(databases={"postgres": f"{server} user=bob", "mode": f"{server} pool_mode=session"})
    with raw(pooler) as wire:
        assert wire.rows("SELECT current_user") == [[b"bob"]]
    for wire in inside:
        assert types(wire.query("COMMIT")) == "CZ"
        first = pid_of(wire)
        assert pid_of(wire) == first
        wire.query("SET work_mem = '99MB'")
        assert wire.rows("SHOW work_mem") == [[b"99MB"]]
    pooler.set(databases={"mode": server})
    with raw(pooler, "mode") as wire:
        for _ in range(3):
            assert wire.rows("SHOW work_mem") != [[b"99MB"]]


def test_limits_that_shrink(make_pooler: Make, server: str) -> None:
    """Who is in stays in; what is idle goes; what is busy goes when it is free."""
    pooler = make_pooler(databases={"postgres": f"{server} pool_size=6"}, settings={"max_client_conn": 50})
    crowd = [raw(pooler) for _ in range(6)]
    for wire in crowd:
        begin(wire)
    assert len(pooler.show("SERVERS")) == 6
    pooler.set({"max_client_conn": 3}, databases={"postgres": f"{server} pool_size=2"})
    assert len(pooler.show("SERVERS")) == 6
    assert "max_client_conn" in refusal(pooler)
    for wire in crowd:
        assert types(wire.query("COMMIT")) == "CZ"
    eventually(lambda: len(pooler.show("SERVERS")) <= 2)
    for wire in crowd:
        assert types(wire.query("SELECT 1")) == "TDCZ"


@pytest.mark.workers(2)
@pytest.mark.pg(18)
def test_reload_and_death_at_once(make_pooler: Make, server: str) -> None:
    """A worker that dies while a RELOAD is under way comes back with the new configuration."""
    pooler = make_pooler(ignore="died", databases={"postgres": server})
    for i in range(3):
        victim = pooler.worker_pids[i % 2]
        pooler.set({"server_idle_timeout": 500 + i}, databases={f"new_{i}": server}, reload=False)
        os.kill(victim, SIGKILL)
        pooler.reload()
        eventually(lambda v=victim: len(pooler.worker_pids) == 2 and v not in pooler.worker_pids, 20)  # type: ignore[misc]
        deadline = time.monotonic() + 10
        seen: set[int] = set()
        while len(seen) < 2 and time.monotonic() < deadline:
            with raw(pooler, f"new_{i}") as wire:
                seen.add(wire.pid & 0xFF)
                assert types(wire.query("SELECT 1")) == "TDCZ"
        assert seen == {0, 1}


def test_auth_type_and_users_change(make_pooler: Make, server: str) -> None:
    pooler = make_pooler(databases={"postgres": server}, userlist={"postgres": "", "admin": "", "alice": ""})
    wire = raw(pooler, user="alice")
    pooler.set({"auth_type": "scram-sha-256"}, userlist={"alice": "now with"}, reload=False)
    pooler.reload()
    assert types(wire.query("SELECT 1")) == "TDCZ"
    assert refusal(pooler, user="alice") == "FATAL 08P01 SASL authentication failed"
    assert refusal(pooler, user="alice", secret="now with") == "logged in"
    assert refusal(pooler, user="postgres") == "FATAL 08P01 SASL authentication failed"
    wire.send(query("SELECT 1"))
    assert types(wire.until()) == "TDCZ"
