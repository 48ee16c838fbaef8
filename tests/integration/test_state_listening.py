"""Notifications while a client stops listening: what comes afterwards is not for it, whatever is read first."""

import os
import re
import signal
from collections.abc import Callable, Iterator

import pytest

from pgferry.embedded import Cluster
from support.pooler import Pooler, eventually
from support.wire import Message, Wire, bind, execute, parse, query, sync

# With EXPLAIN nothing temporary is made; but it is asked about, by reading pg_depend.
UNLISTEN_AND_ASK = "UNLISTEN a; EXPLAIN (COSTS OFF) SELECT 1 AS v INTO TEMP t"


def raw(pooler: Pooler, database: str) -> Wire:
    return Wire.login((pooler.host, pooler.port), user="postgres", database=database)


def heard(messages: list[Message]) -> list[str]:
    """First letters of the channels of notifications, and the other answers by type, without ParameterStatus."""
    return [chr(m.body[4]) if m.type == "A" else m.type for m in messages if m.type != "S"]


def extended(*texts: str) -> bytes:
    return b"".join(parse(text) + bind() + execute() for text in texts) + sync()


# What a client that listens to a and b sends at once: each line is one Query, or one batch of the extended protocol.
SENT: dict[str, list[str | tuple[str, ...]]] = {
    "one text": ["UNLISTEN a; NOTIFY a; NOTIFY b"],
    "one text, notified first": ["NOTIFY a; NOTIFY b; UNLISTEN a"],
    "one batch": [("UNLISTEN a", "NOTIFY a", "NOTIFY b")],
    "a transaction": ["BEGIN", "NOTIFY a", "UNLISTEN a", "NOTIFY b", "COMMIT"],
    "rolled back": ["BEGIN", "UNLISTEN a", "ROLLBACK", "NOTIFY a", "NOTIFY b"],
    "a pipeline": [("UNLISTEN a",), ("NOTIFY a",), ("NOTIFY b",)],
    "all of them": ["UNLISTEN *", "NOTIFY a", "NOTIFY b"],
    "discarded": ["DISCARD ALL", "NOTIFY a", "NOTIFY b"],
    "in a batch": [("DISCARD ALL",), ("SELECT pg_notify('a', ''), pg_notify('b', '')",)],
    "one more": ["LISTEN c; UNLISTEN a; NOTIFY a; NOTIFY b; NOTIFY c"],
    "to and fro": ["LISTEN c", "UNLISTEN c", "LISTEN c", "NOTIFY c"],
    "to and fro in a pipeline": [("LISTEN c",), ("UNLISTEN c",), ("LISTEN c",), ("NOTIFY c",)],
    "and fro": ["LISTEN c", "NOTIFY c", "UNLISTEN c", "NOTIFY c"],
    "rolled back, and again": ["BEGIN", "LISTEN c", "ROLLBACK", "LISTEN c", "NOTIFY c"],
}
CHANNEL = re.compile(r"\b[abc]\b")


@pytest.mark.parametrize("settled", [True, False], ids=["known", "unknown"])
def test_the_same_as_directly(pooler: Pooler, cluster: Cluster, database: str, settled: bool) -> None:
    """`settled`: whether pgferry knows what functions do when the client stops listening."""
    for number, (name, sent) in enumerate(SENT.items()):
        if not settled:
            # The catalog is to be read again: any statement may have changed anything.
            sent = ["CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", *sent]
        with Wire.login(("127.0.0.1", cluster.port), user="postgres", database=database) as direct:
            one = play(direct, sent, f"{number}d")
        with raw(pooler, database) as client:
            other = play(client, sent, f"{number}p")
        assert sorted(one) == sorted(other), name
        assert in_order(one) == in_order(other), name
        assert other[-1] == "Z", name


def play(client: Wire, sent: list[str | tuple[str, ...]], mark: str) -> list[str]:
    """All that it hears, on channels of its own."""

    def own(text: str) -> str:
        return CHANNEL.sub(lambda found: found[0] + mark, text)

    client.query(own("LISTEN a"))
    client.query(own("LISTEN b"))
    client.query("SELECT 1")
    client.send(*[query(own(x)) if isinstance(x, str) else extended(*map(own, x)) for x in sent])
    return heard(client.until(count=len(sent)) + client.query("SELECT 1"))


def in_order(got: list[str]) -> list[str]:
    """The notifications alone."""
    return [x for x in got if x in "abc"]


@pytest.mark.workers(1)  # both clients hear from one listening connection
def test_what_the_listening_connection_says_before_the_probe_is_answered(
    make_pooler: Callable[..., Pooler], cluster: Cluster, database: str
) -> None:
    pooler = make_pooler(settings={"pool_mode": "transaction"})
    direct = ("127.0.0.1", cluster.port)
    with (
        raw(pooler, database) as client,
        raw(pooler, database) as witness,
        Wire.login(direct, user="postgres", database=database) as locker,
        Wire.login(direct, user="postgres", database=database) as notifier,
    ):
        for wire in (client, witness):
            wire.query("LISTEN a")
            wire.query("LISTEN b")
        locker.query("BEGIN; LOCK TABLE pg_depend")
        client.query(UNLISTEN_AND_ASK)  # it has stopped listening, but pgferry's question waits for the lock
        notifier.query("NOTIFY a")
        notifier.query("NOTIFY b")
        assert [witness.recv().type, witness.recv().type] == ["A", "A"]
        locker.query("ROLLBACK")
        got = heard(client.query("SELECT 1"))
        got += heard(client.query("SELECT 1"))
    assert "a" not in got
    assert got.count("b") == 1


def test_its_own_notifications_come_before_ready_for_query(pooler: Pooler, database: str) -> None:
    """Also when the channels are asked for at the same time."""
    with raw(pooler, database) as client:
        assert heard(client.query("LISTEN a; NOTIFY a")) == ["C", "C", "a", "Z"]
        assert heard(client.query("NOTIFY a; LISTEN b; NOTIFY b")) == ["C", "C", "C", "a", "b", "Z"]
        assert heard(client.query("UNLISTEN b; NOTIFY b; NOTIFY a")) == ["C", "C", "C", "a", "Z"]
        assert heard(client.query("CREATE TEMP TABLE t (v int); NOTIFY a")) == ["C", "C", "a", "Z"]
        assert heard(client.query("LISTEN c; NOTIFY c; UNLISTEN a")) == ["C", "C", "C", "c", "Z"]
        assert heard(client.query("SELECT 1")) == ["T", "D", "C", "Z"]


def test_what_others_notify_before_it_stops(pooler: Pooler, cluster: Cluster, database: str) -> None:
    """Of a client that does not wait for answers."""
    direct = ("127.0.0.1", cluster.port)
    for address in (direct, (pooler.host, pooler.port)):
        with (
            Wire.login(address, user="postgres", database=database) as client,
            Wire.login(direct, user="postgres", database=database) as other,
        ):
            client.query("LISTEN a")
            client.query("SELECT 1")
            other.query("SELECT pg_advisory_lock(1)")
            client.send(query("SELECT pg_advisory_xact_lock(1)"), query("UNLISTEN a"), query("SELECT 1"))
            eventually(
                lambda: cluster.sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            )
            other.query("NOTIFY a")
            other.query("SELECT pg_advisory_unlock(1)")
            other.query("NOTIFY a")  # before or after it has stopped
            got = heard(client.until(count=3))
            assert 1 <= got.count("a") <= 2
            assert got[-4:] == ["T", "D", "C", "Z"]


@pytest.fixture
def listener(
    make_pooler: Callable[..., Pooler], cluster: Cluster, database: str
) -> Iterator[tuple[Pooler, Wire, int]]:
    """A pooler with a client that listens to channel a, and the process that listens for it, which is made to wait."""
    pooler = make_pooler(settings={"pool_mode": "transaction"})
    with raw(pooler, database) as witness:
        witness.query("LISTEN a")
        witness.query("SELECT 1")
        (pid,) = listening_pids(cluster, database)
        try:
            yield pooler, witness, pid
        finally:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.workers(1)
def test_what_was_committed_before_it_listened(
    listener: tuple[Pooler, Wire, int], cluster: Cluster, database: str
) -> None:
    """However late the listening connection tells of it."""
    pooler, witness, pid = listener
    with (
        raw(pooler, database) as client,
        Wire.login(("127.0.0.1", cluster.port), user="postgres", database=database) as notifier,
    ):
        client.query("SELECT 1")
        os.kill(pid, signal.SIGSTOP)
        notifier.query("NOTIFY a, 'early'")
        client.send(query("LISTEN a"))
        client.silent(0.2)  # without its answer, or with it
        os.kill(pid, signal.SIGCONT)
        assert witness.recv().type == "A"
        got = client.until()
        notifier.query("NOTIFY a, 'late'")
        while not any(b"late" in m.body for m in got):
            got.append(client.recv())
    assert [m.type for m in got if m.type != "S"] == ["C", "Z", "A"]


@pytest.mark.workers(1)
def test_clients_that_leave_while_their_listen_waits(
    listener: tuple[Pooler, Wire, int], cluster: Cluster, database: str
) -> None:
    pooler, witness, pid = listener
    with raw(pooler, database) as client:
        client.query("SELECT 1")
        os.kill(pid, signal.SIGSTOP)
        client.send(query("LISTEN a"))
        client.silent(0.2)
        client.close()
        eventually(lambda: len(pooler.show("CLIENTS", database=database)) == 1)
        os.kill(pid, signal.SIGCONT)
        assert heard(witness.query("NOTIFY a")) == ["C", "a", "Z"]
        witness.query("UNLISTEN a")
        witness.query("SELECT 1")
        # Nobody listens any more, not even the one that has left.
        eventually(lambda: listening_pids(cluster, database, 'UNLISTEN "a";') == [pid])


@pytest.mark.workers(1)
def test_a_listen_that_is_refused(
    make_pooler: Callable[..., Pooler], cluster: Cluster, database: str
) -> None:
    """In a text that asks for a sequence value which another client may have left on the server."""
    pooler = make_pooler(settings={"pool_mode": "transaction", "default_pool_size": 1})
    cluster.sql("CREATE SEQUENCE numbers", database)
    with raw(pooler, database) as other, raw(pooler, database) as client:
        other.query("SELECT nextval('numbers')")
        client.query("BEGIN")
        client.query("SELECT 1")
        (error,) = [m for m in client.query("LISTEN a; SELECT lastval()") if m.type == "E"]
        assert "sequence values of another client" in error.text
        client.query("ROLLBACK")
        assert heard(client.query("NOTIFY a")) == ["C", "Z"]
        assert heard(other.query("NOTIFY a")) == ["C", "Z"]
        assert heard(client.query("SELECT 1")) == ["T", "D", "C", "Z"]
        assert heard(client.query("LISTEN a; NOTIFY a")) == ["C", "C", "a", "Z"]


def listening_pids(cluster: Cluster, database: str, last: str = 'LISTEN "a";') -> list[int]:
    """Of the server connections whose last query begins like this; pgferry writes its own with quotes."""
    text = f"SELECT pid FROM pg_stat_activity WHERE datname = '{database}' AND query LIKE '{last}%'"
    return [int(row[0]) for row in cluster.sql(text)]
