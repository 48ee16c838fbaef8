"""PgBouncer's published flaws and known bugs (COMPAT.md 5.1 and 5.5): pgferry has none of them.

tests/unit/test_flaws_are_tested.py names the test for each; here are those that have no better place.
"""

import struct
import threading
import time
from collections.abc import Callable

import pytest

from pgferry.embedded import Cluster
from support.clients import raw, refusal
from support.fake_server import GREETING, Conversation, FakeServer
from support.pooler import Pooler, eventually
from support.wire import Wire, message, parse, query, startup, sync, types

Make = Callable[..., Pooler]
SECRET = "correct horse"
BIG = 0x7FFFFFFF


def alive(pooler: Pooler, pids: list[int]) -> None:
    """It serves others, in the same processes."""
    with raw(pooler, secret=SECRET) as wire:
        assert types(wire.query("SELECT 1")) == "TDCZ"
    assert pooler.worker_pids == pids


# --- from clients


@pytest.mark.parametrize("size", [63, 64, 127, 128, 200, 5000, 9900])
def test_long_database_names(make_pooler: Make, size: int) -> None:
    """CVE-2012-4575: a long name met a fatal() in the wildcard."""
    pooler = make_pooler(databases={"*": "host=127.0.0.1 port=1"}, settings={"query_wait_timeout": 1})
    pids = pooler.worker_pids
    for user in ("postgres", "nobody"):
        with Wire((pooler.host, pooler.port)) as wire:
            wire.send(startup(user, "x" * size))
            assert wire.recv().type == "E"
    with pooler.console() as console:
        assert console.execute("SHOW VERSION").fetchone()
    assert pooler.worker_pids == pids


LENGTHS = (BIG, -1, -2, 1 << 16, 0x10000001, 25, 24, 0)


@pytest.mark.usefixtures("cluster")
def test_lengths_within_sasl_messages(make_pooler: Make) -> None:
    """CVE-2026-6664: lengths that wrap around or point behind the packet."""
    pooler = make_pooler(settings={"auth_type": "scram-sha-256"}, userlist={"postgres": SECRET})
    pids = pooler.worker_pids
    first = b"n,,n=,r=abcdefghijklmnop"
    for length in LENGTHS:
        if length == len(first):
            continue
        for rest in (first, b"", first * 20):
            if length == len(rest):
                continue
            with Wire((pooler.host, pooler.port)) as wire:
                wire.send(startup("postgres", "postgres"))
                assert wire.recv().type == "R"
                wire.send(message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", length) + rest))
                assert wire.recv().fields["S"] == "FATAL", (length, len(rest))
                assert wire.at_end()
    alive(pooler, pids)


@pytest.mark.usefixtures("cluster")
def test_huge_messages_of_a_client(make_pooler: Make) -> None:
    """CVE-2026-6668: a message of two gigabytes in a buffer that grew; here it is not held, and costs its own."""
    pooler = make_pooler(userlist={"postgres": SECRET, "admin": ""}, settings={"auth_type": "md5"})
    pids = pooler.worker_pids
    for kind in (b"Q", b"P", b"B", b"D", b"C", b"E", b"d", b"F"):
        with raw(pooler, secret=SECRET) as wire:
            wire.send(kind + struct.pack("!I", BIG) + b"x" * 100_000)
            alive(pooler, pids)
    for size in (0x80000000, 0xFFFFFFFF, 3):
        with raw(pooler, secret=SECRET) as wire:
            wire.send(b"Q" + struct.pack("!I", size) + b"x" * 1000)
            assert wire.recv().text.startswith("bad packet header")
    with raw(pooler, secret=SECRET) as wire:
        wire.send(parse("SELECT 1"), sync())
        assert types(wire.until()) == "1Z"
    alive(pooler, pids)


@pytest.mark.usefixtures("cluster")
def test_the_console_does_not_tell_who_is_an_admin(make_pooler: Make) -> None:
    """5.5, 13: a wrong name is asked for its password as a right one is."""
    pooler = make_pooler(
        settings={"auth_type": "scram-sha-256", "admin_users": "admin", "stats_users": "stats"},
        userlist={"postgres": SECRET, "admin": SECRET, "app": SECRET},
    )
    for user in ("admin", "stats", "app", "nobody"):
        assert refusal(pooler, "pgbouncer", user, secret="wrong") == "FATAL 08P01 SASL authentication failed"
    assert refusal(pooler, "pgbouncer", "app", secret=SECRET) == "FATAL 08P01 not allowed"
    assert refusal(pooler, "pgbouncer", "admin", secret=SECRET) == "logged in"


@pytest.mark.usefixtures("cluster")
def test_half_open_logins(make_pooler: Make, workers: int) -> None:
    """Strangers who only begin: at most max_client_conn and a hundred of them, the oldest has to go."""
    pooler = make_pooler(settings={"max_client_conn": 20})
    crowd = []
    for _ in range(300 * workers):
        wire = Wire((pooler.host, pooler.port))
        wire.send(startup("postgres", "postgres")[:7])
        crowd.append(wire)
    eventually(lambda: "no more connections allowed (max_client_conn)" in pooler.log())
    assert refusal(pooler) == "logged in"
    assert pooler.show("LISTS", list="login_clients")[0]["items"] <= 121 * workers
    with crowd[0] as wire:
        assert wire.recv().text == "no more connections allowed (max_client_conn)"
    for wire in crowd[1:]:
        wire.close()
    # Those who have said who they are count as clients, and give their places back.
    pooler.set({"auth_type": "md5"}, reload=False)
    pooler.reload()
    asked = []
    for _ in range(20):
        wire = Wire((pooler.host, pooler.port))
        wire.send(startup("postgres", "postgres"))
        assert wire.recv().type == "R"
        asked.append(wire)
    assert "max_client_conn" in refusal(pooler)
    for wire in asked:
        wire.close()
    eventually(lambda: "max_client_conn" not in refusal(pooler))


# --- from servers


def scram_server(server_first: bytes, answered: list[bytes]) -> Callable[[Conversation], None]:
    """A script: SCRAM with this challenge, {nonce} being the client's; what the client says to it is kept."""

    def script(to: Conversation) -> None:
        to.startup()
        to.send(message(b"R", struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0"))
        nonce = to.recv()[1].partition(b"r=")[2]
        to.send(message(b"R", struct.pack("!i", 11) + server_first.replace(b"{nonce}", nonce)))
        answered.append(to.recv()[1])
        to.send(GREETING)
        to.wait_for_end()

    return script


CHALLENGES = {
    "a long nonce": b"r={nonce}" + b"x" * 100_000 + b",s=MDEyMzQ1Njc4OWFiY2RlZg==,i=4096",
    "a long salt": b"r={nonce}x,s=" + b"MDEy" * 100_000 + b",i=4096",
    "many attributes": b"r={nonce}x,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=4096" + b",x=y" * 100_000,
    "a million iterations and one": b"r={nonce}x,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=1000001",
    "no iterations": b"r={nonce}x,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=0",
    "iterations beyond all numbers": b"r={nonce}x,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=" + b"9" * 5000,
}


def test_challenges_of_a_hostile_server(make_pooler: Make, cluster: Cluster) -> None:
    """CVE-2026-6665: a stack overflow in the answer. CVE-2026-6669: iterations without an end."""
    answered: list[bytes] = []
    with FakeServer(Conversation.login) as server:
        pooler = make_pooler(
            databases={
                "postgres": f"host=127.0.0.1 port={cluster.port}",
                "hostile": f"{server.line} password=x user=u",
            },
            settings={"server_login_retry": 0.05, "query_wait_timeout": 1},
        )
        pids = pooler.worker_pids
        for name, challenge in CHALLENGES.items():
            server.script = scram_server(challenge, answered)
            before = server.accepted
            said = refusal(pooler, "hostile")
            assert said.startswith(("FATAL 08P01 server login failed", "FATAL 08P01 query_wait_timeout")), (
                name
            )
            eventually(lambda before=before: server.accepted > before)  # type: ignore[misc]
            time.sleep(0.1)  # server_login_retry
        assert not any(answer.startswith(b"c=") for answer in answered), "a challenge was answered"
        alive(pooler, pids)


@pytest.mark.workers(1)
def test_a_million_iterations_hold_up_nobody(make_pooler: Make, cluster: Cluster) -> None:
    """CVE-2026-6669: the most that is allowed is computed in a thread."""
    answered: list[bytes] = []
    challenge = b"r={nonce}x,s=MDEyMzQ1Njc4OWFiY2RlZg==,i=1000000"
    with FakeServer(scram_server(challenge, answered)) as server:
        pooler = make_pooler(
            databases={
                "postgres": f"host=127.0.0.1 port={cluster.port}",
                "slow": f"{server.line} password=x user=u",
            }
        )
        with raw(pooler) as quick, Wire((pooler.host, pooler.port), 30) as slow:
            slow.send(startup("postgres", "slow"))
            asked = 0
            while not answered:
                assert types(quick.query("SELECT 1")) == "TDCZ"
                asked += 1
            assert asked > 20


@pytest.mark.workers(1)
def test_several_logins_at_a_time(make_pooler: Make) -> None:
    """5.5, 12: a cold pool opens up to four connections at once, not one after the other, and no more."""
    gate = threading.Event()

    def script(to: Conversation) -> None:
        to.startup()
        if server.accepted > 1:
            gate.wait(10)
        to.send(GREETING)
        to.wait_for_end()

    with FakeServer(script) as server:
        settings = {"default_pool_size": 20, "session_state": "ignore"}  # no connection to read the catalog
        pooler = make_pooler(databases={"fake": server.line}, settings=settings)
        wires = [raw(pooler, "fake") for _ in range(10)]
        for wire in wires:
            wire.send(query("SELECT 1"))
        eventually(lambda: server.accepted == 5)
        time.sleep(0.3)
        assert server.accepted == 5  # one that is logged in, and four
        assert pooler.show("POOLS", database="fake")[0]["sv_login"] == 4
        gate.set()
        eventually(lambda: server.accepted == 10)
        for wire in wires:
            wire.close()


def test_values_that_differ_in_case_only(make_pooler: Make, cluster: Cluster, database: str) -> None:
    """5.5, 14: "Mixed" and mixed are two schemas; a value of 300 bytes is a value."""
    cluster.sql('CREATE SCHEMA mixed; CREATE SCHEMA "Mixed"', database)
    cluster.sql("CREATE TABLE mixed.t AS SELECT 'small' AS a", database)
    cluster.sql("CREATE TABLE \"Mixed\".t AS SELECT 'capital' AS a", database)
    pooler = make_pooler(
        settings={"track_extra_parameters": "search_path", "default_pool_size": 1, "session_state": "ignore"}
    )
    if int(cluster.server.version.split(".")[0]) < 18:
        pytest.skip("PostgreSQL reports search_path since 18")
    small, capital = raw(pooler, database), raw(pooler, database)
    small.query("SET search_path = mixed")
    capital.query('SET search_path = "Mixed"')
    for _ in range(3):
        assert small.rows("SELECT a FROM t") == [[b"small"]]
        assert capital.rows("SELECT a FROM t") == [[b"capital"]]
    long = ", ".join(f"schema_number_{n}" for n in range(30)) + ", mixed"
    small.query(f"SET search_path = {long}")
    assert capital.rows("SELECT a FROM t") == [[b"capital"]]
    assert small.rows("SHOW search_path") == [[long.encode()]]


def test_stats_period_counts_after_reload(make_pooler: Make) -> None:
    """5.5, 10: the next period is as long as it says, without a restart."""
    pooler = make_pooler(settings={"stats_period": 3600, "log_stats": 1})
    pooler.set({"stats_period": 1})
    pooler.wait_log("LOG stats: ", timeout=5)


def test_a_changed_password_of_an_entry(make_pooler: Make, own_cluster: Cluster) -> None:
    """5.5, 15: the next connection uses the new password; the ones that are in stay, until RECONNECT."""
    own_cluster.sql("CREATE ROLE entry LOGIN PASSWORD 'one'")
    hba = own_cluster.sql("SHOW hba_file")[0][0]
    assert hba
    with open(str(hba), "w") as file:
        file.write("local all all trust\nhost all all all scram-sha-256\n")
    own_cluster.sql("SELECT pg_reload_conf()")
    line = f"host=127.0.0.1 port={own_cluster.port} dbname=postgres user=entry password="
    pooler = make_pooler(
        own_cluster, databases={"postgres": f"{line}one"}, settings={"server_login_retry": 0.1}
    )
    with raw(pooler) as wire:
        before = wire.rows("SELECT pg_backend_pid()")
        own_cluster.sql("ALTER ROLE entry PASSWORD 'two'")
        pooler.set(databases={"postgres": f"{line}two"})
        assert wire.rows("SELECT pg_backend_pid()") == before
        pooler.admin("RECONNECT")
        assert wire.rows("SELECT pg_backend_pid()") != before
