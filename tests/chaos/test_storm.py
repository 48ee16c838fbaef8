"""Everything goes wrong at the same time, under a load whose every answer is checked.

Clients, backends, workers and network connections are killed at random, the configuration is reloaded,
databases are paused and resumed, servers reconnected. No answer may ever be wrong; at the end all is well.
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

import psycopg
import pytest

from chaos.health import Health
from pgferry.embedded import Cluster
from support.pooler import Pooler
from support.proxy import FaultProxy
from support.wire import (
    Message,
    Wire,
    bind,
    cancel_request,
    copy_data,
    copy_done,
    describe,
    execute,
    parse,
    query,
    sync,
    terminate,
)

SECONDS = float(os.environ.get("PGFERRY_SOAK_SECONDS", "5"))
CLIENTS = 12
MakePooler = Callable[..., Pooler]
# Who asks for a cancel may be cancelled, nobody else; the others come from killed servers and poolers.
LETHAL = {"57P01", "57P02", "57P03", "08P01", "08006", "53300"}


class Wrong(AssertionError):
    """An answer that no server should have given to this client."""


class LoadClient:
    """One client of the load: random scripts, each with an answer that only this client can get."""

    def __init__(self, pooler: Pooler, number: int, storm: "Storm") -> None:
        self.pooler = pooler
        self.number = number
        self.storm = storm
        self.random = random.Random(number)
        self.turn = 0
        self.cancelling = False
        self.wire: Wire | None = None

    def run(self) -> None:
        scripts = [self.simple, self.extended, self.prepared, self.transaction, self.copy, self.big]
        scripts += [self.failing, self.leave, self.cancel if self.number % 4 == 0 else self.simple]
        while not self.storm.over.is_set():
            try:
                if self.wire is None:
                    self.wire = Wire.login((self.pooler.host, self.pooler.port), timeout=30)
                    self.storm.count("logins")
                self.turn += 1
                self.random.choice(scripts)()
                self.storm.count("scripts")
            except Wrong as error:
                self.storm.wrong.append(f"client {self.number}: {error}")
                self.drop()
            except TimeoutError:
                self.storm.wrong.append(f"client {self.number}: no answer within 30 s")
                self.drop()
            except (OSError, EOFError):
                self.storm.count("broken connections")
                self.drop()
                time.sleep(0.02)
        self.drop()

    def drop(self) -> None:
        if self.wire is not None:
            with suppress(OSError):
                (Wire.reset if self.turn % 2 else Wire.close)(self.wire)
        self.wire = None

    # --- scripts

    @property
    def mark(self) -> str:
        return f"client {self.number} turn {self.turn}"

    def check(self, answer: list[Message], *expected: list[bytes]) -> bool:
        """Compare the rows; False when an error came that this storm explains. Raises Wrong, EOFError."""
        rows = [m.row for m in answer if m.type == "D"]
        for error in (m for m in answer if m.type == "E"):
            if error.sqlstate == "57014" and self.cancelling:
                self.storm.count("cancelled")
            elif error.sqlstate in LETHAL:
                raise EOFError(error.text)
            else:
                raise Wrong(f"{self.mark}: unexpected error {error.sqlstate} {error.text}")
            return False
        if rows != list(expected):
            raise Wrong(f"{self.mark}: {rows} instead of {list(expected)}")
        return True

    def ask(self, sql: str, *expected: list[bytes]) -> bool:
        assert self.wire is not None
        return self.check(self.wire.query(sql), *expected)

    def simple(self) -> None:
        self.ask(f"SELECT '{self.mark}', {self.turn} * 2", [self.mark.encode(), b"%d" % (self.turn * 2)])

    def extended(self) -> None:
        """A pipeline of two batches in one write."""
        assert self.wire is not None
        for part in ("a", "b"):
            self.wire.send(parse(f"SELECT $1 || ' {part}'"), bind([self.mark]), execute(), sync())
        answer = self.wire.until(count=2)
        self.check(answer, *([f"{self.mark} {part}".encode()] for part in ("a", "b")))

    def prepared(self) -> None:
        """A named statement, parsed in one round, used in others; other clients have other texts for it."""
        assert self.wire is not None
        name = f"s{self.random.randrange(3)}"
        factor = self.number + self.turn
        self.wire.send(parse(f"SELECT $1::int * {factor}", name), describe(name), sync())
        if not self.check(self.wire.until()):
            return
        for value in range(self.random.randrange(4)):
            self.wire.send(bind([str(value)], name), execute(), sync())
            if not self.check(self.wire.until(), [b"%d" % (value * factor)]):
                break
        self.wire.send(b"C" + (6 + len(name)).to_bytes(4, "big") + b"S" + name.encode() + b"\0", sync())
        self.check(self.wire.until())

    def transaction(self) -> None:
        """A setting that is local to the transaction stays with the client and with the transaction."""
        self.ask("BEGIN")
        self.ask(f"SET LOCAL application_name = 'txn {self.number}'")
        time.sleep(self.random.random() * 0.005)
        self.ask("SHOW application_name", [f"txn {self.number}".encode()])
        self.ask(f"SELECT '{self.mark}'", [self.mark.encode()])
        self.ask(self.random.choice(("COMMIT", "ROLLBACK")))

    def copy(self) -> None:
        assert self.wire is not None
        self.ask("BEGIN")
        self.ask("CREATE TEMP TABLE c (a text) ON COMMIT DROP")
        self.wire.send(query("COPY c FROM STDIN"))
        first = self.wire.recv()
        while first.type in "NS":
            first = self.wire.recv()
        if first.type != "G":
            raise EOFError
        self.wire.send(*(copy_data(f"{self.mark} {i}\n") for i in range(20)), copy_done())
        self.check(self.wire.until())
        self.ask("SELECT count(*), min(a) FROM c", [b"20", f"{self.mark} 0".encode()])
        self.ask("COMMIT")

    def big(self) -> None:
        char = chr(97 + self.turn % 26)
        self.ask(f"SELECT repeat('{char}', 200000)", [char.encode() * 200000])

    def failing(self) -> None:
        assert self.wire is not None
        answer = self.wire.query(f"SELECT '{self.mark}'::int")
        error = next((m for m in answer if m.type == "E"), None)
        if error is None or (error.sqlstate == "22P02" and self.mark not in error.text):
            raise Wrong(f"{self.mark}: {error}")
        if error.sqlstate != "22P02":
            self.check(answer)

    def cancel(self) -> None:
        assert self.wire is not None
        self.cancelling = True
        self.wire.send(query(f"SELECT '{self.mark}', pg_sleep(0.02)"))
        time.sleep(self.random.random() * 0.03)
        with Wire((self.pooler.host, self.pooler.port)) as asking:
            asking.send(cancel_request(self.wire.pid, self.wire.key))
        self.check(self.wire.until(), [self.mark.encode(), b""])
        self.drop()  # a request that is late must not hit a script that does not expect it
        self.cancelling = False

    def leave(self) -> None:
        """Go away at a bad moment."""
        assert self.wire is not None
        self.wire.send(
            self.random.choice(
                (
                    query("SELECT pg_sleep(0.05)"),
                    query("BEGIN") + query("SELECT 1"),
                    parse("SELECT 1", "x") + bind(statement="x"),
                    query("COPY (SELECT generate_series(1, 100000)) TO STDOUT"),
                    query("SELECT 1" + " " * 10000)[:5000],
                    query("SELECT 1") + terminate(),
                )
            )
        )
        self.drop()


class Storm:
    """The load, and what happens to it."""

    def __init__(self, pooler: Pooler, cluster: Cluster, proxy: FaultProxy) -> None:
        self.pooler = pooler
        self.cluster = cluster
        self.proxy = proxy
        self.over = threading.Event()
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.random = random.Random(os.getpid())

    def count(self, what: str) -> None:
        with self.lock:
            self.counts[what] += 1

    def run(self, seconds: float) -> None:
        clients = [LoadClient(self.pooler, number, self) for number in range(CLIENTS)]
        threads = [threading.Thread(target=client.run) for client in clients]
        for thread in threads:
            thread.start()
        try:
            self.rage(seconds)
        finally:
            self.proxy.resume()
            with suppress(psycopg.Error):
                self.pooler.admin("RESUME")
            self.over.set()
            for thread in threads:
                thread.join(40)
        assert not any(thread.is_alive() for thread in threads)

    def rage(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        kinds = [self.kill_backends, self.kill_backends, self.cut, self.stall, self.reload, self.pause]
        kinds += [self.reconnect, self.kill_worker, self.split, self.look]
        turn = 0
        while time.monotonic() < end:
            kind = kinds[turn] if turn < len(kinds) else self.random.choice(kinds)
            turn += 1
            with suppress(psycopg.OperationalError):  # the worker of our console was killed
                kind()
                self.count(kind.__name__)
            time.sleep(0.1 + self.random.random() * 0.3)

    def kill_backends(self) -> None:
        self.cluster.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND random() < 0.4"
        )

    def cut(self) -> None:
        if self.random.random() < 0.5:
            self.proxy.cut(reset=self.random.random() < 0.5)
        else:
            self.proxy.cut_after(self.random.randrange(1, 300000))

    def stall(self) -> None:
        self.proxy.stall()
        time.sleep(0.2)
        self.proxy.resume()

    def split(self) -> None:
        self.proxy.split(self.random.choice((1, 7, 100)))
        time.sleep(0.2)
        self.proxy.resume()

    def reload(self) -> None:
        self.pooler.set({"default_pool_size": self.random.choice((2, 3, 6)), "server_lifetime": 3600})

    def pause(self) -> None:
        what = self.random.choice(("", " postgres"))
        try:
            with self.pooler.console() as console:
                pausing = threading.Thread(target=self._pause, args=(what,))
                pausing.start()
                time.sleep(0.2)
                with suppress(psycopg.DatabaseError):
                    console.execute(f"RESUME{what}".encode())
        finally:
            # Whatever died meanwhile: nobody stays paused.
            for _ in range(20):
                try:
                    self.pooler.admin(f"RESUME{what}")
                except psycopg.OperationalError:
                    time.sleep(0.1)
                    continue
                except psycopg.DatabaseError:
                    pass  # it is not paused
                break
        pausing.join(20)

    def _pause(self, what: str) -> None:
        with suppress(psycopg.Error):
            self.pooler.admin(f"PAUSE{what}")

    def reconnect(self) -> None:
        self.pooler.admin("RECONNECT")

    def look(self) -> None:
        for what in ("POOLS", "CLIENTS", "SERVERS", "STATS", "MEM"):
            self.pooler.show(what)

    def kill_worker(self) -> None:
        pids = self.pooler.worker_pids  # none while the last victim's successor is being started
        if pids:
            os.kill(self.random.choice(pids), signal.SIGKILL)


@pytest.mark.soak
@pytest.mark.parametrize("mode", ["transaction", "session"])
def test_storm(own_cluster: Cluster, make_pooler: MakePooler, mode: str) -> None:
    with FaultProxy(("127.0.0.1", own_cluster.port)) as proxy:
        settings = {
            "pool_mode": mode,
            "default_pool_size": 4 if mode == "transaction" else 10,
            "server_login_retry": 0.1,
            "max_prepared_statements": 5,
            "log_connections": 0,
            "log_disconnections": 0,
            "log_pooler_errors": 0,
            "verbose": 0,
        }
        line = f"host={proxy.host} port={proxy.port}"
        killed = r"worker \d+ \(pid \d+\) died: signal 9"
        pooler = make_pooler(own_cluster, settings=settings, databases={"*": line}, ignore=killed)
        well = Health(pooler)
        storm = Storm(pooler, own_cluster, proxy)
        storm.run(SECONDS)
        print(dict(sorted(storm.counts.items())))
        assert not storm.wrong, storm.wrong[:5]
        assert storm.counts["scripts"] > 10 * SECONDS
        # A restarted worker has a descriptor or two more or less than the first one had.
        well.surplus += 4
        well.recovered(30)
