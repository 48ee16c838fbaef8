"""Where a URL of the command line leads."""

from pathlib import Path

import pytest

from pgferry.client import BadTarget
from pgferry.client.target import parse, parse_console


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HOST", "PORT", "USER", "DATABASE", "PASSWORD", "SSLMODE", "SSLROOTCERT", "CONNECT_TIMEOUT"):
        monkeypatch.delenv(f"PG{name}", raising=False)
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "pgpass"))


def test_everything() -> None:
    target = parse("postgresql://m%40e:p%2Fw@[::1]:5433/a%20b?sslmode=verify-full&connect_timeout=3")
    assert (target.host, target.port, target.user, target.database) == ("::1", 5433, "m@e", "a b")
    assert (target.password, target.sslmode, target.timeout) == ("p/w", "verify-full", 3.0)
    assert target.is_local
    assert "p/w" not in f"{target} {target!r}"


def test_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGUSER", "env")
    monkeypatch.setenv("PGPASSWORD", "secret")
    target = parse("postgresql://db.example")
    assert (target.port, target.user, target.database, target.password) == (5432, "env", "env", "secret")
    assert not target.is_local
    assert parse("postgresql:///x?host=/run/pg").address == "/run/pg/.s.PGSQL.5432"


def test_the_console() -> None:
    assert parse_console("postgresql://me@h:6432").database == "pgbouncer"
    assert parse_console("postgresql://me@h:6432/shop").database == "pgbouncer"
    assert parse_console("postgresql://me@h:6432/pgferry").database == "pgferry"


def test_the_password_file(tmp_path: Path) -> None:
    path = tmp_path / "pgpass"
    path.write_text("# c\nother:*:*:*:no\nh:5432:*:me:a\\:b\\\\c\n")
    path.chmod(0o600)
    assert parse("postgresql://me@h/x").password == "a:b\\c"
    assert parse("postgresql://you@h/x").password is None
    path.chmod(0o644)  # others can read it: as libpq, it does not count
    assert parse("postgresql://me@h/x").password is None


@pytest.mark.parametrize(
    "url",
    ["mysql://h", "h", "postgresql://h:99999/", "postgresql://a:s3cret#x@h/", "postgresql://h/?sslmode=maybe",
     "postgresql://h/?pass=s3cret", "postgresql://h/?connect_timeout=s3cret"],
)  # fmt: skip
def test_wrong_urls(url: str) -> None:
    with pytest.raises(BadTarget) as caught:
        parse(url)
    assert "s3cret" not in str(caught.value)
