"""Notifications come whole, in order, in the client's encoding, whatever the listening connection meets."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from pgferry.embedded import Cluster
from support.answer_proxy import AnswerProxy
from support.pooler import SECRETS, Pooler, eventually
from support.wire import Message, Wire, bind, execute, parse, query, sync, types


def raw(pooler: Pooler, database: str) -> Wire:
    return Wire.login((pooler.host, pooler.port), user="postgres", database=database)


def direct(cluster: Cluster, database: str) -> Wire:
    return Wire.login(("127.0.0.1", cluster.port), user="postgres", database=database)


@pytest.mark.parametrize(("count", "size"), [(500, 50), (100, 7000)])
def test_notifications_that_come_in_pieces(
    make_pooler: Callable[..., Pooler], cluster: Cluster, database: str, count: int, size: int
) -> None:
    """PostgreSQL writes 8 kB at a time: one that is cut costs nothing."""
    pooler = make_pooler(settings={"pool_mode": "transaction"})
    with raw(pooler, database) as client, direct(cluster, database) as notifier:
        client.query("LISTEN a")
        client.query("SELECT 1")
        for _ in range(5):
            notifier.query(
                f"SELECT pg_notify('a', g || repeat('x', {size})) FROM generate_series(1, {count}) g"
            )
        for number in [*range(1, count + 1)] * 5:
            message = client.recv()
            assert message.type == "A"
            assert message.body[4:].startswith(b"a\0%dx" % number)
        assert "A" not in [m.type for m in client.query("SELECT 1")]


def ask(wire: Wire, text: bytes) -> list[Message]:
    """A simple query of any bytes and its whole answer."""
    wire.send(query(text))
    return wire.until()


def listening_session(cluster: Cluster, database: str) -> list[tuple[str, int]]:
    """(user, pid) of pgferry's own connections for notifications."""
    text = "SELECT usename, pid FROM pg_stat_activity WHERE application_name LIKE 'pgferry l%' AND datname = "
    return [(str(user), int(pid)) for user, pid in cluster.sql(f"{text}'{database}'")]


@pytest.fixture
def role(cluster: Cluster, database: str) -> Iterator[str]:
    """A role that can log in."""
    name = f"first_{database}"
    cluster.sql(f"CREATE ROLE {name} LOGIN")
    yield name
    cluster.sql(f"DROP ROLE {name}")


@pytest.mark.workers(1)
@pytest.mark.pg(18)  # with idle_session_timeout
def test_the_user_that_listens_cannot_log_in_any_more(
    make_pooler: Callable[..., Pooler], cluster: Cluster, database: str, role: str
) -> None:
    """Another user's login takes its place; what the user's role is set to does not matter."""
    for setting in (
        "idle_session_timeout = 200",
        "search_path = nowhere",
        "default_transaction_read_only = on",
    ):
        cluster.sql(f"ALTER ROLE {role} SET {setting}")
    pooler = make_pooler(userlist={**SECRETS, role: ""})
    with (
        Wire.login((pooler.host, pooler.port), user=role, database=database) as first,
        raw(pooler, database) as client,
        direct(cluster, database) as notifier,
    ):
        first.query("LISTEN a")
        client.query("LISTEN a")
        client.query("SELECT 1")
        ((name, pid),) = listening_session(cluster, database)
        assert name == role
        assert [row["state"] for row in pooler.show("SERVERS") if int(row["remote_pid"]) == pid] == [
            "internal"
        ]
        client.silent(0.4)
        assert listening_session(cluster, database) == [(role, pid)]
        cluster.sql(f"ALTER ROLE {role} NOLOGIN")
        cluster.sql(f"SELECT pg_terminate_backend({pid})")
        assert b"was lost" in client.recv().body
        assert b"arrive again" in client.recv().body
        notifier.query("NOTIFY a")
        assert client.recv().type == "A"
        assert [name for name, _pid in listening_session(cluster, database)] == ["postgres"]


def heard(messages: list[Message]) -> list[bytes]:
    """Channels and payloads of the notifications among them, with a colon in between."""
    return [m.body[4:-1].replace(b"\0", b":") for m in messages if m.type == "A"]


def test_listening_again_in_a_transaction(pooler: Pooler, cluster: Cluster, database: str) -> None:
    """What is committed meanwhile is for a client that listened before."""
    for address in (("127.0.0.1", cluster.port), (pooler.host, pooler.port)):
        with (
            Wire.login(address, database=database) as client,
            direct(cluster, database) as notifier,
        ):
            client.query("LISTEN a")
            client.query("SELECT 1")
            client.query("BEGIN; LISTEN a")
            notifier.query("NOTIFY a, '1'")
            client.query("SELECT 1")
            client.query("UNLISTEN a; LISTEN a")
            notifier.query("NOTIFY a, '2'")
            client.query("SELECT 1")
            got = client.query("COMMIT")
            while len(heard(got)) < 2:
                got.append(client.recv())
            assert heard(got) == [b"a:1", b"a:2"]


def test_order_over_all_channels(pooler: Pooler, cluster: Cluster, database: str) -> None:
    """Also of what comes while it is not known yet whether a LISTEN has succeeded."""
    names = [b"a:1", b"b:2", b"a:3", b"b:4", b"a:5"]
    with (
        raw(pooler, database) as client,
        direct(cluster, database) as locker,
        direct(cluster, database) as notifier,
    ):
        client.query("LISTEN a")
        client.query("SELECT 1")
        locker.query("BEGIN; LOCK TABLE pg_depend")
        # Committed at once; what is asked about it has to wait.
        client.query("LISTEN b; EXPLAIN (COSTS OFF) SELECT 1 AS v INTO TEMP t")
        for name in names:
            notifier.query("NOTIFY {}, '{}'".format(*name.decode().split(":")))
        client.silent(0.1)
        locker.query("ROLLBACK")
        got: list[Message] = []
        while len(heard(got)) < len(names):
            got.append(client.recv())
        assert heard(got) == names


@pytest.mark.workers(1)
def test_unlisten_in_a_transaction_behind_a_commit(
    make_pooler: Callable[..., Pooler], cluster: Cluster, database: str
) -> None:
    """However late the listening connection tells of what was committed before."""
    pooler = make_pooler()
    with raw(pooler, database) as client, direct(cluster, database) as notifier:
        client.query("LISTEN a")
        client.query("SELECT 1")
        ((_user, pid),) = listening_session(cluster, database)
        os.kill(pid, signal.SIGSTOP)
        try:
            notifier.query("NOTIFY a, '1'")
            client.send(query("BEGIN"), query("UNLISTEN a"), query("COMMIT"), query("SELECT 1"))
            client.silent(0.2)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert heard(client.until(count=4) + client.query("SELECT 1")) == [b"a:1"]
        notifier.query("NOTIFY a, '2'")
        assert heard(client.query("SELECT 1")) == []


def test_clients_of_other_encodings(pooler: Pooler, cluster: Cluster, database: str) -> None:
    """Each gets payloads in its own, in order."""
    with (
        raw(pooler, database) as utf8,
        Wire.login((pooler.host, pooler.port), database=database, client_encoding="LATIN1") as latin1,
        Wire.login((pooler.host, pooler.port), database=database, client_encoding="SQL_ASCII") as no_encoding,
        direct(cluster, database) as notifier,
    ):
        for wire in (utf8, latin1, no_encoding):
            wire.query("LISTEN k")
            wire.query("SELECT 1")
        notifier.query("NOTIFY k, '1'; NOTIFY k, 'é'; NOTIFY k, '€'; NOTIFY k, '2'")
        for wire in (utf8, no_encoding):
            got = [wire.recv() for _ in range(4)]
            assert heard(got) == [text.encode() for text in ("k:1", "k:é", "k:€", "k:2")]
        got = [latin1.recv() for _ in range(4)]
        assert types(got) == "AANA"
        assert heard(got) == [b"k:1", b"k:\xe9", b"k:2"]
        assert got[2].sqlstate == "22P05"
        # Its own come before ReadyForQuery.
        assert heard(ask(latin1, b"NOTIFY k, '\xfc'")) == [b"k:\xfc"]
        utf8.query("SELECT 1")
        # What PostgreSQL refuses harms nobody else.
        assert types(ask(utf8, b'LISTEN "k\xe9"')) == "EZ"
        assert types(utf8.query("LISTEN ok; NOTIFY ok")) == "CCAZ"


def test_payloads_as_long_as_can_be(pooler: Pooler, database: str) -> None:
    with raw(pooler, database) as client:
        client.query("LISTEN a; SELECT 1")
        for size in (7998, 7999):
            payload = "x" * size
            assert heard(client.query(f"NOTIFY a, '{payload}'")) == [f"a:{payload}".encode()]
        assert [m.sqlstate for m in client.query(f"NOTIFY a, '{'x' * 8000}'") if m.type == "E"] == ["22023"]


def test_a_client_that_does_not_read(pooler: Pooler, cluster: Cluster, database: str) -> None:
    """It is closed when it has left too much unread; the others get everything."""
    with raw(pooler, database) as lazy, raw(pooler, database) as busy, direct(cluster, database) as notifier:
        for wire in (lazy, busy):
            wire.query("LISTEN a")
            wire.query("SELECT 1")
        for _ in range(8):
            notifier.query("SELECT pg_notify('a', g || repeat('x', 7900)) FROM generate_series(1, 500) g")
            for _number in range(500):
                assert busy.recv().type == "A"
        eventually(lambda: len(pooler.show("CLIENTS", database=database)) == 1)
        assert heard(busy.query("NOTIFY a")) == [b"a:"]


def sender(message: Message) -> int:
    """The process id in a notification."""
    return int.from_bytes(message.body[:4], "big", signed=True)


def extended(*texts: str) -> bytes:
    return b"".join(parse(text) + bind() + execute() for text in texts) + sync()


# What clients that share one server send, and whether a notification comes of it.
NOTIFYING: dict[str, tuple[list[bytes], int]] = {
    "a Query": ([query("NOTIFY a")], 1),
    "a function": ([query("SELECT pg_notify('a', '')")], 1),
    "a batch": ([extended("NOTIFY a")], 1),
    "in a batch": ([extended("SELECT 1", "NOTIFY a", "SELECT 1")], 1),
    "a transaction": ([query("BEGIN"), query("SELECT 1"), query("NOTIFY a"), query("COMMIT")], 1),
    "one text": ([query("BEGIN; NOTIFY a; COMMIT")], 1),
    "rolled back": ([query("BEGIN"), query("NOTIFY a"), query("ROLLBACK")], 0),
    "after an error": (
        [query("BEGIN"), query("SELEC"), query("NOTIFY a"), query("COMMIT"), extended("NOTIFY a")],
        1,
    ),
    "a failed batch": ([extended("NOTIFY a", "SELECT 1/0"), extended("NOTIFY a")], 1),
    "savepoints": (
        [
            query(text)
            for text in ("BEGIN", "SAVEPOINT s", "NOTIFY a, '1'", "ROLLBACK TO s", "NOTIFY a, '2'", "COMMIT")
        ],
        1,
    ),
    "a batch in a transaction": ([query("BEGIN"), extended("NOTIFY a"), extended("COMMIT")], 1),
}


def test_the_process_id_is_the_one_that_the_sender_knows(
    make_pooler: Callable[..., Pooler], cluster: Cluster, database: str, workers: int
) -> None:
    """Whoever had its server before, in whichever worker it is."""
    pooler = make_pooler(workers=workers, settings={"default_pool_size": workers})
    with ExitStack() as stack:
        clients = [stack.enter_context(raw(pooler, database)) for _ in range(4)]
        notifier = stack.enter_context(direct(cluster, database))
        for wire in clients[:2]:
            wire.query("LISTEN a")
            wire.query("SELECT 1")
        for name, (sent, count) in NOTIFYING.items():
            for client in clients:
                turns = sum(part.count(b"S\0\0\0\4") or 1 for part in sent)
                client.send(*sent)
                answer = client.until(count=turns)
                assert heard(answer) == [] or client in clients[:2], name
                for listener in clients[:2]:
                    got = [m for m in answer if m.type == "A"] if listener is client else []
                    while len(got) < count:
                        got.append(listener.recv())
                    assert [sender(m) for m in got] == [client.pid] * count, name
        notifier.query("NOTIFY a")
        for listener in clients[:2]:
            assert sender(listener.recv()) == notifier.pid
        for listener in clients[:2]:
            assert heard(listener.query("SELECT 1")) == []


def test_the_process_id_in_session_mode(make_pooler: Callable[..., Pooler], database: str) -> None:
    pooler = make_pooler(settings={"pool_mode": "session"})
    with raw(pooler, database) as client, raw(pooler, database) as other:
        client.query("LISTEN a")
        (own,) = [m for m in client.query("NOTIFY a") if m.type == "A"]
        assert sender(own) == client.pid
        other.query("NOTIFY a")
        assert sender(client.recv()) not in (client.pid, 0)


def test_what_is_staged_stays_while_the_listening_connection_is_asked(
    make_pooler: Callable[..., Pooler], database: str
) -> None:
    """A statement of megabytes that is prepared anew, and a LISTEN behind it in one packet."""
    size = 2_000_000
    pooler = make_pooler(workers=1)
    with raw(pooler, database) as client, raw(pooler, database) as other:
        other.query("LISTEN a")
        client.send(parse(f"SELECT length('{'x' * size}')", "big"), parse("LISTEN b", "listen"), sync())
        client.until()
        pooler.admin("RECONNECT")  # the next server has neither
        while b"arrive again" not in other.recv().body:
            pass
        client.send(bind(statement="big"), execute(), bind(statement="listen"), execute(), sync())
        (row,) = [m.row for m in client.until() if m.type == "D"]
        assert row == [str(size).encode()]
        assert heard(other.query("NOTIFY a")) == [b"a:"]


@pytest.mark.workers(1)
def test_the_listening_connection_ends_while_it_is_waited_for(
    make_pooler: Callable[..., Pooler], cluster: Cluster, database: str
) -> None:
    """Who waits for it has its answer all the same, and hears again when there is another."""
    pooler = make_pooler()
    with raw(pooler, database) as client:
        client.query("LISTEN a")
        client.query("SELECT 1")
        ((_user, pid),) = listening_session(cluster, database)
        os.kill(pid, signal.SIGSTOP)
        client.send(query("NOTIFY a, '1'"))
        client.silent(0.1)
        cluster.sql(f"SELECT pg_terminate_backend({pid})")
        os.kill(pid, signal.SIGCONT)
        got = client.until()
        while not any(b"arrive again" in m.body for m in got):
            got.append(client.recv())
        assert heard(client.query("NOTIFY a, '2'")) == [b"a:2"]


def test_channels_in_other_encodings(pooler: Pooler, cluster: Cluster, database: str) -> None:
    """Each client names them in its own; PostgreSQL cuts them at 63 bytes of the database's."""
    long = "é" * 40
    with (
        raw(pooler, database) as utf8,
        Wire.login((pooler.host, pooler.port), database=database, client_encoding="LATIN1") as latin1,
        Wire.login((pooler.host, pooler.port), database=database, client_encoding="SQL_ASCII") as no_encoding,
        direct(cluster, database) as notifier,
    ):
        for wire, encoding in ((utf8, "utf8"), (latin1, "latin1"), (no_encoding, "utf8")):
            for name in ("ké", long):
                ask(wire, f'LISTEN "{name}"'.encode(encoding))
            wire.query("SELECT 1")
        notifier.query(f'NOTIFY "ké", \'é\'; NOTIFY "{long}"')
        for wire, encoding in ((utf8, "utf8"), (latin1, "latin1"), (no_encoding, "utf8")):
            got = heard([wire.recv(), wire.recv()])
            assert [text.decode(encoding) for text in got] == ["ké:é", f"{long[:31]}:"]
        assert heard(ask(latin1, b"NOTIFY \"k\xe9\", '\xfc'")) == [b"k\xe9:\xfc"]
        ask(latin1, b'UNLISTEN "k\xe9"')
        assert heard(ask(latin1, b'NOTIFY "k\xe9"')) == []


@pytest.mark.workers(1)
def test_the_listening_connection_answers_while_a_server_is_scrubbed_for_its_client(
    make_pooler: Callable[..., Pooler], cluster: Cluster, database: str
) -> None:
    """Bob's server is taken from him while he waits for that connection: its answer does not stand for PostgreSQL's
    to the DISCARD ALL that another one needs, and what was his comes behind that.
    """
    with AnswerProxy(("127.0.0.1", cluster.port)) as proxy, ExitStack() as stack:
        pooler = make_pooler(
            settings={"default_pool_size": 1, "server_tls_sslmode": "disable"},
            databases={"shared": f"host=127.0.0.1 port={proxy.port} dbname={database} user=postgres"},
            userlist={**SECRETS, "alice": "", "bob": ""},
        )

        def client(user: str) -> Wire:
            return stack.enter_context(Wire.login((pooler.host, pooler.port), user, "shared"))

        def waiting(count: int) -> None:
            eventually(lambda: pooler.show("POOLS", database="shared")[0]["cl_waiting"] == count)

        alice, other, bob = client("alice"), client("alice"), client("bob")
        bob.query("SET work_mem = '2MB'")
        alice.query("LISTEN a")
        alice.query("BEGIN")
        ((_user, pid),) = listening_session(cluster, database)
        os.kill(pid, signal.SIGSTOP)
        try:
            bob.send(query("LISTEN b"))
            waiting(1)
            other.send(query("BEGIN"))
            waiting(2)
            alice.query("COMMIT")  # bob's turn, who has to wait for that connection, and so the other one's
            other.until()
            proxy.hold(b"DISCARD ALL")
            other.query("COMMIT")
            proxy.held.wait(0.5)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert proxy.held.wait(10)
        bob.silent(0.2)
        proxy.release()
        assert types(bob.until()) == "CZ"
        for wire, memory in ((bob, b"2MB"), (alice, b"4MB"), (bob, b"2MB")):
            assert wire.rows("SHOW work_mem") == [[memory]]
        bob.query("NOTIFY a; NOTIFY b, '1'")
        assert heard([alice.recv()]) == [b"a:"]
