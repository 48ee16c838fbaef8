"""pg_cancel_backend() of an operator that strikes pgferry's own queries: nothing counts as done that failed."""

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from pgferry.embedded import Cluster
from support.clients import raw
from support.pooler import Pooler
from support.wire import Wire

pytestmark = pytest.mark.workers(1)

LOOK = "SELECT current_setting('app.tenant', true), current_setting('work_mem')"
SECONDS = 4.0


@contextmanager
def cancelling(cluster: Cluster, database: str) -> Iterator[None]:
    """Cancel whatever runs in the database, again and again, but not what pgferry runs in sessions of its own."""
    over = threading.Event()

    def strike() -> None:
        with psycopg.connect(cluster.conninfo(dbname="postgres"), autocommit=True) as direct:
            while not over.is_set():
                direct.execute(
                    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = %s AND state = 'active'"
                    " AND application_name NOT LIKE 'pgferry%%'",
                    (database,),
                )
                time.sleep(random.uniform(0, 0.002))

    thread = threading.Thread(target=strike)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def looked(wire: Wire) -> list[list[bytes | None]]:
    """What the client sees of its session; nothing when it is told of an error, or loses its connection."""
    try:
        answers = wire.query(LOOK)
    except (EOFError, ConnectionError):
        return []
    return [] if any(m.type in ("E", "EOF") for m in answers) else [m.row for m in answers if m.type == "D"]


def differs(pooler: Pooler, cluster: Cluster, database: str) -> str:
    """What owners or a client without state saw that was not theirs; empty: nothing."""
    end = time.monotonic() + SECONDS
    with cancelling(cluster, database):
        n = 0
        while time.monotonic() < end:
            n += 1
            with raw(pooler, database) as owner, raw(pooler, database) as witness:
                mine = b"t%d" % n
                try:
                    if any(m.type == "E" for m in owner.query(f"SET app.tenant = '{mine.decode()}'")):
                        continue
                except (EOFError, ConnectionError):
                    continue
                for _ in range(3):
                    for seen in looked(witness):
                        if seen[0] or seen[1] != b"4MB":
                            return f"the witness saw {seen}"
                    for seen in looked(owner):
                        if seen[0] != mine:
                            return f"the owner of {mine!r} saw {seen}"
    return ""


def test_cancelled(cluster: Cluster, database: str, make_pooler: Callable[..., Pooler]) -> None:
    pooler = make_pooler(cluster, settings={"default_pool_size": 1}, ignore=".")
    assert not differs(pooler, cluster, database)
