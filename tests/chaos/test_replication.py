"""Replication clients that come and go in every way, in full pools, beside ordinary ones, under an operator's hands."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress

import psycopg
import pytest

from chaos.health import Health
from pgferry.embedded import Cluster
from support import cluster as clusters
from support.pooler import Pooler
from support.replication import SETTINGS, feedback, logical, physical, standby, subscriber
from support.wire import Wire, copy_done, query, startup

MakePooler = Callable[..., Pooler]
SECONDS = 6.0
POOL, DATABASE = 4, 6
DATABASES = ("postgres", "other")
SERVERS = ("sv_active", "sv_idle", "sv_used", "sv_tested", "sv_login", "sv_being_canceled")
WALSENDER = "SELECT 1 FROM pg_stat_activity WHERE pid = pg_backend_pid() AND backend_type = 'walsender'"


@pytest.fixture(scope="module")
def source() -> Iterator[Cluster]:
    cluster = clusters.new_cluster(clusters.versions()[0], settings=SETTINGS)
    yield cluster
    cluster.close()


class Crowd:
    """Threads that work until the time is over. `wrong` is what must not be."""

    def __init__(self, pooler: Pooler, source: Cluster) -> None:
        self.pooler, self.source = pooler, source
        self.until = time.monotonic() + SECONDS
        self.wrong: list[str] = []
        self.done: Counter[str] = Counter()

    def run(self) -> None:
        jobs = [*[self.replicate] * 6, *[self.knock] * 2, *[self.work] * 4, self.operate, self.watch]
        threads = [threading.Thread(target=self._repeat, args=(job, i)) for i, job in enumerate(jobs)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    def _repeat(self, job: Callable[[random.Random], None], seed: int) -> None:
        pick = random.Random(seed)
        while time.monotonic() < self.until:
            # Cut off by operate(), or by a limit: that is what this is about.
            with suppress(OSError, EOFError, ConnectionError, psycopg.Error):
                job(pick)
                self.done[job.__name__] += 1

    def replicate(self, pick: random.Random) -> None:
        """A stream that ends in order, in disorder or not at all."""
        wire = (
            standby(self.pooler) if pick.random() < 0.4 else subscriber(self.pooler, pick.choice(DATABASES))
        )
        try:
            with suppress(AssertionError):
                if pick.random() < 0.5:
                    physical(wire)
                else:
                    logical(wire, f"slot_{pick.getrandbits(60)}")
                for _ in range(pick.randrange(3)):
                    wire.send(feedback())
                    time.sleep(pick.random() / 10)
                if pick.random() < 0.5:
                    wire.send(copy_done())
                    if pick.random() < 0.5:
                        wire.until()
        finally:
            (wire.reset if pick.random() < 0.3 else wire.close)()

    def knock(self, pick: random.Random) -> None:
        """A client that does not wait for the end of its login."""
        with Wire((self.pooler.host, self.pooler.port)) as wire:
            wire.send(startup("postgres", "postgres", replication=pick.choice(["database", "true"])))
            time.sleep(pick.random() / 50)
        time.sleep(0.01)

    def work(self, pick: random.Random) -> None:
        """An ordinary client: its own answers, on a server that never replicated."""
        address = (self.pooler.host, self.pooler.port)
        with Wire.login(address, database=pick.choice(DATABASES)) as wire:
            for _ in range(20):
                tag = f"{pick.getrandbits(60)}"
                wire.send(query("BEGIN"), query(f"SELECT '{tag}'"), query(WALSENDER), query("COMMIT"))
                seen = [m for _ in range(4) for m in wire.until()]
                rows = [m.row for m in seen if m.type == "D"]
                if rows != [[tag.encode()]]:
                    self.wrong.append(f"{tag}: {rows}")
                time.sleep(pick.random() / 50)

    def operate(self, pick: random.Random) -> None:
        time.sleep(pick.random() / 2)
        what = pick.randrange(4)
        if what == 0:
            self.pooler.admin("RECONNECT")
        elif what == 1:
            self.pooler.admin("KILL other")
            self.pooler.admin("RESUME other")
        else:
            self.source.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'walsender' "
                "ORDER BY random() LIMIT 2"
            )

    def watch(self, _pick: random.Random) -> None:
        """The limits hold. Workers are asked one after the other: what is seen once may be no moment of all."""
        seen = [over for _ in range(3) if (over := self._over())]
        if len(seen) == 3:
            self.wrong.append(str(seen))
        time.sleep(0.1)

    def _over(self) -> list[dict[str, object]]:
        rows = [row for row in self.pooler.show("DATABASES") if row["name"] != "pgbouncer"]
        over = [row for row in rows if row["current_connections"] > DATABASE]
        rows = [row for row in self.pooler.show("POOLS") if row["database"] != "pgbouncer"]
        return over + [row for row in rows if sum(row[name] for name in SERVERS) > POOL]


def test_a_crowd(make_pooler: MakePooler, health: Callable[[Pooler], Health], source: Cluster) -> None:
    pooler = make_pooler(
        source,
        settings={
            "default_pool_size": POOL,
            "max_db_connections": DATABASE,
            "query_wait_timeout": 5,
            "log_connections": 0,
            "log_disconnections": 0,
            "log_pooler_errors": 0,
        },
    )
    pooler.set(databases={name: pooler.server(dbname="postgres") for name in (*DATABASES, "replication")})
    well = health(pooler)
    crowd = Crowd(pooler, source)
    crowd.run()
    assert crowd.wrong == []
    print(crowd.done)
    assert crowd.done["replicate"] > 20
    assert crowd.done["knock"] > 20
    assert crowd.done["work"] > 5
    well.recovered(20)
    assert not [row for row in pooler.show("SERVERS") if row["replication"] != "none"]
