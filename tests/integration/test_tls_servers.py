"""TLS towards PostgreSQL: every sslmode, whom we believe, direct TLS, cancel, certificates, SCRAM-PLUS."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgferry.embedded import Cluster
from support import cluster as clusters
from support.certificates import PemFiles, authority_pem, pair, revocations
from support.fake_server import GREETING, Conversation, FakeServer, result
from support.pooler import Pooler, eventually

Make = Callable[..., Pooler]
MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
OTHER_CA = "somebody else"
SECRET = "correct horse"


@pytest.fixture(scope="module")
def server(pg_version: int) -> Iterator[Cluster]:
    """A PostgreSQL with TLS, to which plain connections over TCP are refused except for user app."""
    cluster = clusters.new_cluster(pg_version)
    made = pair()
    for name, content in (("server.pem", made.cert), ("key.pem", made.key), ("ca.pem", authority_pem())):
        cluster.account.write(cluster.directory / name, content.decode())
    directory = cluster.directory
    cluster.configure(
        ssl="on",
        ssl_cert_file=str(directory / "server.pem"),
        ssl_key_file=str(directory / "key.pem"),
        ssl_ca_file=str(directory / "ca.pem"),
        password_encryption="scram-sha-256",
    )
    cluster.sql("CREATE ROLE app LOGIN")
    cluster.sql("CREATE ROLE shown LOGIN")
    cluster.sql(f"CREATE ROLE secret LOGIN PASSWORD '{SECRET}'")
    cluster.set_hba(
        [
            "local all all trust",
            "host all app all trust",
            "hostssl all shown all cert",
            "hostssl all secret all scram-sha-256",
            "hostssl all all all trust",
        ]
    )
    yield cluster
    cluster.close()


def encrypted(pooler: Pooler, **more: Any) -> bool:
    """Whether PostgreSQL says that the server connection has TLS."""
    with pooler.connect(**more) as db:
        row = db.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
    assert row is not None
    return bool(row[0])


# --- modes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.workers(1)
def test_each_sslmode(make_pooler: Make, server: Cluster, pem_files: PemFiles, mode: str) -> None:
    ca = pem_files.write("ca.pem", authority_pem())
    pooler = make_pooler(server, settings={"server_tls_sslmode": mode, "server_tls_ca_file": ca})
    assert encrypted(pooler, user="app") is (mode != "disable")
    shown = [row["tls"] for row in pooler.show("SERVERS", database="postgres")]
    assert shown == ["" if mode == "disable" else "TLSv1.3/TLS_AES_256_GCM_SHA384"]
    if mode != "disable":
        pooler.wait_log("SSL established: TLSv1.3/TLS_AES_256_GCM_SHA384")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.workers(1)
def test_a_server_without_tls(make_pooler: Make, cluster: Cluster, mode: str) -> None:
    pooler = make_pooler(cluster, settings={"server_tls_sslmode": mode, "query_wait_timeout": 1})
    if mode in ("disable", "allow", "prefer"):
        with pooler.connect() as db:
            assert db.execute("SELECT 1").fetchall() == [(1,)]
        return
    with pytest.raises(psycopg.OperationalError, match="query_wait_timeout"):
        pooler.connect()
    pooler.wait_log("closing because: server refused SSL")


@pytest.mark.workers(1)
def test_unix_sockets_are_plain(make_pooler: Make, server: Cluster) -> None:
    pooler = make_pooler(
        databases={"*": f"host={server.socket_dir} port={server.port}"},
        settings={"server_tls_sslmode": "verify-full"},
    )
    assert encrypted(pooler) is False


@pytest.mark.workers(1)
def test_a_database_has_its_own_mode(make_pooler: Make, server: Cluster) -> None:
    pooler = make_pooler(
        server,
        settings={"server_tls_sslmode": "require"},
        databases={
            "plain": f"host=127.0.0.1 port={server.port} dbname=postgres sslmode=disable",
            "*": f"host=127.0.0.1 port={server.port}",
        },
    )
    assert encrypted(pooler, db="plain", user="app") is False
    assert encrypted(pooler, user="app") is True
    pooler.set(databases={"plain": f"host=127.0.0.1 port={server.port} dbname=postgres sslmode=require"})
    eventually(lambda: encrypted(pooler, db="plain", user="app"))


# --- whom we believe -----------------------------------------------------------------------------------------


@pytest.mark.workers(1)
def test_wrong_servers(make_pooler: Make, server: Cluster, pem_files: PemFiles) -> None:
    """A CA that we do not know, another name, and (with a CA of no use) the modes that do not look."""
    ours, other = (
        pem_files.write("ca.pem", authority_pem()),
        pem_files.write("other.pem", authority_pem(OTHER_CA)),
    )
    line = f"host=localhost port={server.port}"
    cases = (
        ("verify-ca", other, line, "certificate verify failed|self.signed certificate|unable to get"),
        ("verify-full", other, line, "certificate verify failed|self.signed certificate|unable to get"),
        ("verify-full", ours, line, ""),
        ("require", other, line, ""),
    )
    for mode, ca, entry, reason in cases:
        pooler = make_pooler(
            databases={"*": entry},
            settings={"server_tls_sslmode": mode, "server_tls_ca_file": ca, "query_wait_timeout": 1},
        )
        if not reason:
            assert encrypted(pooler, user="app")
            continue
        with pytest.raises(psycopg.OperationalError, match="query_wait_timeout"):
            pooler.connect(user="app")
        pooler.wait_log(f"closing because: TLS handshake failed: .*({reason})")


@pytest.mark.workers(1)
@pytest.mark.pg(18)
def test_wrong_certificates(make_pooler: Make, pem_files: PemFiles) -> None:
    """A host name that does not fit, an expired certificate, a revoked one."""
    revoked = pair()
    ca = pem_files.write("ca.pem", authority_pem())
    crl = pem_files.write("crl.pem", revocations(revoked))
    cases = (
        (pair("elsewhere.test"), "verify-full", {}, "mismatch"),
        (pair("elsewhere.test"), "verify-ca", {}, ""),
        (pair(expired=True), "verify-ca", {}, "expired"),
        (pair(expired=True), "require", {}, ""),
        (revoked, "verify-ca", {"server_tls_crl_file": crl}, "revoked"),
        (pair(), "verify-full", {"server_tls_crl_file": crl}, ""),
    )
    for made, mode, more, reason in cases:
        cert, key = pem_files.pair("fake", made)
        with FakeServer(lambda talk, cert=cert, key=key: tls_server(talk, cert, key)) as fake:
            pooler = make_pooler(
                databases={"*": fake.line},
                settings={
                    "server_tls_sslmode": mode,
                    "server_tls_ca_file": ca,
                    "query_wait_timeout": 1,
                    "session_state": "ignore",
                    **more,
                },
            )
            if reason:
                with pytest.raises(psycopg.OperationalError, match="query_wait_timeout"):
                    pooler.connect()
                pooler.wait_log(f"closing because: TLS handshake failed: .*{reason}")
            else:
                pooler.connect().close()
            pooler.stop()


def tls_server(talk: Conversation, cert: Path, key: Path, *, direct: bool = False) -> None:
    """A server that says S and logs everybody in."""
    if not direct:
        talk.wire.sock.recv(8)
        talk.send(b"S")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    if direct:
        context.set_alpn_protocols(["postgresql"])
    talk.wire.sock = context.wrap_socket(talk.wire.sock, server_side=True)
    talk.login()
    while True:
        kind, _ = talk.recv()
        if kind == b"Q":
            talk.send(result("x"))


# --- answers to SSLRequest -----------------------------------------------------------------------------------


@pytest.mark.workers(1)
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"S" + GREETING, "received unencrypted data after SSL response"),
        (b"N" + GREETING, "received unencrypted data after SSL response"),
        (b"E", "bad sslreq answer"),
        (b"", "server conn crashed"),
        (b"S", "(TLS handshake|received unencrypted data)"),
    ],
)
def test_bad_answers(make_pooler: Make, answer: bytes, reason: str) -> None:
    def script(talk: Conversation) -> None:
        talk.wire.sock.recv(8)
        talk.send(answer)
        if answer == b"S":
            talk.send(GREETING)
            talk.wait_for_end()

    with FakeServer(script) as fake:
        pooler = make_pooler(databases={"*": fake.line}, settings={"query_wait_timeout": 1})
        with pytest.raises(psycopg.OperationalError, match="query_wait_timeout"):
            pooler.connect()
        pooler.wait_log(f"closing because: {reason}")


@pytest.mark.workers(1)
def test_a_handshake_that_does_not_end(make_pooler: Make) -> None:
    def script(talk: Conversation) -> None:
        talk.wire.sock.recv(8)
        talk.send(b"S")
        talk.wait_for_end()

    with FakeServer(script) as fake:
        settings = {"query_wait_timeout": 4, "server_connect_timeout": 1}
        pooler = make_pooler(databases={"*": fake.line}, settings=settings)
        with pytest.raises(psycopg.OperationalError, match="query_wait_timeout"):
            pooler.connect()
        pooler.wait_log("closing because: connect timeout")


# --- direct TLS ----------------------------------------------------------------------------------------------


@pytest.mark.workers(1)
def test_direct_tls(make_pooler: Make, server: Cluster) -> None:
    settings = {
        "server_tls_sslmode": "require",
        "server_tls_sslnegotiation": "direct",
        "query_wait_timeout": 2,
        "server_login_retry": 0.2,
    }
    pooler = make_pooler(server, settings=settings)
    if server.version >= 17:
        assert encrypted(pooler, user="app")
        with pooler.connect(user="app") as db:
            timer = threading.Timer(0.5, db.cancel)
            timer.start()
            with pytest.raises(psycopg.errors.QueryCanceled):
                db.execute("SELECT pg_sleep(30)")
            timer.join()
        return
    with pytest.raises(psycopg.OperationalError, match="query_wait_timeout"):
        pooler.connect(user="app")
    pooler.set({"server_tls_sslnegotiation": "postgres"})
    assert encrypted(pooler, user="app")


# --- certificates and passwords ------------------------------------------------------------------------------


@pytest.mark.workers(1)
def test_login_with_our_certificate(make_pooler: Make, server: Cluster, pem_files: PemFiles) -> None:
    cert, key = pem_files.pair("shown", pair("shown.test", common_name="shown"))
    settings = {"server_tls_sslmode": "require", "server_tls_cert_file": cert, "server_tls_key_file": key}
    pooler = make_pooler(server, settings=settings, userlist={"shown": "", "admin": ""})
    assert encrypted(pooler, user="shown")
    other = make_pooler(
        server, settings={"server_tls_sslmode": "require"}, userlist={"shown": "", "admin": ""}
    )
    with pytest.raises(psycopg.OperationalError, match="certificate"):
        other.connect(user="shown")


@pytest.mark.workers(1)
def test_scram_is_bound_to_the_channel(make_pooler: Make, server: Cluster) -> None:
    """Towards PostgreSQL; a server in between with another certificate has no chance."""
    settings = {"server_tls_sslmode": "require", "auth_type": "trust"}
    pooler = make_pooler(server, settings=settings, userlist={"secret": SECRET, "admin": ""})
    assert encrypted(pooler, user="secret")

    with Interceptor(server) as between:
        entry = f"host=127.0.0.1 port={between.port}"
        pooler = make_pooler(
            databases={"*": entry},
            settings={**settings, "query_wait_timeout": 2},
            userlist={"secret": SECRET, "app": "", "admin": ""},
        )
        assert encrypted(pooler, user="app")
        with pytest.raises(psycopg.OperationalError, match="channel binding check failed"):
            pooler.connect(user="secret")


class Interceptor:
    """Speaks TLS to both sides, with a certificate of its own, and passes everything on."""

    def __init__(self, server: Cluster) -> None:
        self._server = server
        self._directory = server.directory
        made = pair(rsa=True)
        (self._directory / "mitm.pem").write_bytes(made.cert)
        (self._directory / "mitm-key.pem").write_bytes(made.key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ours.load_cert_chain(self._directory / "mitm.pem", self._directory / "mitm-key.pem")
        theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        theirs.check_hostname = False
        theirs.verify_mode = ssl.CERT_NONE
        request = sock.recv(8)
        sock.sendall(b"S")
        front = ours.wrap_socket(sock, server_side=True)
        plain = socket.create_connection(("127.0.0.1", self._server.port))
        plain.sendall(request)
        assert plain.recv(1) == b"S"
        back = theirs.wrap_socket(plain)
        threading.Thread(target=self._copy, args=(front, back), daemon=True).start()
        self._copy(back, front)

    def _copy(self, source: ssl.SSLSocket, target: ssl.SSLSocket) -> None:
        try:
            while data := source.recv(65536):
                target.sendall(data)
        except OSError:
            pass
        for sock in (source, target):
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def __enter__(self) -> "Interceptor":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()


@pytest.mark.parametrize("stored", ["plain", "verifier"])
@pytest.mark.parametrize("binding", ["disable", "prefer", "require"])
@pytest.mark.workers(1)
def test_scram_plus_through_and_through(
    make_pooler: Make, server: Cluster, pem_files: PemFiles, stored: str, binding: str
) -> None:
    """Clients bind their login to our certificate, we bind ours to PostgreSQL's, with the client's keys if need be."""
    for rsa in (True, False):
        cert, key = pem_files.pair("own", pair(rsa=rsa))
        rows = server.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'secret'")
        pooler = make_pooler(
            server,
            settings={
                "client_tls_sslmode": "require",
                "client_tls_key_file": key,
                "client_tls_cert_file": cert,
                "server_tls_sslmode": "require",
                "auth_type": "scram-sha-256",
            },
            userlist={"secret": SECRET if stored == "plain" else str(rows[0][0])},
        )
        with pooler.connect(user="secret", password=SECRET, sslmode="require", channel_binding=binding) as db:
            assert db.execute("SELECT 1").fetchall() == [(1,)]
        with pytest.raises(psycopg.OperationalError, match="SASL authentication failed"):
            pooler.connect(user="secret", password="wrong", sslmode="require", channel_binding=binding)


# --- use -----------------------------------------------------------------------------------------------------


@pytest.mark.workers(1)
def test_big_results_both_ways_and_copy(make_pooler: Make, server: Cluster, pem_files: PemFiles) -> None:
    cert, key = pem_files.pair("own", pair())
    pooler = make_pooler(
        server,
        settings={
            "client_tls_sslmode": "require",
            "client_tls_key_file": key,
            "client_tls_cert_file": cert,
            "server_tls_sslmode": "require",
        },
    )
    with pooler.connect(sslmode="require") as db:
        with db.cursor() as cursor:
            sql = "COPY (SELECT repeat('x', 99) FROM generate_series(1, 500000)) TO STDOUT"
            with cursor.copy(sql) as copy:
                assert sum(len(piece) for piece in copy) == 50_000_000
        db.execute("DROP TABLE IF EXISTS pieces")
        db.execute("CREATE TABLE pieces (a text)")
        with db.cursor() as cursor, cursor.copy("COPY pieces FROM STDIN") as copy:
            for number in range(20000):
                copy.write("y" * (number % 999) + "\n")
        row = db.execute("SELECT sum(length(a)) FROM pieces").fetchone()
        assert row == (sum(number % 999 for number in range(20000)),)
        assert db.execute("SELECT length(%s::text)", ("z" * 3_000_000,)).fetchone() == (3_000_000,)


def test_cancel(make_pooler: Make, server: Cluster) -> None:
    pooler = make_pooler(server, settings={"server_tls_sslmode": "require"})
    with pooler.connect(user="app") as db:
        timer = threading.Timer(0.5, db.cancel)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            db.execute("SELECT pg_sleep(30)")
        timer.join()
        assert db.execute("SELECT 1").fetchall() == [(1,)]
    pooler.wait_log("successfully sent cancel request")


@pytest.mark.workers(1)
def test_reload_replaces_servers_when_something_changed(
    make_pooler: Make, server: Cluster, pem_files: PemFiles
) -> None:
    ca = pem_files.write("ca.pem", authority_pem())
    settings = {"server_tls_sslmode": "verify-ca", "server_tls_ca_file": ca}
    pooler = make_pooler(server, settings=settings)

    def backend() -> int:
        with pooler.connect(user="app") as db:
            row = db.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        return int(row[0])

    first = backend()
    pooler.reload()
    assert backend() == first
    pem_files.write("ca.pem", authority_pem() + authority_pem(OTHER_CA))
    pooler.reload()
    second = backend()
    assert second != first
    pooler.wait_log("closing because: TLS configuration changed")
    with pooler.connect(user="app") as db:
        with db.transaction():
            row = db.execute("SELECT pg_backend_pid()").fetchone()
            pooler.set({"server_tls_sslmode": "require"})
            assert db.execute("SELECT pg_backend_pid()").fetchone() == row
        eventually(lambda: db.execute("SELECT pg_backend_pid()").fetchone() != row)


@pytest.mark.workers(1)
def test_a_server_that_closes_politely(make_pooler: Make, server: Cluster) -> None:
    pooler = make_pooler(server, settings={"server_tls_sslmode": "require"})
    with pooler.connect(user="app") as db:
        row = db.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        # A server that is still asked for session state would take the client along.
        eventually(lambda: pooler.show("SERVERS", remote_pid=row[0], state="idle"))
        server.sql(f"SELECT pg_terminate_backend({row[0]})")
        limit = time.monotonic() + 10
        while pooler.show("SERVERS", remote_pid=row[0]):
            assert time.monotonic() < limit
        assert db.execute("SELECT 1").fetchall() == [(1,)]
