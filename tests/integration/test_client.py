"""The client of the command line's tools: every kind of login, with TLS and without."""

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pgferry.client import Connection, ConnectionFailed, QueryError, Target
from pgferry.embedded import Cluster
from support import cluster as clusters

pytestmark = pytest.mark.pg(18)
HBA = (
    "local all all trust",
    "hostssl all only_tls all scram-sha-256",
    "host all only_tls all reject",
    "host all with_md5 all md5",
    "host all with_clear all password",
    "host all all all scram-sha-256",
)
USERS = ("with_scram", "with_md5", "with_clear", "only_tls")


def certificate(folder: Path) -> tuple[str, str]:
    """A certificate for localhost that signs itself, and its key, as text."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext",
         "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    return (folder / "cert.pem").read_text(), (folder / "key.pem").read_text()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def server(certificates: Path) -> Iterator[Cluster]:
    cert, key = certificate(certificates)
    cluster = Cluster(server=clusters.server(18), hba=HBA)
    cluster.account.write(cluster.data_dir / "server.crt", cert)
    cluster.account.write(cluster.data_dir / "server.key", key)
    cluster.start()
    cluster.sql("ALTER SYSTEM SET ssl = on")
    cluster.restart()
    for user in USERS:
        kind = "md5" if user == "with_md5" else "scram-sha-256"
        cluster.sql(f"SET password_encryption = '{kind}'; CREATE ROLE {user} LOGIN PASSWORD 'pässword'")
    yield cluster
    cluster.close()


@pytest.fixture
def target(server: Cluster) -> Target:
    return Target("localhost", server.port, "with_scram", "postgres", "pässword")


@pytest.mark.parametrize("user", USERS)
def test_logins(target: Target, user: str) -> None:
    with Connection(replace(target, user=user)) as connection:
        assert connection.tls
        assert connection.value("SELECT current_user") == user
        assert connection.pid == int(connection.value("SELECT pg_backend_pid()"))
        assert connection.greeting["server_encoding"] == "UTF8"
        with pytest.raises(QueryError, match="42P01"):
            connection.query("SELECT * FROM nowhere")
        assert connection.rows("SELECT 1 AS a, NULL AS b") == [{"a": "1", "b": None}]


@pytest.mark.parametrize("user", ["with_scram", "with_md5", "with_clear"])
def test_wrong_and_missing_passwords(target: Target, user: str) -> None:
    with pytest.raises(ConnectionFailed, match=f"{user}@.*password authentication failed") as caught:
        Connection(replace(target, user=user, password="wr0ng"))
    assert caught.value.reason == f'password authentication failed for user "{user}"'
    with pytest.raises(ConnectionFailed, match="PGPASSWORD"):
        Connection(replace(target, user=user, password=None))


def test_sslmodes(target: Target, server: Cluster, certificates: Path, tmp_path: Path) -> None:
    for mode, tls in (("disable", False), ("allow", False), ("prefer", True), ("require", True)):
        with Connection(replace(target, sslmode=mode)) as connection:
            assert connection.tls is tls
    with pytest.raises(ConnectionFailed, match="only_tls"):
        Connection(replace(target, user="only_tls", sslmode="disable"))
    known = replace(target, sslrootcert=str(certificates / "cert.pem"))
    assert Connection(replace(known, sslmode="verify-full")).tls
    with pytest.raises(ConnectionFailed, match=r"127\.0\.0\.1"):  # the certificate is localhost's
        Connection(replace(known, sslmode="verify-full", host="127.0.0.1"))
    assert Connection(replace(known, sslmode="verify-ca", host="127.0.0.1")).tls
    certificate(tmp_path)
    with pytest.raises(ConnectionFailed, match="verify failed"):
        Connection(replace(target, sslmode="verify-full", sslrootcert=str(tmp_path / "cert.pem")))
    with Connection(replace(target, host=str(server.socket_dir), user="postgres")) as connection:
        assert not connection.tls


def test_a_server_without_tls(cluster: Cluster) -> None:
    plain = Target("127.0.0.1", cluster.port, "postgres", "postgres")
    with Connection(plain) as connection:
        assert not connection.tls
    with pytest.raises(ConnectionFailed, match="offers no TLS"):
        Connection(replace(plain, sslmode="require"))
