"""TLS of clients: every sslmode, certificates, what comes before and instead of the handshake, big results."""

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pgferry.embedded import Cluster
from support.certificates import PemFiles, authority_pem, pair, revocations
from support.pooler import Pooler, eventually
from support.sanitizer import fits
from support.wire import GSS_CODE, SSL_CODE, Wire, cancel_request, message, query, special, startup

pytestmark = pytest.mark.usefixtures("cluster")

Make = Callable[..., Pooler]
SSL_REQUEST = special(SSL_CODE)
GSS_REQUEST = special(GSS_CODE)
MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
OTHER_CA = "somebody else"


@pytest.fixture
def tls(pem_files: PemFiles) -> dict[str, Any]:
    """Settings of a pooler with a certificate."""
    cert, key = pem_files.pair("server", pair())
    return {"client_tls_sslmode": "prefer", "client_tls_key_file": key, "client_tls_cert_file": cert}


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    path.write_bytes(authority_pem())
    return path


def client_files(directory: Path, name: str, **options: Any) -> dict[str, str]:
    """Keywords for psycopg: a client's certificate."""
    made = pair(f"{name}.test", common_name=name, **options)
    cert, key = directory / f"{name}.pem", directory / f"{name}-key.pem"
    cert.write_bytes(made.cert)
    key.write_bytes(made.key)
    key.chmod(0o600)
    return {"sslcert": str(cert), "sslkey": str(key)}


def secure(pooler: Pooler, *, direct: bool = False, **options: Any) -> ssl.SSLSocket:
    """A socket behind a handshake that checks nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    for name, value in options.items():
        if name == "alpn":
            context.set_alpn_protocols(value)
        else:
            setattr(context, name, value)
    sock = socket.create_connection((pooler.host, pooler.port), 10)
    if not direct:
        sock.sendall(SSL_REQUEST)
        assert sock.recv(1) == b"S"
    return context.wrap_socket(sock, server_hostname="localhost")


# --- modes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theirs", MODES)
@pytest.mark.parametrize("ours", ["disable", "prefer", "require"])
@pytest.mark.workers(1)
@pytest.mark.pg(18)
def test_each_sslmode_of_a_client(
    make_pooler: Make, tls: dict[str, Any], roots: Path, ours: str, theirs: str
) -> None:
    pooler = make_pooler(settings={**tls, "client_tls_sslmode": ours})
    encrypted = ours != "disable" and theirs not in ("disable", "allow")
    keywords = (
        {"sslmode": theirs, "sslrootcert": str(roots)} if theirs.startswith("verify") else {"sslmode": theirs}
    )
    if ours == "require" and theirs == "allow":
        encrypted = True  # libpq tries again with TLS
    if (ours == "disable" and theirs in ("require", "verify-ca", "verify-full")) or (
        ours == "require" and theirs == "disable"
    ):
        with pytest.raises(psycopg.OperationalError) as refused:
            pooler.connect(**keywords)
        text = str(refused.value)
        assert ("SSL required" if ours == "require" else "server does not support SSL") in text
        return
    with pooler.connect(**keywords) as db:
        assert bool(db.pgconn.ssl_in_use) is encrypted
        assert db.execute("SELECT 7").fetchall() == [(7,)]
        shown = [row["tls"] for row in pooler.show("CLIENTS", database="postgres")]
    assert shown == (["TLSv1.3/TLS_AES_256_GCM_SHA384"] if encrypted else [""])
    pooler.wait_log(
        "login attempt: db=postgres user=postgres tls="
        + ("TLSv1.3/TLS_AES_256_GCM_SHA384" if encrypted else "no")
        + " replication=no"
    )


@pytest.mark.pg(18)
def test_allow_is_prefer(make_pooler: Make, tls: dict[str, Any]) -> None:
    pooler = make_pooler(settings={**tls, "client_tls_sslmode": "allow"})
    for theirs, encrypted in (("disable", False), ("require", True)):
        with pooler.connect(sslmode=theirs) as db:
            assert bool(db.pgconn.ssl_in_use) is encrypted


@pytest.mark.workers(1)
def test_unix_sockets_are_plain_and_never_need_tls(make_pooler: Make, tls: dict[str, Any]) -> None:
    pooler = make_pooler(settings={**tls, "client_tls_sslmode": "require"})
    with pooler.connect(host=str(pooler.socket_dir), sslmode="prefer") as db:
        assert db.execute("SELECT 1").fetchall() == [(1,)]
    with Wire(str(pooler.socket_dir / f".s.PGSQL.{pooler.port}")) as wire:
        wire.send(SSL_REQUEST)
        assert wire.recv_bytes(1) == b"N"


@pytest.mark.workers(1)
def test_the_console_over_tls(make_pooler: Make, tls: dict[str, Any]) -> None:
    pooler = make_pooler(settings={**tls, "client_tls_sslmode": "require"})
    with psycopg.connect(
        pooler.conninfo("pgbouncer", "admin", sslmode="require"),
        autocommit=True,
        cursor_factory=psycopg.ClientCursor,
    ) as console:
        assert console.pgconn.ssl_in_use
        assert len(console.execute("SHOW CONFIG").fetchall()) > 100


# --- who trusts whom -----------------------------------------------------------------------------------------


@pytest.mark.workers(1)
@pytest.mark.pg(18)
def test_a_client_notices_a_wrong_server(make_pooler: Make, pem_files: PemFiles, roots: Path) -> None:
    faults = {
        "wrong-ca": (pair(ca=OTHER_CA), "verify-ca", "certificate verify failed"),
        "expired": (pair(expired=True), "verify-ca", "certificate has expired|certificate verify failed"),
        "other-host": (pair("elsewhere.test"), "verify-full", "does not match host name"),
    }
    for name, (made, mode, _) in faults.items():
        cert, key = pem_files.pair(name, made)
        pooler = make_pooler(
            settings={
                "client_tls_sslmode": "require",
                "client_tls_key_file": key,
                "client_tls_cert_file": cert,
            }
        )
        with pytest.raises(psycopg.OperationalError, match=faults[name][2]):
            pooler.connect(sslmode=mode, sslrootcert=str(roots), host="localhost", hostaddr="127.0.0.1")
        if mode == "verify-ca":
            pooler.wait_log("closing because: TLS handshake failed: .*alert")
        with pooler.connect(sslmode="require") as db:
            assert db.execute("SELECT 1").fetchall() == [(1,)]


@pytest.mark.parametrize("mode", ["require", "verify-ca", "verify-full"])
@pytest.mark.workers(1)
@pytest.mark.pg(18)
def test_certificates_of_clients(
    make_pooler: Make, tls: dict[str, Any], pem_files: PemFiles, tmp_path: Path, mode: str
) -> None:
    ca = pem_files.write("ca.pem", authority_pem())
    pooler = make_pooler(settings={**tls, "client_tls_sslmode": mode, "client_tls_ca_file": ca})
    with pooler.connect(sslmode="require", **client_files(tmp_path, "app")) as db:
        assert db.execute("SELECT 1").fetchall() == [(1,)]
    if mode == "require":
        pooler.connect(sslmode="require").close()
    else:
        with pytest.raises(psycopg.OperationalError, match="certificate required"):
            pooler.connect(sslmode="require")
        pooler.wait_log("TLS handshake failed: peer did not return a certificate")
    # One that is shown has to be good, whatever the mode.
    with pytest.raises(psycopg.OperationalError, match="unknown ca"):
        pooler.connect(sslmode="require", **client_files(tmp_path, "alien", ca=OTHER_CA))
    with pytest.raises(psycopg.OperationalError, match="expired"):
        pooler.connect(sslmode="require", **client_files(tmp_path, "old", expired=True))
    pooler.wait_log("TLS handshake failed: certificate has expired")


@pytest.mark.workers(1)
@pytest.mark.pg(18)
def test_revoked_certificates(
    make_pooler: Make, tls: dict[str, Any], pem_files: PemFiles, tmp_path: Path
) -> None:
    bad, good = pair("bad.test", common_name="bad"), pair("good.test", common_name="good")
    pooler = make_pooler(
        settings={
            **tls,
            "client_tls_sslmode": "verify-full",
            "client_tls_ca_file": pem_files.write("ca.pem", authority_pem()),
            "client_tls_crl_file": pem_files.write("crl.pem", revocations(bad)),
        }
    )
    for name, made in (("bad", bad), ("good", good)):
        (tmp_path / f"{name}.pem").write_bytes(made.cert)
        (tmp_path / f"{name}-key.pem").write_bytes(made.key)
        (tmp_path / f"{name}-key.pem").chmod(0o600)
        keywords = {"sslcert": str(tmp_path / f"{name}.pem"), "sslkey": str(tmp_path / f"{name}-key.pem")}
        if name == "good":
            pooler.connect(sslmode="require", **keywords).close()
        else:
            with pytest.raises(psycopg.OperationalError, match="revoked"):
                pooler.connect(sslmode="require", **keywords)


@pytest.mark.pg(18)
def test_login_by_certificate(
    make_pooler: Make, tls: dict[str, Any], pem_files: PemFiles, tmp_path: Path
) -> None:
    ca = pem_files.write("ca.pem", authority_pem())
    pooler = make_pooler(
        settings={**tls, "client_tls_sslmode": "verify-full", "client_tls_ca_file": ca, "auth_type": "cert"}
    )
    shown = client_files(tmp_path, "postgres")
    with pooler.connect(sslmode="require", **shown) as db:
        assert db.execute("SELECT 1").fetchall() == [(1,)]
    for user in ("app", "nobody", "Postgres"):
        with pytest.raises(psycopg.OperationalError, match="certificate authentication failed"):
            pooler.connect(user=user, sslmode="require", **shown)
    stranger = client_files(tmp_path, "stranger")
    with pytest.raises(psycopg.OperationalError, match="certificate authentication failed"):
        pooler.connect(user="stranger", sslmode="require", **stranger)


# --- before, and instead of, the handshake ---------------------------------------------------------------------


@pytest.mark.parametrize("request_packet", [SSL_REQUEST, GSS_REQUEST], ids=["ssl", "gss"])
@pytest.mark.workers(1)
def test_bytes_in_front_of_the_handshake_are_refused(
    make_pooler: Make, tls: dict[str, Any], request_packet: bytes
) -> None:
    pooler = make_pooler(settings=tls)
    with Wire((pooler.host, pooler.port)) as wire:
        wire.send(request_packet + startup("postgres", "postgres"))
        got = wire.recv()
        kind = "SSL" if request_packet == SSL_REQUEST else "GSSAPI encryption"
        assert got.text == f"received unencrypted data after {kind} request"
        assert wire.at_end()


@pytest.mark.workers(1)
def test_plaintext_behind_the_answer_is_not_read(make_pooler: Make, tls: dict[str, Any]) -> None:
    pooler = make_pooler(settings=tls)
    with Wire((pooler.host, pooler.port)) as wire:
        wire.send(SSL_REQUEST)
        assert wire.recv_bytes(1) == b"S"
        wire.send(startup("postgres", "postgres") + query("SELECT 1"))
        assert b"R\0\0\0" not in wire.rest()
    pooler.wait_log("closing because: TLS handshake failed: ")
    assert "login attempt" not in pooler.log()


@pytest.mark.workers(1)
def test_a_second_request_within_tls_is_refused(make_pooler: Make, tls: dict[str, Any]) -> None:
    pooler = make_pooler(settings=tls)
    sock = secure(pooler)
    sock.sendall(SSL_REQUEST)
    assert sock.recv(1) == b"N"
    sock.close()


@pytest.mark.workers(1)
def test_handshakes_that_do_not_end(make_pooler: Make, tls: dict[str, Any]) -> None:
    pooler = make_pooler(settings={**tls, "client_login_timeout": 2})
    hello = client_hello()
    cases = {
        "nothing": b"",
        "first byte": hello[:1],
        "half a hello": hello[: len(hello) // 2],
        "a hello and no more": hello,
        "a record that never ends": b"\x16\x03\x01\x40\x00" + bytes(100),
    }
    socks = {}
    for name, data in cases.items():
        sock = socket.create_connection((pooler.host, pooler.port), 10)
        sock.sendall(SSL_REQUEST)
        assert sock.recv(1) == b"S"
        sock.sendall(data)
        socks[name] = sock
    start = time.monotonic()
    for name, sock in socks.items():
        sock.settimeout(10)
        while sock.recv(65536):
            pass
        assert time.monotonic() - start > 1, name
        sock.close()
    with pooler.connect(sslmode="require") as db:
        assert db.execute("SELECT 1").fetchall() == [(1,)]


@pytest.mark.workers(1)
def test_garbage_in_place_of_a_handshake(make_pooler: Make, tls: dict[str, Any]) -> None:
    pooler = make_pooler(settings=tls)
    hello = client_hello()
    for data in (
        b"\x16\x03\x01\x00\x05hello",
        b"GET / HTTP/1.0\r\n\r\n",
        bytes(70000),
        hello[:-40] + bytes(40) * 3,
    ):
        sock = socket.create_connection((pooler.host, pooler.port), 10)
        sock.sendall(SSL_REQUEST)
        assert sock.recv(1) == b"S"
        sock.sendall(data)
        with contextlib.suppress(OSError):  # closed already, perhaps
            sock.shutdown(socket.SHUT_WR)
        try:
            while sock.recv(65536):
                pass
        except ConnectionResetError:
            pass
        sock.close()
    eventually(lambda: pooler.log().count("closing because: TLS handshake") >= 4)
    with pooler.connect(sslmode="require") as db:
        assert db.execute("SELECT 1").fetchall() == [(1,)]


def client_hello(alpn: list[str] | None = None) -> bytes:
    """The first bytes of a client."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if alpn:
        context.set_alpn_protocols(alpn)
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out).do_handshake()
    return out.read()


# --- direct TLS ----------------------------------------------------------------------------------------------


@pytest.mark.workers(1)
def test_direct_tls(make_pooler: Make, tls: dict[str, Any]) -> None:
    pooler = make_pooler(settings={**tls, "client_tls_sslmode": "require"})
    for alpn, protocol in (["postgresql"], "postgresql"), ([], None), (["h2", "postgresql"], "postgresql"):
        sock = secure(pooler, direct=True, alpn=alpn) if alpn else secure(pooler, direct=True)
        assert sock.selected_alpn_protocol() == protocol
        wire = Wire(sock)
        wire.send(startup("postgres", "postgres"))
        wire.until()
        assert wire.rows("SELECT 5") == [[b"5"]]
        wire.close()
    for direct in (True, False):
        with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
            secure(pooler, direct=direct, alpn=["http/1.1", "h2"])
    pooler.wait_log("TLS handshake failed: no application protocol in common")


@pytest.mark.workers(1)
def test_libpq_direct(make_pooler: Make, tls: dict[str, Any], roots: Path) -> None:
    if psycopg.pq.version() < 170000:
        pytest.skip("libpq before 17")
    pooler = make_pooler(settings=tls)
    with pooler.connect(sslmode="verify-full", sslrootcert=str(roots), sslnegotiation="direct") as db:
        assert db.execute("SELECT 1").fetchall() == [(1,)]


@pytest.mark.workers(1)
def test_direct_tls_where_there_is_none(make_pooler: Make) -> None:
    pooler = make_pooler()
    with Wire((pooler.host, pooler.port)) as wire:
        wire.send(client_hello())
        assert "bad packet header" in wire.recv().text


# --- bytes ---------------------------------------------------------------------------------------------------


@pytest.mark.pg(18)
def test_a_big_result_in_constant_memory(make_pooler: Make, tls: dict[str, Any]) -> None:
    pooler = make_pooler(settings=tls)
    with pooler.connect(sslmode="require") as db:
        db.execute("SELECT 1")
        before = sum(resident(pid) for pid in pooler.worker_pids)
        total, peak = 0, 0
        with (
            db.cursor() as cursor,
            cursor.copy("COPY (SELECT repeat('x', 99) FROM generate_series(1, 1000000)) TO STDOUT") as copy,
        ):
            for number, piece in enumerate(copy):
                total += len(piece)
                if number % 100000 == 0:
                    peak = max(peak, sum(resident(pid) for pid in pooler.worker_pids))
        assert total == 100_000_000
        assert fits(peak - before, 8_000_000), (before, peak)


@pytest.mark.pg(18)
@pytest.mark.workers(1)
def test_a_slow_reader_stops_its_server_only(make_pooler: Make, tls: dict[str, Any]) -> None:
    pooler = make_pooler(settings={**tls, "default_pool_size": 2})
    sock = secure(pooler)
    wire = Wire(sock)
    wire.send(startup("postgres", "postgres"))
    wire.until()
    before = resident(pooler.worker_pids[0])
    wire.send(query("SELECT repeat('y', 1000) FROM generate_series(1, 50000)"))
    time.sleep(0.5)
    with pooler.connect(sslmode="require") as db:
        for number in range(50):
            assert db.execute("SELECT %s::int", (number,)).fetchall() == [(number,)]
    assert fits(resident(pooler.worker_pids[0]) - before, 8_000_000)
    got = wire.until()
    assert sum(1 for each in got if each.type == "D") == 50000
    wire.close()


def resident(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * 4096


@pytest.mark.pg(18)
@pytest.mark.workers(1)
def test_pieces_of_any_size(make_pooler: Make, tls: dict[str, Any]) -> None:
    """One record for each byte, records across messages, messages across records."""
    pooler = make_pooler(settings={**tls, "max_prepared_statements": 10})
    for size in (1, 2, 7, 100, 16384, 100000):
        wire = Wire(secure(pooler))
        data = startup("postgres", "postgres")
        for at in range(0, len(data), size):
            wire.send(data[at : at + size])
        wire.until()
        text = "SELECT length('" + "z" * 30000 + "')" if size > 2 else "SELECT 30000"
        data = query(text) + query("SELECT 2")
        for at in range(0, len(data), size):
            wire.send(data[at : at + size])
        assert [m.row for m in wire.until() if m.type == "D"] == [[b"30000"]]
        assert [m.row for m in wire.until() if m.type == "D"] == [[b"2"]]
        wire.close()


def test_prepared_statements_and_copy(make_pooler: Make, tls: dict[str, Any], database: str) -> None:
    pooler = make_pooler(settings={**tls, "max_prepared_statements": 10})
    with pooler.connect(database, sslmode="require") as db:
        db.execute("CREATE TABLE t (a int, b text)")
        with db.cursor() as cursor, cursor.copy("COPY t FROM STDIN") as copy:
            for number in range(20000):
                copy.write(f"{number}\t{'b' * (number % 300)}\n")
        for number in range(0, 20000, 997):
            found = db.execute("SELECT length(b) FROM t WHERE a = %s", (number,), prepare=True).fetchall()
            assert found == [(number % 300,)]
        with db.pipeline():
            cursors = [db.execute("SELECT %s::int", (number,), prepare=True) for number in range(500)]
        assert [cursor.fetchone() for cursor in cursors] == [(number,) for number in range(500)]


# --- cancel --------------------------------------------------------------------------------------------------


def test_cancel_over_tls(make_pooler: Make, tls: dict[str, Any]) -> None:
    pooler = make_pooler(settings={**tls, "client_tls_sslmode": "require"})
    with pooler.connect(sslmode="require") as db:
        timer = threading.Timer(0.5, lambda: db.cancel_safe(timeout=10))
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            db.execute("SELECT pg_sleep(30)")
        timer.join()
        assert db.execute("SELECT 1").fetchall() == [(1,)]


def test_raw_cancel_over_tls(make_pooler: Make, tls: dict[str, Any]) -> None:
    pooler = make_pooler(settings={**tls, "client_tls_sslmode": "require"})
    wire = Wire(secure(pooler))
    wire.send(startup("postgres", "postgres"))
    greeting = wire.until()
    key = next(m.body for m in greeting if m.type == "K")
    wire.send(query("SELECT pg_sleep(30)"))
    eventually(lambda: pooler.show("POOLS", database="postgres")[0]["sv_active"] == 1)
    for direct in (True, False):
        other = secure(pooler, direct=direct)
        other.sendall(cancel_request(int.from_bytes(key[:4], "big"), key[4:]))
        assert other.recv(1) == b""
        got = wire.until()
        assert [m.sqlstate for m in got if m.type == "E"] == ["57014"]
        wire.send(query("SELECT pg_sleep(30)"))
        eventually(lambda: pooler.show("POOLS", database="postgres")[0]["sv_active"] == 1)
    wire.close()


# --- ends ----------------------------------------------------------------------------------------------------


@pytest.mark.workers(1)
def test_endings(make_pooler: Make, tls: dict[str, Any]) -> None:
    """close_notify, a bare FIN, a reset and a half-closed connection: the server goes back each time."""
    pooler = make_pooler(settings={**tls, "default_pool_size": 1})

    def client() -> tuple[ssl.SSLSocket, Wire]:
        sock = secure(pooler)
        wire = Wire(sock)
        wire.send(startup("postgres", "postgres"))
        wire.until()
        assert wire.rows("SELECT 1") == [[b"1"]]
        return sock, wire

    sock, wire = client()
    sock.unwrap()  # returns when our close_notify is answered
    sock, wire = client()
    sock.shutdown(socket.SHUT_RDWR)
    sock, wire = client()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    sock.close()
    sock, wire = client()
    wire.send(message(b"X"))
    assert sock.recv(1) == b""  # a close_notify, not a broken connection
    eventually(lambda: not pooler.show("CLIENTS", database="postgres"))
    with pooler.connect(sslmode="require") as db:
        assert db.execute("SELECT 1").fetchall() == [(1,)]
    assert pooler.show("SERVERS", database="postgres")


@pytest.mark.workers(1)
@pytest.mark.pg(18)
def test_server_death_is_told_over_tls(make_pooler: Make, tls: dict[str, Any], cluster: Cluster) -> None:
    pooler = make_pooler(settings=tls)
    with pooler.connect(sslmode="require") as db:
        pid = db.execute("SELECT pg_backend_pid()").fetchone()
        assert pid is not None
        threading.Timer(0.3, lambda: cluster.sql(f"SELECT pg_terminate_backend({pid[0]})")).start()
        with pytest.raises(psycopg.OperationalError, match=r"terminating connection|server conn crashed"):
            db.execute("SELECT pg_sleep(30)")


# --- reload --------------------------------------------------------------------------------------------------


def test_reload_of_certificates(
    make_pooler: Make, tls: dict[str, Any], pem_files: PemFiles, roots: Path
) -> None:
    pooler = make_pooler(settings=tls)
    old = pooler.connect(sslmode="verify-full", sslrootcert=str(roots))
    first = server_certificate(pooler)
    pem_files.pair("server", pair(rsa=True))
    assert server_certificate(pooler) == first
    pooler.reload()
    assert server_certificate(pooler) != first
    assert old.execute("SELECT 1").fetchall() == [(1,)]
    pooler.connect(sslmode="verify-full", sslrootcert=str(roots)).close()
    # What cannot be used changes nothing, and says so.
    second = server_certificate(pooler)
    pem_files.write("server.pem", b"rubbish")
    pooler.reload()
    pooler.wait_log("TLS configuration could not be reloaded, keeping old configuration")
    assert server_certificate(pooler) == second
    assert old.execute("SELECT 2").fetchall() == [(2,)]
    old.close()


def server_certificate(pooler: Pooler) -> bytes:
    with secure(pooler) as sock:
        found = sock.getpeercert(True)
    assert found
    return found


@pytest.mark.workers(1)
def test_set_of_tls_settings(make_pooler: Make, tls: dict[str, Any]) -> None:
    pooler = make_pooler(settings=tls)
    with pooler.console() as console:
        notices: list[str] = []
        console.add_notice_handler(lambda notice: notices.append(notice.message_primary or ""))
        console.execute("SET client_tls_protocols = 'tlsv1.2'")
        assert secure(pooler).version() == "TLSv1.2"
        console.execute("SET client_tls_ciphers = 'nonsense'")
        assert notices == ["TLS settings could not be applied, still using old configuration"]
        assert secure(pooler).version() == "TLSv1.2"
        console.execute("SET client_tls_sslmode = 'require'")
        with pytest.raises(psycopg.OperationalError, match="SSL required"):
            pooler.connect(sslmode="disable")


# --- protocols and ciphers -----------------------------------------------------------------------------------


@pytest.mark.workers(1)
def test_protocols_and_ciphers(make_pooler: Make, tls: dict[str, Any], pem_files: PemFiles) -> None:
    pooler = make_pooler(settings=tls)
    rsa_cert, rsa_key = pem_files.pair("rsa", pair(rsa=True))

    def negotiated(settings: dict[str, Any], **options: Any) -> tuple[str | None, str]:
        pooler.set({**dict.fromkeys(CHOICES), **settings})
        with secure(pooler, **options) as sock:
            cipher = sock.cipher()
            assert cipher
            return sock.version(), cipher[0]

    twelve = {"maximum_version": ssl.TLSVersion.TLSv1_2}
    assert negotiated({}) == ("TLSv1.3", "TLS_AES_256_GCM_SHA384")
    assert negotiated({"client_tls_protocols": "all:!tlsv1.3"})[0] == "TLSv1.2"
    assert negotiated({"client_tls_protocols": "tlsv1.3"})[0] == "TLSv1.3"
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        negotiated({"client_tls_protocols": "tlsv1.3"}, **twelve)
    chacha = "ECDHE-ECDSA-CHACHA20-POLY1305"
    assert negotiated({"client_tls_ciphers": chacha}, **twelve) == ("TLSv1.2", chacha)
    assert negotiated({"client_tls_ciphers": chacha})[0] == "TLSv1.3"
    one = "TLS_CHACHA20_POLY1305_SHA256"
    assert negotiated({"client_tls13_ciphers": one}) == ("TLSv1.3", one)
    assert negotiated({"client_tls_ecdhcurve": "secp384r1"})[0] == "TLSv1.3"
    rsa = {"client_tls_key_file": rsa_key, "client_tls_cert_file": rsa_cert, "client_tls_ecdhcurve": "none"}
    assert negotiated(rsa, **twelve)[1].startswith("DHE-RSA")
    try:
        assert negotiated({**rsa, "client_tls_dheparams": "none"}, **twelve)[1].startswith(
            "AES"
        )  # by RSA alone
    except ssl.SSLError as error:  # an OpenSSL that does not offer that
        assert re.search(r"(?i)handshake.failure", str(error))


CHOICES = (
    "client_tls_protocols",
    "client_tls_ciphers",
    "client_tls13_ciphers",
    "client_tls_ecdhcurve",
    "client_tls_dheparams",
)


# --- many ----------------------------------------------------------------------------------------------------


@pytest.mark.pg(18)
@pytest.mark.workers(1)
def test_many_idle_clients(make_pooler: Make, tls: dict[str, Any]) -> None:
    pooler = make_pooler(settings={**tls, "max_client_conn": 2000})
    before = resident(pooler.worker_pids[0])
    wires = []
    for _ in range(150):
        wire = Wire(secure(pooler))
        wire.send(startup("postgres", "postgres"))
        wire.until()
        wires.append(wire)
    each = (resident(pooler.worker_pids[0]) - before) / len(wires)
    print(f"memory of an idle client with TLS: {each:.0f} bytes")
    assert fits(each, 60_000)
    for wire in wires[::50]:
        assert wire.rows("SELECT 1") == [[b"1"]]
    for wire in wires:
        wire.close()
    eventually(lambda: not pooler.show("CLIENTS", database="postgres"))


@pytest.mark.pg(18)
@pytest.mark.workers(1)
def test_certificates_in_hba_rules(
    make_pooler: Make, tls: dict[str, Any], pem_files: PemFiles, tmp_path: Path
) -> None:
    """hostssl and hostnossl see what is; cert takes names as they are or through a map."""
    ident = pem_files.write("ident", b"people bob.test postgres\n")
    pooler = make_pooler(
        settings={
            **tls,
            "client_tls_ca_file": pem_files.write("ca.pem", authority_pem()),
            "auth_type": "hba",
            "auth_ident_file": ident,
        },
        hba="hostssl all postgres all cert map=people\n"
        "hostssl all stats all cert\n"
        "hostnossl all admin all trust\n"
        "hostssl all admin all reject\n",
    )
    bob, stats = client_files(tmp_path, "bob"), client_files(tmp_path, "stats")
    pooler.connect(sslmode="require", **bob).close()
    psycopg.connect(
        pooler.conninfo("pgbouncer", "stats", sslmode="require", **stats), autocommit=True
    ).close()
    for user, words, keywords in (
        ("postgres", "certificate authentication failed", {"sslmode": "require", **stats}),
        ("postgres", "certificate authentication failed", {"sslmode": "require"}),
        ("postgres", "no authentication method is found", {"sslmode": "disable"}),
        ("stats", "certificate authentication failed", {"sslmode": "require", **bob}),
        ("admin", "login rejected", {"sslmode": "require"}),
    ):
        with pytest.raises(psycopg.OperationalError, match=words):
            pooler.connect(user=user, **keywords)
