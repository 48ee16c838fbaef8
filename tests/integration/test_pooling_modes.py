"""Session, transaction and statement mode: who has the server when, and what happens between two clients."""

from collections.abc import Callable, Iterator

import pytest

from pgferry.embedded import Cluster
from support.clients import begin, pid_of, raw
from support.pooler import Pooler, eventually
from support.wire import query, types

Make = Callable[..., Pooler]


@pytest.fixture
def modes(cluster: Cluster, make_pooler: Make) -> Iterator[Pooler]:
    """One entry for each mode, one server each; a user whose own mode wins."""
    one = "pool_size=1 dbname=postgres"
    server = f"host=127.0.0.1 port={cluster.port} {one}"
    yield make_pooler(
        settings={"pool_mode": "transaction", "query_wait_timeout": 5},
        databases={
            "by_default": server,
            "session": f"{server} pool_mode=session",
            "statement": f"{server} pool_mode=statement",
        },
        users={"app": "pool_mode=session"},
        userlist={"postgres": "", "admin": "", "app": ""},
    )


def test_each_mode_keeps_the_server_as_long_as_it_should(modes: Pooler, workers: int) -> None:
    if workers == 1:
        holder, other = raw(modes, "by_default"), raw(modes, "by_default")
        pid = begin(holder)
        other.send(query("SELECT pg_backend_pid()"))
        assert other.silent(0.1)
        holder.query("COMMIT")
        assert int(other.until()[1].row[0] or 0) == pid
        holder.close()
        other.close()
    holder, other = raw(modes, "session"), raw(modes, "session")
    pid = pid_of(holder)
    assert pid_of(holder) == pid
    other.send(query("SELECT 1"))
    assert other.silent(0.2)
    holder.close()
    assert types(other.until()) == "TDCZ"
    other.close()
    wire = raw(modes, "statement")
    assert types(wire.query("SELECT 1")) == "TDCZ"
    wire.send(query("BEGIN"))
    assert types([wire.recv() for _ in range(2)]) == "CE"  # in place of ReadyForQuery, so that BEGIN fails
    assert wire.at_end()
    with modes.connect("statement") as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
    modes.wait_log("closing because: transaction blocks not allowed in statement pooling mode")


def test_mode_of_the_user_comes_first(modes: Pooler, cluster: Cluster) -> None:
    cluster.sql("DO $$ BEGIN CREATE ROLE app LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    for db in ("by_default", "session", "statement"):
        raw(modes, db, "app").close()
        raw(modes, db).close()
    pools = {(p["database"], p["user"]): p["pool_mode"] for p in modes.show("POOLS")}
    assert pools == {
        ("by_default", "app"): "session",
        ("by_default", "postgres"): "transaction",
        ("pgbouncer", "pgbouncer"): "statement",
        ("session", "app"): "session",
        ("session", "postgres"): "session",
        ("statement", "app"): "session",
        ("statement", "postgres"): "statement",
    }
    shown = {d["name"]: d["pool_mode"] for d in modes.show("DATABASES") if d["name"] != "pgbouncer"}
    assert shown == {"by_default": None, "session": "session", "statement": "statement"}
    with raw(modes, "statement", "app") as wire:
        assert types(wire.query("BEGIN")) == "CZ"
        assert types(wire.query("COMMIT")) == "CZ"


@pytest.mark.workers(1)
def test_a_session_ends_with_the_reset_query(modes: Pooler) -> None:
    with modes.connect("session") as conn:
        pid = conn.info.backend_pid
        backend = conn.execute("SELECT pg_backend_pid()").fetchone()
        assert pid
        conn.execute("SET work_mem = '77MB'")
        conn.execute("CREATE TEMP TABLE mine (x int)")
    with modes.connect("session") as conn:
        assert conn.execute("SELECT pg_backend_pid()").fetchone() == backend
        assert conn.execute("SHOW work_mem").fetchone() != ("77MB",)
        assert conn.execute("SELECT to_regclass('mine')").fetchone() == (None,)
    modes.set({"server_reset_query": ""})
    with modes.connect("session") as conn:
        conn.execute("SET work_mem = '77MB'")
    with modes.connect("session") as conn:
        assert conn.execute("SHOW work_mem").fetchone() == ("77MB",)
        conn.execute("RESET ALL")
    modes.set({"server_reset_query": "SELECT 1/0"})
    with modes.connect("session") as conn:
        backend = conn.execute("SELECT pg_backend_pid()").fetchone()
    modes.wait_log("closing because: reset query failed")
    with modes.connect("session") as conn:
        assert conn.execute("SELECT pg_backend_pid()").fetchone() != backend


def test_reset_query_always(modes: Pooler, cluster: Cluster) -> None:
    """It runs whenever a server is given back. (What it SETs is undone again: no client has asked for it.)"""
    cluster.sql("DROP SEQUENCE IF EXISTS resets; CREATE SEQUENCE resets")
    modes.set({"server_reset_query_always": 1, "server_reset_query": "SELECT nextval('resets')"})
    with modes.connect("by_default") as conn:
        for number in "123":  # a client that goes on at once may still have the server it had
            conn.execute("SELECT 1")
            now = [(number, "t")]
            eventually(lambda now=now: cluster.sql("SELECT last_value, is_called FROM resets") == now)


def test_session_mode_client_that_dies_in_a_transaction(modes: Pooler) -> None:
    wire = raw(modes, "session")
    pid = begin(wire)
    wire.reset()
    with modes.connect("session") as conn:
        assert conn.execute("SELECT pg_backend_pid()").fetchone() != (pid,)
    modes.wait_log("closing because: client disconnect while server was not ready")
