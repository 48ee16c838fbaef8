"""Functions in languages that cannot be read: what they leave is undone, or pins, or somebody vouches for them."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from pgferry.embedded import Cluster
from support.clients import raw
from support.pooler import Pooler, eventually
from support.wire import Message, Wire, query

Make = Callable[..., Pooler]

LOOK = "SELECT current_setting('work_mem'), coalesce(current_setting('app.tenant', true), '')"
CLEAN: list[bytes | None] = [b"4MB", b""]

pytestmark = pytest.mark.workers(1)


@dataclass
class Place:
    """A database behind a pooler."""

    pooler: Pooler
    database: str
    cluster: Cluster

    def has(self, *texts: str) -> None:
        """Run these before pgferry's first look at the catalog."""
        for text in texts:
            self.cluster.sql(text, self.database)

    def join(self) -> Wire:
        return raw(self.pooler, self.database)

    def pins(self) -> str:
        return "".join(row["reasons"] for row in self.pooler.show("PINS"))

    def finds_nothing(self, owner: Wire) -> None:
        """The next client of that server, now or when its owner has left, finds a session as it was made."""
        witness = self.join()
        witness.send(query(LOOK))
        if witness.silent(0.5):
            owner.close()
        assert [m.row for m in witness.until() if m.type == "D"] == [CLEAN]


@pytest.fixture
def one(make_pooler: Make, cluster: Cluster, database: str) -> Place:
    """A pool of one server, so that whoever comes next finds what is left."""
    return Place(make_pooler(cluster, settings={"default_pool_size": 1}), database, cluster)


def no_errors(answers: list[Message]) -> None:
    assert [m.text for m in answers if m.type == "E"] == []


LANGUAGE = "CREATE LANGUAGE pltest HANDLER plpgsql_call_handler"
UNREAD = """CREATE FUNCTION f() RETURNS int LANGUAGE pltest AS $$
    BEGIN PERFORM set_config('app.' || 'tenant', 'evil', false); SET work_mem = '7MB'; RETURN 1; END $$"""


def costs(pooler: Pooler) -> list[str]:
    return [row["reason"] for row in pooler.show("STATE_COUNTERS", counter="probes")]


def test_code_that_cannot_be_read_is_undone(one: Place) -> None:
    one.has(LANGUAGE, UNREAD)
    owner = one.join()
    no_errors(owner.query("SELECT f()"))
    eventually(lambda: one.pins() == "")
    assert one.join().rows(LOOK) == [CLEAN]
    assert owner.rows("SHOW work_mem") == [[b"7MB"]]
    assert "function f (pltest)" in costs(one.pooler)
    one.finds_nothing(owner)


def test_code_that_cannot_be_read_pins(make_pooler: Make, cluster: Cluster, database: str) -> None:
    settings = {"default_pool_size": 1, "unknown_state": "pin"}
    one = Place(make_pooler(cluster, settings=settings), database, cluster)
    cluster.sql(LANGUAGE, database)
    cluster.sql(UNREAD, database)
    owner = one.join()
    no_errors(owner.query("SELECT f()"))
    eventually(lambda: "unknown name" in one.pins())
    assert owner.rows(LOOK) == [[b"7MB", b"evil"]]
    one.finds_nothing(owner)


def test_code_that_somebody_vouches_for_costs_nothing(
    make_pooler: Make, cluster: Cluster, database: str
) -> None:
    """RELOAD changes for whom."""
    cluster.sql(LANGUAGE, database)
    cluster.sql("CREATE FUNCTION f() RETURNS int LANGUAGE pltest AS 'BEGIN RETURN 1; END'", database)
    settings = {"default_pool_size": 1, "harmless_functions": "public.f, other"}
    one = Place(make_pooler(cluster, settings=settings), database, cluster)
    owner = one.join()
    for _ in range(3):
        no_errors(owner.query("SELECT f()"))
    assert costs(one.pooler) == []
    one.pooler.set({"harmless_functions": "other"})

    def seen() -> bool:
        owner.query("SELECT f()")
        return "function f (pltest)" in costs(one.pooler)

    eventually(seen)
    one.pooler.set({"harmless_functions": "f"})

    def free() -> bool:
        before = one.pooler.show("STATE_COUNTERS", counter="probes")
        owner.query("SELECT f()")
        return bool(one.pooler.show("STATE_COUNTERS", counter="probes") == before)

    eventually(free)
