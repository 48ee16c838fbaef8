"""-R: a new pgferry takes sockets, clients and servers of the running one; no client sees an error."""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from pgferry.embedded.pooler import PoolerProcess
from support.pooler import WRONG, Pooler, eventually
from support.wire import Wire, bind, cancel_request, execute, parse, query, sync, terminate

MakePooler = Callable[..., Pooler]
UPGRADES = 2 if os.environ.get("PGFERRY_TEST_MATRIX") == "one" else 3
"""Under load, one after the other: at least one of a process that has taken over itself."""
pytestmark = pytest.mark.usefixtures("cluster")


class Upgrade:
    """The next processes on the files of a Pooler; at the end the log of each is looked at."""

    def __init__(self, pooler: Pooler) -> None:
        self.pooler = pooler
        self.processes: list[PoolerProcess] = []

    def start(self) -> PoolerProcess:
        """Start the next one with -R and wait until it is up."""
        log = self.pooler.directory / f"log-{len(self.processes)}"
        process = PoolerProcess(self.pooler.config_file, log)
        process._argv.insert(-1, "-R")
        self.pooler.expect_end()
        process.start(lambda: "process up" in process.log(), 30)
        self.processes.append(process)
        return process

    def first_has_ended(self) -> bool:
        return self.pooler.pid is None

    def close(self) -> None:
        for process in self.processes:
            with contextlib.suppress(Exception):
                process.stop()
            print(process.log()[-4000:])


@pytest.fixture
def upgrade(make_pooler: MakePooler) -> Iterator[Callable[..., Upgrade]]:
    made: list[Upgrade] = []

    def make(**options: Any) -> Upgrade:
        made.append(Upgrade(make_pooler(**options)))
        return made[-1]

    yield make
    for each in made:
        each.close()
    for each in made:
        for process in each.processes:
            assert not WRONG.search(process.log()), process.log()


def login(pooler: Pooler, **more: Any) -> Wire:
    return Wire.login((pooler.host, pooler.port), **more)


def test_idle_clients_and_servers_move(upgrade: Callable[..., Upgrade]) -> None:
    """With their parameters, statements and keys; the servers are the same ones."""
    up = upgrade(settings={"pidfile": "pid", "default_pool_size": 2})
    pooler = up.pooler
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(login(pooler)) for _ in range(6)]
        path = f"{pooler.socket_dir}/.s.PGSQL.{pooler.port}"
        clients.append(stack.enter_context(Wire.login(path)))
        for number, wire in enumerate(clients):
            wire.query(f"SET application_name = 'client {number}'")
            wire.send(parse(f"SELECT {number}, current_setting('application_name')", "mine"), sync())
            wire.until()
        pids = {r["remote_pid"] for r in pooler.show("SERVERS")}
        process = up.start()
        eventually(up.first_has_ended)
        for number, wire in enumerate(clients):
            wire.send(bind(statement="mine"), execute(), sync())
            rows = [m.row for m in wire.until() if m.type == "D"]
            assert rows == [[str(number).encode(), b"client %d" % number]]
        assert {r["remote_pid"] for r in pooler.show("SERVERS")} <= pids
        assert len(pooler.show("CLIENTS", database="postgres")) == 7
        assert (pooler.directory / "pid").read_text().strip() == str(process.pid)
        found = re.search(r"handed over (\d+) clients and (\d+) servers, exiting", pooler.log())
        assert found is not None and int(found[1]) == 7 and int(found[2]) >= 1
        # New names do not meet those that servers have from before.
        for wire in clients:
            wire.send(parse("SELECT 'new'", "other"), bind(statement="other"), execute(), sync())
            assert [m.row for m in wire.until() if m.type == "D"] == [[b"new"]]
        # A cancel request finds a client by the key it has had all the time.
        clients[0].send(query("SELECT pg_sleep(20)"))
        cluster = pooler.cluster
        assert cluster is not None
        eventually(lambda: cluster.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))
        with Wire((pooler.host, pooler.port)) as asking:
            asking.send(cancel_request(clients[0].pid, clients[0].key))
            assert [m.sqlstate for m in clients[0].until() if m.type == "E"] == ["57014"]


def test_busy_ones_finish_first(upgrade: Callable[..., Upgrade]) -> None:
    up = upgrade(settings={"default_pool_size": 5})
    pooler = up.pooler
    with login(pooler) as busy, login(pooler) as asleep:
        busy.query("BEGIN")
        asleep.send(query("SELECT pg_sleep(20)"))
        up.start()
        with login(pooler) as fresh:
            assert fresh.rows("SELECT 'new'") == [[b"new"]]
        assert busy.rows("SELECT 'in'") == [[b"in"]]
        assert not up.first_has_ended()
        # Cancelled by the way of the new process, which does not have this client yet.
        with Wire((pooler.host, pooler.port)) as asking:
            asking.send(cancel_request(asleep.pid, asleep.key))
            assert [m.sqlstate for m in asleep.until() if m.type == "E"] == ["57014"]
        assert busy.query("COMMIT")[-1].body == b"I"
        eventually(up.first_has_ended)
        assert busy.rows("SELECT 'after'") == [[b"after"]]
        assert asleep.rows("SELECT 'after'") == [[b"after"]]


def test_under_load(upgrade: Callable[..., Upgrade]) -> None:
    """Upgrades while clients come, stay, prepare: no error, no lost or double answer."""
    up = upgrade(settings={"default_pool_size": 4, "max_client_conn": 500, "listen_addr": "127.0.0.1"})
    pooler = up.pooler
    stop = threading.Event()
    wrong: list[str] = []
    counts = [0] * 8

    def come_and_go(number: int) -> None:
        with pooler.connect() as conn:
            for turn in range(5):
                assert conn.execute("SELECT %s::int", (turn,)).fetchone() == (turn,)
        counts[number] += 1
        time.sleep(0.01)

    def stay(number: int) -> None:
        with pooler.connect() as conn:
            conn.prepare_threshold = 0
            while not stop.is_set():
                turn = counts[number]
                with conn.transaction():
                    conn.execute("SELECT 1")
                    row = conn.execute("SELECT %s::int, %s::int", (number, turn)).fetchone()
                assert row == (number, turn), row
                counts[number] += 1
                if number % 6:
                    time.sleep(0.01)  # all but one: the machine has other tests to run

    def work(number: int) -> None:
        while not stop.is_set() and not wrong:
            try:
                (come_and_go if number % 4 == 0 else stay)(number)
            except (psycopg.Error, AssertionError) as error:
                wrong.append(f"client {number}: {error!r}")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(counts))]
    for thread in threads:
        thread.start()
    try:
        ended = up.first_has_ended
        for _ in range(UPGRADES):
            before = list(counts)
            eventually(lambda b=before: wrong or all(n > o + 3 for n, o in zip(counts, b, strict=True)))  # type: ignore[misc]
            process = up.start()
            eventually(lambda e=ended: wrong or e(), 20)  # type: ignore[misc]
            ended = lambda p=process: p.pid is None  # type: ignore[misc]  # noqa: E731
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong[:5]
    assert min(counts) > 5


def test_successor_that_dies(upgrade: Callable[..., Upgrade]) -> None:
    """One that cannot start leaves everything as it was: the socket file, the pid file, the clients."""
    up = upgrade(settings={"pidfile": "pid"})
    pooler = up.pooler
    with login(pooler) as wire:
        pooler.set({"pidfile": "pid", "workers": 5}, reload=False)
        log = pooler.directory / "log-bad"
        process = PoolerProcess(pooler.config_file, log)
        process._argv.insert(-1, "-R")
        with pytest.raises(Exception, match="ended with status 1"):
            process.start(lambda: "process up" in process.log())
        assert "not 5" in process.log()
        pooler.wait_log("the process that wanted to take over is gone")
        assert wire.rows("SELECT 1") == [[b"1"]]
        with Wire.login(f"{pooler.socket_dir}/.s.PGSQL.{pooler.port}") as other:
            assert other.rows("SELECT 2") == [[b"2"]]
        assert (pooler.directory / "pid").exists()


def test_nobody_to_take_over_from(upgrade: Callable[..., Upgrade]) -> None:
    """-R without a running process is a normal start."""
    up = upgrade()
    up.pooler.stop()
    eventually(lambda: up.pooler.pid is None)
    process = up.start()
    assert "normal start" in process.log()
    with login(up.pooler) as wire:
        assert wire.rows("SELECT 1") == [[b"1"]]


STRANGER = """
import os, socket, time
os.setgroups([]), os.setgid(65533), os.setuid(65533)
held = []
while True:
    for line in open("/proc/net/unix"):
        name = line.rpartition(" ")[2].strip()
        if name.startswith("@pgferry_") and len(held) < 5000:
            sock = socket.socket(socket.AF_UNIX)
            sock.setblocking(False)
            try:
                sock.connect("\\0" + name[1:])
            except OSError:
                continue
            held.append(sock)
            time.sleep(0.001)
            print("connected", flush=True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two accounts")
def test_a_stranger_at_the_sockets_is_sent_away(upgrade: Callable[..., Upgrade]) -> None:
    up = upgrade(workers=1)
    with login(up.pooler) as wire:
        before = wire.rows("SELECT pg_backend_pid()")
        stranger = subprocess.Popen([sys.executable, "-c", STRANGER], stdout=subprocess.PIPE)
        try:
            up.start()
            eventually(up.first_has_ended, 30)
        finally:
            stranger.kill()
        assert b"connected" in stranger.communicate()[0]
        assert wire.rows("SELECT pg_backend_pid()") == before


def test_session_mode(upgrade: Callable[..., Upgrade]) -> None:
    """A client that has a server keeps both in the old process until it leaves; others move."""
    up = upgrade(settings={"pool_mode": "session"})
    pooler = up.pooler
    with login(pooler) as idle, login(pooler) as linked:
        linked.query("SET search_path = 'elsewhere'")
        up.start()
        assert idle.rows("SELECT 1") == [[b"1"]]
        assert linked.rows("SHOW search_path") == [[b"elsewhere"]]
        assert not up.first_has_ended()
        assert len(pooler.show("CLIENTS", database="postgres")) == 1
        linked.send(terminate())
        eventually(up.first_has_ended)
        assert idle.rows("SELECT 2") == [[b"2"]]


def test_replication_connections_stay(upgrade: Callable[..., Upgrade]) -> None:
    """In the old process, until they leave."""
    up = upgrade(settings={"default_pool_size": 2})
    pooler = up.pooler
    with login(pooler) as ordinary, login(pooler, replication="database") as subscriber:
        up.start()
        assert ordinary.rows("SELECT 'moved'") == [[b"moved"]]
        assert subscriber.rows("SELECT 'here'") == [[b"here"]]
        assert not pooler.show("CLIENTS", replication="logical")
        assert not up.first_has_ended()
        subscriber.close()
        eventually(up.first_has_ended)
        with login(pooler, replication="database") as again:
            assert again.rows("IDENTIFY_SYSTEM")


def test_statements_of_every_kind_move(upgrade: Callable[..., Upgrade]) -> None:
    """Of clients with settings of their own, under several names, that execute others, used under others."""
    up = upgrade(settings={"default_pool_size": 2})
    text = "SELECT '2024-01-01'::timestamptz = '2024-01-01 00:00+00'::timestamptz"
    with login(up.pooler, TimeZone="UTC") as one, login(up.pooler, TimeZone="Asia/Tokyo") as two:
        for wire in (one, two):
            wire.query("SET search_path TO 'a', public")
            wire.query("PREPARE by_sql AS SELECT 7")
            wire.send(
                parse(text, "first"), parse(text, "second"), parse("EXECUTE by_sql", "executes"), sync()
            )
            wire.until()
            wire.send(parse(text), sync())
            wire.until()
        two.send(parse("SET TimeZone TO 'UTC'", "set"), bind(statement="set"), execute(), sync())
        two.until()
        two.send(bind(statement="first"), execute(), sync())
        two.until()
        up.start()
        eventually(up.first_has_ended)
        for wire, answer in ((one, b"t"), (two, b"f")):
            for _ in range(2):
                for name, row in (("", answer), ("first", answer), ("second", answer), ("executes", b"7")):
                    wire.send(bind(statement=name), execute(), sync())
                    assert [m.row for m in wire.until() if m.type == "D"] == [[row]], name
            wire.send(parse("SELECT 1", "first"), sync())
            assert [m.sqlstate for m in wire.until() if m.type == "E"] == ["42P05"]
