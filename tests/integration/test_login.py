"""Logins of clients and to servers: every method with every kind of secret, and what failure looks like."""

import threading
import time
from collections.abc import Callable, Iterator
from signal import SIGHUP
from typing import Any

import psycopg
import pytest

from pgferry.auth.md5 import md5_secret
from pgferry.auth.scram import make_verifier
from pgferry.embedded import Cluster
from support import cluster as clusters
from support.clients import raw, refusal, worker_of
from support.pooler import Pooler, eventually
from support.wire import Message, Wire, message, password, query, startup, types

Make = Callable[..., Pooler]
SECRET = "correct horse"
METHODS = ("plain", "md5", "scram")
HBA = [
    "local all all trust",
    "host all plain_in 127.0.0.1/32 password",
    "host all md5_in 127.0.0.1/32 md5",
    "host all scram_in 127.0.0.1/32 scram-sha-256",
    "host all all all trust",
]


def verifier_text(secret: str, iterations: int = 4096, salt: bytes = b"0123456789abcdef") -> str:
    return str(make_verifier(secret, salt, iterations))


def scram_text(cluster: Cluster, role: str) -> str:
    """The verifier that PostgreSQL itself has stored."""
    rows = cluster.sql(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{role}'")
    return str(rows[0][0])


@pytest.fixture
def trusting(make_pooler: Make) -> Callable[..., Pooler]:
    """A pooler in front of a server that trusts, with a user for each kind of secret."""

    def make(auth_type: str, **settings: Any) -> Pooler:
        return make_pooler(
            settings={"auth_type": auth_type, **settings},
            userlist={
                "postgres": "",
                "admin": SECRET,
                "plain": SECRET,
                "md5": md5_secret(SECRET, "md5"),
                "scram": verifier_text(SECRET),
                "empty": "",
            },
        )

    return make


@pytest.fixture
def roles(cluster: Cluster) -> None:
    for role in (*METHODS, "empty"):
        cluster.sql(
            f"DO $$ BEGIN CREATE ROLE {role} LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )


WRONG = {
    "plain": "FATAL 08P01 password authentication failed",
    "md5": "FATAL 08P01 password authentication failed",
    "scram-sha-256": "FATAL 08P01 SASL authentication failed",
}
# COMPAT 2.4, left half: does a right password open?
OPENS = {
    ("plain", "plain"): True,
    ("plain", "md5"): True,
    ("plain", "scram"): True,
    ("md5", "plain"): True,
    ("md5", "md5"): True,
    ("md5", "scram"): True,
    ("scram-sha-256", "plain"): True,
    ("scram-sha-256", "md5"): False,
    ("scram-sha-256", "scram"): True,
}
ASKED = {"plain": b"\0\0\0\x03", "md5": b"\0\0\0\x05", "scram-sha-256": b"\0\0\0\x0aSCRAM-SHA-256\0\0"}


@pytest.mark.usefixtures("roles")
@pytest.mark.parametrize("auth_type", ["plain", "md5", "scram-sha-256"])
def test_secrets_towards_clients(trusting: Callable[..., Pooler], auth_type: str) -> None:
    pooler = trusting(auth_type, log_connections=0)
    for user in METHODS:
        switched = auth_type == "md5" and user == "scram"
        wrong = WRONG["scram-sha-256" if switched else auth_type]
        opens = OPENS[auth_type, user]
        assert refusal(pooler, user=user, secret=SECRET) == ("logged in" if opens else wrong), user
        assert refusal(pooler, user=user, secret="wrong") == wrong, user
    with raw(pooler, user="plain", secret=SECRET) as wire:
        assert wire.rows("SELECT current_user") == [[b"plain"]]
    # Unknown users and users without a secret are not told apart from a wrong password.
    for user in ("nobody", "empty"):
        assert refusal(pooler, user=user, secret="wrong") == WRONG[auth_type]
        with Wire((pooler.host, pooler.port)) as wire:
            wire.send(startup(user, "postgres"))
            asked = wire.recv()
            assert asked.type == "R"
            assert asked.body.startswith(ASKED[auth_type])
    if auth_type == "plain":
        assert refusal(pooler, user="plain", secret="") == "FATAL 08P01 empty password returned by client"
        assert psycopg.connect(pooler.conninfo(user="scram", password=SECRET)).close() is None
    # A missing database is a secret of those who may log in.
    missing = refusal(pooler, "missing", "plain", secret=SECRET)
    assert "missing" in missing
    assert refusal(pooler, "missing", "plain", secret="wrong") == WRONG[auth_type]


def first_of_server(pooler: Pooler, user: str) -> tuple[bytes, bytes]:
    """Salt and iterations that a SCRAM exchange begins with."""
    with Wire((pooler.host, pooler.port)) as wire:
        wire.send(startup(user, "postgres"))
        assert wire.recv().body.startswith(ASKED["scram-sha-256"])
        first = b"n,,n=,r=abcdefghijklmnop"
        wire.send(message(b"p", b"SCRAM-SHA-256\0" + len(first).to_bytes(4, "big") + first))
        parts = wire.recv().body[4:].split(b",")
        assert parts[0].startswith(b"r=abcdefghijklmnop")
        return parts[1], parts[2]


def test_mock_exchange_is_stable(trusting: Callable[..., Pooler]) -> None:
    """Known and unknown users: a salt of their own, the same every time, whichever worker is asked."""
    pooler = trusting("scram-sha-256", scram_iterations=4100)
    for user in ("nobody", "somebody", "plain", "scram", "md5"):
        assert len({first_of_server(pooler, user) for _ in range(8)}) == 1, user
    assert first_of_server(pooler, "nobody") != first_of_server(pooler, "somebody")
    assert first_of_server(pooler, "nobody")[1] == first_of_server(pooler, "plain")[1] == b"i=4100"
    assert len(first_of_server(pooler, "nobody")[0]) == len(first_of_server(pooler, "plain")[0])


def sasl(wire: Wire, user: str, mechanism: bytes, first: bytes) -> Message:
    wire.send(startup(user, "postgres"))
    wire.recv()
    wire.send(message(b"p", mechanism + b"\0" + len(first).to_bytes(4, "big") + first))
    return wire.recv()


@pytest.mark.parametrize(
    ("mechanism", "first", "text"),
    [
        (b"SCRAM-SHA-1", b"n,,n=,r=abc", "client selected an invalid SASL authentication mechanism"),
        (b"SCRAM-SHA-256", b"p=tls-unique,,n=,r=abcdefgh", "SASL authentication failed"),
        (b"SCRAM-SHA-256", b"n,a=other,n=,r=abcdefgh", "SASL authentication failed"),
        (b"SCRAM-SHA-256", b"rubbish", "SASL authentication failed"),
        (b"SCRAM-SHA-256", b"n,,m=ext,n=,r=abcdefgh", "SASL authentication failed"),
    ],
)
@pytest.mark.workers(1)
@pytest.mark.pg(18)
def test_broken_scram(pooler_scram: Pooler, mechanism: bytes, first: bytes, text: str) -> None:
    with Wire((pooler_scram.host, pooler_scram.port)) as wire:
        got = sasl(wire, "plain", mechanism, first)
        assert (got.type, got.fields.get("S"), got.text) == ("E", "FATAL", text)
        assert wire.at_end()


@pytest.fixture(scope="module")
def pooler_scram() -> Iterator[Pooler]:
    pooler = Pooler(
        settings={"auth_type": "scram-sha-256"},
        userlist={"plain": SECRET},
        databases={"postgres": "host=127.0.0.1 port=1"},
    )
    yield pooler.start()
    pooler.finish()


def test_final_message_without_nonce(pooler_scram: Pooler) -> None:
    for final in (
        b"",
        b"c=biws",
        b"c=biws,r=",
        b"c=biws,p=AAAA",
        b"c=biws,r=abc,p=AAAA",
        b",,,",
        b"x" * 60000,
    ):
        with Wire((pooler_scram.host, pooler_scram.port)) as wire:
            got = sasl(wire, "plain", b"SCRAM-SHA-256", b"n,,n=,r=abcdefghijklmnop")
            assert got.type == "R"
            wire.send(message(b"p", final))
            assert wire.recv().text == "SASL authentication failed"


def test_trust_and_any(make_pooler: Make, cluster: Cluster) -> None:
    server = f"host=127.0.0.1 port={cluster.port} dbname=postgres"
    pooler = make_pooler(databases={"postgres": server, "forced": f"{server} user=postgres"})
    assert refusal(pooler, user="nobody") == 'FATAL 08P01 "trust" authentication failed'
    assert refusal(pooler, "missing") == "FATAL 08P01 no such database: missing"
    pooler.admin("DISABLE forced")
    assert refusal(pooler, "forced") == 'FATAL 08P01 database "forced" is disabled'
    pooler.admin("ENABLE forced")
    pooler.set({"auth_type": "any", "admin_users": "admin"})
    with raw(pooler, "forced", "whoever") as wire:
        assert wire.rows("SELECT current_user") == [[b"postgres"]]
    for user in ("whoever", "postgres", "app"):  # users of auth_file have proved nothing either
        assert refusal(pooler, user=user) == "FATAL 08P01 bouncer config error"
    pooler.wait_log("auth_type=any requires forced user")
    with pooler.console("whoever") as console:
        assert console.execute("SHOW VERSION").fetchone()
        with pytest.raises(psycopg.Error, match="admin access needed"):
            console.execute("PAUSE")
    with pooler.console("admin") as console:
        console.execute("RECONNECT")


# --- towards servers


@pytest.fixture(scope="module")
def strict(pg_version: int) -> Iterator[Cluster]:
    """A server that asks each of its roles in another way."""
    server = clusters.new_cluster(pg_version, hba=HBA)
    server.sql(f"SET password_encryption = 'md5'; CREATE ROLE md5_in LOGIN PASSWORD '{SECRET}'")
    server.sql(f"SET password_encryption = 'scram-sha-256'; CREATE ROLE scram_in LOGIN PASSWORD '{SECRET}'")
    server.sql(f"CREATE ROLE plain_in LOGIN PASSWORD '{SECRET}'")
    yield server
    server.close()


# COMPAT 2.4, right half, by (secret, what the server asks): None = works, else the words of the failure
TO_SERVER = {
    ("plain", "plain_in"): None,
    ("plain", "md5_in"): None,
    ("plain", "scram_in"): None,
    ("md5", "plain_in"): "server login failed: wrong password type",
    ("md5", "md5_in"): None,
    ("md5", "scram_in"): "server login failed: wrong password type",
    ("scram", "plain_in"): "server login failed: wrong password type",
    ("scram", "md5_in"): "server login failed: wrong password type",
    ("scram", "scram_in"): "server login failed: wrong password type",
}


@pytest.mark.parametrize("kind", METHODS)
def test_secrets_towards_servers(strict: Cluster, make_pooler: Make, kind: str) -> None:
    """The client is trusted: so there are no keys of its own to pass on."""

    def secret(role: str) -> str:
        return {"plain": SECRET, "md5": md5_secret(SECRET, role), "scram": scram_text(strict, "scram_in")}[
            kind
        ]

    roles = ("plain_in", "md5_in", "scram_in")
    pooler = make_pooler(strict, userlist={"admin": "", **{role: secret(role) for role in roles}})
    for role in roles:
        expected = TO_SERVER[kind, role]
        said = refusal(pooler, user=role)
        assert said == ("logged in" if expected is None else f"FATAL 08P01 {expected}"), role


def test_pass_through(strict: Cluster, make_pooler: Make) -> None:
    """A SCRAM verifier equal to the server's own: the client's key opens the server, too."""
    server = f"host=127.0.0.1 port={strict.port} dbname=postgres"
    pooler = make_pooler(
        strict,
        settings={"auth_type": "scram-sha-256"},
        userlist={"admin": SECRET, "scram_in": scram_text(strict, "scram_in")},
        databases={"postgres": server, "forced": f"{server} user=scram_in"},
    )
    assert refusal(pooler, user="scram_in", secret="wrong") == WRONG["scram-sha-256"]
    with raw(pooler, user="scram_in", secret=SECRET) as wire:
        assert wire.rows("SELECT current_user") == [[b"scram_in"]]
    # Another verifier for the same password fits the client, not the server.
    pooler.set(userlist={"scram_in": verifier_text(SECRET)}, reload=False)
    pooler.signal(SIGHUP)
    pooler.wait_log("re-reading config")

    def refused() -> bool:
        return "password authentication failed" in refusal(pooler, user="scram_in", secret=SECRET)

    with psycopg.connect(
        pooler.conninfo("pgbouncer", "admin", password=SECRET),
        autocommit=True,
        cursor_factory=psycopg.ClientCursor,
    ) as console:
        console.execute("RECONNECT")
    eventually(refused)


def test_wrong_password_towards_the_server(strict: Cluster, make_pooler: Make) -> None:
    """The server's own words and SQLSTATE, for later clients at once until server_login_retry is over."""
    pooler = make_pooler(
        strict,
        userlist={"admin": "", "postgres": "", "md5_in": "wrong", "scram_in": "wrong", "plain_in": "wrong"},
        settings={"server_login_retry": 1},
    )
    for role in ("md5_in", "scram_in", "plain_in"):
        said = refusal(pooler, user=role)
        assert said.startswith("FATAL 28P01 password authentication failed for user"), said
        started = time.monotonic()
        assert "password authentication failed" in refusal(pooler, user=role)
        assert time.monotonic() - started < 1
    said = refusal(pooler, "no_such_database")
    assert said == 'FATAL 3D000 database "no_such_database" does not exist'
    pooler.set(userlist={"scram_in": SECRET})
    eventually(lambda: refusal(pooler, user="scram_in") == "logged in", 5)


def test_failing_login_of_a_warm_pool(strict: Cluster, make_pooler: Make) -> None:
    """Clients of a pool that worked before: the cached error, and recovery without anybody's help."""
    strict.sql("CREATE ROLE changing LOGIN")
    pooler = make_pooler(strict, userlist={"admin": "", "changing": ""}, settings={"server_login_retry": 0.5})
    wire, other = raw(pooler, user="changing"), raw(pooler, user="changing")
    assert types(wire.query("SELECT 1")) == "TDCZ"
    eventually(lambda: not pooler.show("POOLS", user="changing")[0]["sv_active"])  # else it goes on there
    strict.sql("ALTER ROLE changing NOLOGIN")
    pooler.admin("RECONNECT")
    wire.send(query("SELECT 1"))
    assert 'role "changing" is not permitted to log in' in wire.recv().text
    other.send(query("SELECT 1"))
    plain = 'role "changing" is not permitted to log in'
    cached = f"server login has been failing, cached error: {plain} (server_login_retry)"
    same_worker = worker_of(wire) == worker_of(other)  # another one finds out by itself
    assert other.recv().text == (cached if same_worker else plain)
    strict.sql("ALTER ROLE changing LOGIN")
    eventually(lambda: refusal(pooler, user="changing") == "logged in", 5)
    strict.sql("DROP ROLE changing")


# --- cost


def test_slow_cryptography_blocks_nobody(strict: Cluster, make_pooler: Make) -> None:
    """A query that comes behind many slow logins is answered before they are over."""
    users = [
        f"slow{n}" for n in range(4)
    ]  # with secrets that fit no password, which takes as long to find out
    secrets = {u: verifier_text(SECRET, 4096, u.encode()).replace("$4096:", "$1000000:") for u in users}
    pooler = make_pooler(
        strict,
        settings={"auth_type": "plain"},
        userlist={"admin": SECRET, "postgres": SECRET, **secrets},
        workers=1,
    )
    quick = raw(pooler, secret=SECRET)
    slow = [Wire((pooler.host, pooler.port), timeout=60) for _ in users]
    for wire, user in zip(slow, users, strict=True):
        wire.send(startup(user, "postgres"))
        wire.recv()
    for wire in slow:
        wire.send(password(SECRET))
    quick.query("SELECT 1")
    assert slow[-1].silent(0.001)
    assert slow[0].recv().type == "E"
    quick.query("SELECT 1")
    assert slow[-1].silent(0.001)


def test_unauthenticated_peers_cost_little(make_pooler: Make) -> None:
    """Sizes before the password are bounded, and so are the requests for encryption."""
    pooler = make_pooler(
        settings={"auth_type": "md5"},
        userlist={"plain": SECRET},
        databases={"postgres": "host=127.0.0.1 port=1"},
    )
    with Wire((pooler.host, pooler.port)) as wire:
        wire.send((0x7FFFFFFF).to_bytes(4, "big") + b"\0\3\0\0" + b"x" * 100)
        assert wire.recv().text.startswith("bad packet header: '7fffffff")
    with Wire((pooler.host, pooler.port)) as wire:
        wire.send(startup("plain", "postgres"))
        wire.recv()
        wire.send(b"p" + (0x7FFFFFFF).to_bytes(4, "big"))
        assert wire.recv().text.startswith("bad packet header: '707fffffff'")
    with Wire((pooler.host, pooler.port)) as wire:
        for _ in range(2):
            wire.send(b"\0\0\0\x08\x04\xd2\x16\x2f")
            assert wire.recv_bytes(1) == b"N"
        wire.send(b"\0\0\0\x08\x04\xd2\x16\x2f")
        assert wire.recv().text.startswith("bad packet header")
    crowd = []
    for _ in range(50):
        wire = Wire((pooler.host, pooler.port))
        wire.send(startup("plain", "postgres")[:20])
        crowd.append(wire)
    assert refusal(pooler, user="plain", secret="wrong") == WRONG["md5"]
    for wire in crowd:
        wire.close()


@pytest.mark.usefixtures("cluster")
def test_storm_of_logins(make_pooler: Make) -> None:
    """Many SCRAM logins at once with a plain secret: the verifier is made once, everybody gets in."""
    pooler = make_pooler(
        settings={"auth_type": "scram-sha-256", "scram_iterations": 200_000, "max_client_conn": 200},
        userlist={"postgres": SECRET},
    )
    done = []

    def login() -> None:
        with pooler.connect(password=SECRET, connect_timeout=60) as conn:
            done.append(conn.execute("SELECT 1").fetchone())

    threads = [threading.Thread(target=login) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [(1,)] * 8
