"""Notifications come whole, in order, in the client's encoding, whatever the listening connection meets."""

from collections.abc import Callable, Iterator

import pytest

from pgferry.embedded import Cluster
from support.pooler import SECRETS, Pooler
from support.wire import Wire


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
