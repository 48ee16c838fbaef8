"""pool_size, reserve, minimum, every max_* limit; with two workers they hold in sum and nobody starves."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import psycopg
import pytest

from pgferry.embedded import Cluster
from support.clients import begin, one_of_each, raw, raw_soon, refusal
from support.pooler import Pooler, eventually
from support.wire import Wire, query, types

Make = Callable[..., Pooler]
USERS = {"postgres": "", "admin": "", "alice": "", "bob": ""}


@pytest.fixture
def server(cluster: Cluster) -> Callable[..., str]:
    for role in ("alice", "bob"):
        cluster.sql(
            f"DO $$ BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )

    def line(**more: object) -> str:
        pairs = {"host": "127.0.0.1", "port": cluster.port, "dbname": "postgres", **more}
        return " ".join(f"{k}={v}" for k, v in pairs.items())

    return line


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def asking(wires: list[Wire], sql: str = "BEGIN") -> None:
    for wire in wires:
        wire.send(query(sql))


def answered(wires: list[Wire], seconds: float = 0.3) -> list[Wire]:
    """Those that have an answer within so many seconds from now."""
    limit = time.monotonic() + seconds
    return [w for w in wires if not w.silent(max(limit - time.monotonic(), 0.01))]


def servers(pooler: Pooler, **match: object) -> int:
    return len(pooler.show("SERVERS", **match))


def test_pool_size_and_reserve(make_pooler: Make, server: Callable[..., str], clients: ExitStack) -> None:
    pooler = make_pooler(
        databases={
            "small": server(pool_size=2),
            "reserve": server(pool_size=2, reserve_pool_size=1),
            "of_user": server(pool_size=7),
        },
        users={"alice": "pool_size=1 reserve_pool_size=1"},
        settings={"reserve_pool_timeout": 1.5},
        userlist=USERS,
    )
    waiting = [clients.enter_context(raw(pooler, "small")) for _ in range(4)]
    asking(waiting)
    eventually(lambda: servers(pooler, database="small") == 2)
    assert len(answered(waiting, 0.7)) == 2
    assert servers(pooler, database="small") == 2

    waiting = [clients.enter_context(raw(pooler, "reserve")) for _ in range(4)]
    of_user = [clients.enter_context(raw(pooler, "of_user", "alice")) for _ in range(3)]
    asking(waiting)
    asking(of_user)
    assert len(answered(waiting, 0.9)) == 2
    assert len(answered(of_user, 0.01)) == 1
    assert len(answered(waiting, 2)) == 3
    assert len(answered(of_user, 0.1)) == 2
    assert (servers(pooler, database="reserve"), servers(pooler, user="alice")) == (3, 2)
    pooler.wait_log("taking connection from reserve_pool")
    # What came from the reserve goes when nobody waits for it any more.
    pooler.set({"reserve_pool_timeout": 0.2})
    for wire in waiting:
        wire.close()
    eventually(lambda: servers(pooler, database="reserve") <= 2)


def test_min_pool_size(make_pooler: Make, server: Callable[..., str], clients: ExitStack) -> None:
    pooler = make_pooler(
        databases={
            "lively": server(min_pool_size=3),
            "capped": server(min_pool_size=9, pool_size=2),
            "forced": server(min_pool_size=2, user="alice"),
            "quiet": server(min_pool_size=2),
        },
        settings={"server_idle_timeout": 0.5},
        userlist=USERS,
    )
    clients.enter_context(raw(pooler, "lively"))
    clients.enter_context(raw(pooler, "capped"))
    with raw(pooler, "forced"):
        pass

    def counts() -> list[int]:
        found = [s["database"] for s in pooler.show("SERVERS")]
        return [found.count(db) for db in ("lively", "capped", "forced", "quiet")]

    eventually(lambda: counts() == [3, 2, 2, 0], 5)
    time.sleep(1)
    assert counts() == [3, 2, 2, 0]


def test_max_client_limits(make_pooler: Make, server: Callable[..., str], clients: ExitStack) -> None:
    pooler = make_pooler(
        databases={"postgres": server(), "narrow": server(max_db_client_connections=2)},
        users={"alice": "max_user_client_connections=2"},
        settings={"max_client_conn": 6},
        userlist=USERS,
    )
    narrow = [clients.enter_context(raw(pooler, "narrow")) for _ in range(2)]
    assert refusal(pooler, "narrow") == (
        "FATAL 08P01 client connections exceeded (max_db_client_connections)"
    )
    of_alice = [clients.enter_context(raw(pooler, user="alice")) for _ in range(2)]
    assert refusal(pooler, user="alice") == (
        "FATAL 08P01 client connections exceeded (max_user_client_connections)"
    )
    for _ in range(2):
        clients.enter_context(raw(pooler))
    assert refusal(pooler) == "FATAL 08P01 no more connections allowed (max_client_conn)"
    assert pooler.show("DATABASES", name="narrow")[0]["current_client_connections"] == 2
    assert pooler.show("USERS", name="alice")[0]["current_client_connections"] == 2
    # The console is always open, and places come back.
    for wire in (narrow[0], of_alice[0]):
        wire.close()
    for db, user in (("narrow", "postgres"), ("postgres", "alice")):
        clients.enter_context(raw_soon(pooler, db, user))
    assert refusal(pooler) == "FATAL 08P01 no more connections allowed (max_client_conn)"
    pooler.wait_log("pooler error: no more connections allowed .max_client_conn.")
    pooler.set({"max_client_conn": 7})
    eventually(lambda: refusal(pooler) == "logged in")  # consoles count, too, until they are gone


def test_refused_clients_are_not_counted(
    make_pooler: Make, server: Callable[..., str], clients: ExitStack
) -> None:
    pooler = make_pooler(databases={"postgres": server()}, settings={"max_client_conn": 2}, userlist=USERS)
    for _ in range(5):
        assert "no such database" in refusal(pooler, "missing")
        assert "authentication failed" in refusal(pooler, user="nobody")
    kept = [clients.enter_context(raw(pooler)) for _ in range(2)]
    assert "max_client_conn" in refusal(pooler)
    kept[0].reset()
    eventually(lambda: refusal(pooler) == "logged in")


def test_max_db_connections_with_eviction(
    make_pooler: Make, server: Callable[..., str], clients: ExitStack
) -> None:
    """Idle servers of other users make room, at whichever worker they are; busy ones do not."""
    pooler = make_pooler(
        databases={"postgres": server(max_db_connections=2)},
        userlist=USERS,
        settings={"query_wait_timeout": 20},
    )
    for user in ("postgres", "alice", "bob"):
        wire = clients.enter_context(raw(pooler, user=user, timeout=5))
        assert types(wire.query("SELECT 1")) == "TDCZ"
        assert servers(pooler) <= 2
    pooler.wait_log("closing because: (evicted|slot given)")
    busy = [clients.enter_context(raw(pooler, user=u, timeout=5)) for u in ("alice", "bob")]
    for wire in busy:
        begin(wire)
    late = clients.enter_context(raw(pooler))
    late.send(query("SELECT 1"))
    assert late.silent(1)
    assert pooler.show("DATABASES", name="postgres")[0]["current_connections"] == 2
    busy[0].query("COMMIT")
    assert types(late.until()) == "TDCZ"


def test_max_user_connections_with_eviction(
    make_pooler: Make, server: Callable[..., str], clients: ExitStack
) -> None:
    pooler = make_pooler(
        databases={"a": server(), "b": server(), "c": server()},
        users={"alice": "max_user_connections=2"},
        userlist=USERS,
    )
    for db in ("a", "b", "c"):
        wire = clients.enter_context(raw(pooler, db, "alice", timeout=5))
        assert types(wire.query("SELECT 1")) == "TDCZ"
        assert servers(pooler, user="alice") <= 2
    pooler.wait_log("closing because: (evicted|slot given)")
    for db in ("a", "b"):
        begin(clients.enter_context(raw(pooler, db, "alice", timeout=5)))
    late = clients.enter_context(raw(pooler, "c", "alice"))
    late.send(query("SELECT 1"))
    with raw(pooler, "c", "bob") as other:
        assert types(other.query("SELECT 1")) == "TDCZ"
    assert late.silent(0.5)
    assert pooler.show("USERS", name="alice")[0]["current_connections"] == 2


@pytest.mark.workers(1)
def test_waiting_clients_first_in_first_out(
    make_pooler: Make, server: Callable[..., str], clients: ExitStack
) -> None:
    pooler = make_pooler(databases={"postgres": server(pool_size=1)})
    holder = clients.enter_context(raw(pooler))
    begin(holder)
    queue = [clients.enter_context(raw(pooler)) for _ in range(8)]
    for i, wire in enumerate(queue):
        wire.send(query("SELECT clock_timestamp()"))
        eventually(lambda n=i: pooler.show("POOLS", database="postgres")[0]["cl_waiting"] == n + 1)  # type: ignore[misc]
    assert pooler.show("POOLS", database="postgres")[0]["maxwait_us"] > 0
    holder.query("COMMIT")
    times = [wire.until()[1].row[0] for wire in queue]
    assert times == sorted(times)  # type: ignore[type-var]


# --- two workers


@pytest.mark.workers(2)
def test_idle_servers_are_lent(make_pooler: Make, server: Callable[..., str], clients: ExitStack) -> None:
    """One worker has all the servers and does not use them: the other one gets as many as it needs."""
    pooler = make_pooler(databases={"postgres": server(pool_size=4)})
    first, second = ([], [])  # type: tuple[list[Wire], list[Wire]]
    while len(first) < 4 or len(second) < 4:
        for i, wire in enumerate(one_of_each(pooler, 2)):
            (first, second)[i].append(clients.enter_context(wire))
    asking(first)
    assert len(answered(first, 5)) == len(first) == 4
    for wire in first:
        wire.until()
    asking(first, "COMMIT")
    for wire in first:
        wire.until()
    assert servers(pooler) == 4
    asking(second)
    assert len(answered(second, 5)) == 4
    assert servers(pooler) == 4


@pytest.mark.workers(2)
@pytest.mark.pg(18)
@pytest.mark.parametrize("limit", ["pool_size=1", "max_db_connections=3", "max_user_connections=1"])
def test_busy_workers_share(make_pooler: Make, server: Callable[..., str], limit: str) -> None:
    """Clients at both workers ask without a pause: neither worker keeps all servers for long."""
    key, _, number = limit.partition("=")
    own = {key: number} if key != "max_user_connections" else {}
    pooler = make_pooler(
        databases={"postgres": server(**own)},
        users={"postgres": limit} if not own else {},
        settings={"query_wait_timeout": 30},
    )
    halt = threading.Event()
    served = [[0.0, 0.0] for _ in range(12)]  # queries, longest wait

    def work(i: int) -> None:
        with pooler.connect(connect_timeout=20) as conn:
            workers_seen[i] = conn.info.backend_pid & 0xFF
            while not halt.is_set():
                started = time.monotonic()
                conn.execute("SELECT pg_sleep(0.01)")
                served[i][0] += 1
                served[i][1] = max(served[i][1], time.monotonic() - started)

    workers_seen = [-1] * len(served)
    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(served))]
    for thread in threads:
        thread.start()
    most, limit_of_time = 0, time.monotonic() + 3
    while time.monotonic() < limit_of_time:
        most = max(most, len(pooler.show("SERVERS")))
        time.sleep(0.1)
    halt.set()
    for thread in threads:
        thread.join()
    assert most <= int(number)
    for worker in (0, 1):
        mine = [served[i] for i in range(len(served)) if workers_seen[i] == worker]
        if mine:
            assert sum(n for n, _ in mine) > 5, (worker, served, workers_seen)
            assert max(wait for _, wait in mine) < 7, (worker, served, workers_seen)


@pytest.mark.workers(2)
def test_limits_hold_in_sum_under_a_storm(
    make_pooler: Make, server: Callable[..., str], cluster: Cluster
) -> None:
    """Many clients at once in two workers: PostgreSQL itself never sees more than the limit."""
    pooler = make_pooler(
        databases={
            "a": server(pool_size=3, application_name="storm"),
            "b": server(max_db_connections=4, application_name="storm_b"),
        },
        userlist=USERS,
    )
    halt = threading.Event()

    def work(i: int) -> None:
        db, user = ("a", "alice") if i % 2 else ("b", ("alice", "bob")[i // 2 % 2])
        while not halt.is_set():
            with pooler.connect(db, user, connect_timeout=20) as conn:
                for _ in range(5):
                    conn.execute("SELECT pg_sleep(0.002)")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(12)]
    for thread in threads:
        thread.start()
    most = {"a": 0, "b": 0}
    with psycopg.connect(
        f"host=127.0.0.1 port={cluster.port} user=postgres dbname=postgres", autocommit=True
    ) as conn:
        limit_of_time = time.monotonic() + 2
        while time.monotonic() < limit_of_time:
            rows = pooler.show("SERVERS")
            for db in most:
                most[db] = max(most[db], sum(r["database"] == db for r in rows))
            count = conn.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE usename IN ('alice', 'bob')"
                " AND application_name NOT LIKE 'pgferry%'"
            ).fetchone()
            assert count is not None
            # Backends of connections that were closed just now may still be listed.
            assert count[0] <= 7 + 6
    halt.set()
    for thread in threads:
        thread.join()
    assert most["a"] <= 3
    assert most["b"] <= 4
