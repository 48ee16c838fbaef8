"""drain_timeout: at SIGTERM, SIGINT and SHUTDOWN each client leaves between two of its transactions."""

import threading
import time
from collections.abc import Callable
from signal import SIGINT, SIGTERM, Signals

import psycopg
import pytest

from support.pooler import Pooler, eventually
from support.wire import Wire, query, startup

MakePooler = Callable[..., Pooler]
TEXT = "terminating connection due to administrator command"
pytestmark = pytest.mark.usefixtures("cluster")


def login(pooler: Pooler, **more: object) -> Wire:
    return Wire.login((pooler.host, pooler.port), **more)  # type: ignore[arg-type]


def told(wire: Wire) -> None:
    """The next thing the client reads is the error, and then the end."""
    [message] = wire.until("E")
    fields = message.fields
    assert (fields["S"], fields["C"], fields["M"]) == ("FATAL", "57P01", TEXT)
    assert wire.sock.recv(1) == b""


def refuses(pooler: Pooler) -> bool:
    try:
        Wire((pooler.host, pooler.port)).close()
    except OSError:
        return True
    return False


@pytest.mark.parametrize("how", [SIGTERM, SIGINT, "SHUTDOWN"], ids=["SIGTERM", "SIGINT", "SHUTDOWN"])
@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_between_transactions(make_pooler: MakePooler, how: Signals | str, mode: str) -> None:
    """Idle clients at once; one in a transaction and one that waits for a server when they are through."""
    pooler = make_pooler(settings={"drain_timeout": 60, "pool_mode": mode, "default_pool_size": 2})
    idle, busy, asleep = login(pooler), login(pooler), login(pooler, database="template1")
    if mode == "session":
        asleep.rows("SELECT 1")
    busy.query("BEGIN")
    asleep.send(query("SELECT pg_sleep(0.5), 'slept'"))
    waiting = [login(pooler) for _ in range(2)]
    for wire in waiting:
        wire.send(query("SELECT pg_sleep(0.3), 'waited'"))
    eventually(lambda: sum(r["cl_active"] for r in pooler.show("POOLS", user="postgres")) >= 3)
    if isinstance(how, str):
        pooler.expect_end()
        assert pooler.admin(how) == []
    else:
        pooler.signal(how)
    told(idle)
    eventually(lambda: refuses(pooler))
    with Wire(f"{pooler.socket_dir}/.s.PGSQL.{pooler.port}") as late:
        late.send(startup("postgres", "postgres"))
        [refusal] = late.until("E")
        assert refusal.text == "pooler is shutting down"
    assert busy.rows("SELECT 'still here'") == [[b"still here"]]
    assert [m.row[1] for m in asleep.until() if m.type == "D"] == [b"slept"]
    told(asleep)
    for wire in waiting:
        assert [m.row[1] for m in wire.until() if m.type == "D"] == [b"waited"]
        told(wire)
    assert pooler.pid is not None
    assert busy.query("COMMIT")[-1].body == b"I"
    told(busy)
    assert pooler.wait() == 0


def test_deadline(make_pooler: MakePooler) -> None:
    """Who does not come to an end is closed, and its transaction undone."""
    pooler = make_pooler(settings={"drain_timeout": 1, "default_pool_size": 2})
    busy, running, waiting = login(pooler), login(pooler), login(pooler)
    busy.query("BEGIN")
    running.send(query("SELECT pg_sleep(30)"))
    eventually(lambda: pooler.show("POOLS", user="postgres")[0]["sv_active"] == 2)
    waiting.send(query("SELECT 1"))
    pooler.signal(SIGTERM)
    began = time.monotonic()
    for wire in (busy, running, waiting):
        told(wire)
    assert time.monotonic() - began > 0.5
    assert pooler.wait() == 0


def test_second_signal_and_waiting_shutdown(make_pooler: MakePooler) -> None:
    """A second signal ends it at once; SHUTDOWN WAIT_FOR_CLIENTS stays what it is in PgBouncer."""
    pooler = make_pooler(settings={"drain_timeout": 60})
    idle = login(pooler)
    pooler.expect_end()
    pooler.admin("SHUTDOWN WAIT_FOR_CLIENTS")
    assert idle.rows("SELECT 1") == [[b"1"]]
    pooler.signal(SIGTERM)
    assert pooler.wait() == 0
    assert "fast exit" in pooler.log()


@pytest.mark.parametrize("mode", ["session", "transaction"])
def test_under_load(make_pooler: MakePooler, mode: str) -> None:
    """Clients without a pause: no transaction is broken, each is told 57P01, nobody sees anything else."""
    pooler = make_pooler(settings={"drain_timeout": 4, "default_pool_size": 12, "pool_mode": mode})
    counts = [0] * 12
    wrong: list[str] = []

    def work(number: int) -> None:
        try:
            with login(pooler) as wire:
                while True:
                    for sql in ("BEGIN", "SELECT 1", "COMMIT"):
                        wire.send(query(sql))
                        while (message := wire.recv()).type != "Z":
                            if message.type == "E":
                                assert (sql, message.text) == ("BEGIN", TEXT)
                                return
                    counts[number] += 1
        except (OSError, EOFError, AssertionError) as error:
            wrong.append(f"{number}: {error!r}")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(counts))]
    for thread in threads:
        thread.start()
    eventually(lambda: min(counts) > 20)
    pooler.signal(SIGTERM)
    assert pooler.wait(20) == 0
    for thread in threads:
        thread.join()
    assert not wrong, wrong


def test_drivers_are_told(make_pooler: MakePooler) -> None:
    """A driver without a pause gets the error with its SQLSTATE, as the answer to a first statement."""
    pooler = make_pooler(settings={"drain_timeout": 2})
    seen: list[object] = []
    begun = threading.Semaphore(0)

    def work() -> None:
        last = ""
        try:
            with pooler.connect() as conn:
                begun.release()
                while True:
                    for last in ("BEGIN", "SELECT 1", "COMMIT"):
                        conn.execute(last)
        except psycopg.Error as error:
            seen.append((last, type(error)))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert begun.acquire(timeout=10)
    pooler.signal(SIGTERM)
    assert pooler.wait(20) == 0
    for thread in threads:
        thread.join()
    assert seen == [("BEGIN", psycopg.errors.AdminShutdown)] * 4
