"""Where to connect and as whom: a postgresql:// URL, with the environment and the password file as libpq has them."""

from __future__ import annotations

import getpass
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

Address = tuple[str, int] | str
"""Host and port, or the path of a unix socket."""

SSLMODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_QUERY = (
    "host",
    "port",
    "user",
    "password",
    "dbname",
    "sslmode",
    "sslrootcert",
    "connect_timeout",
    "application_name",
)
_LOCAL = ("localhost", "127.0.0.1", "::1")


class BadTarget(ValueError):
    """The URL cannot be used. The message never repeats the URL, which may hold a password."""


@dataclass(frozen=True, slots=True)
class Target:
    """One server, one user, one database. A host with a leading / is the directory of a unix socket."""

    host: str
    port: int
    user: str
    database: str
    password: str | None = None
    sslmode: str = "prefer"
    sslrootcert: str = ""
    timeout: float = 10.0

    def __repr__(self) -> str:
        return f"Target({self})"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}:{self.port}/{self.database}"

    @property
    def is_socket(self) -> bool:
        """Whether it is reached over a unix socket."""
        return self.host.startswith("/")

    @property
    def is_local(self) -> bool:
        """Whether the server runs on this machine, as far as the name tells."""
        return self.is_socket or self.host in _LOCAL

    @property
    def address(self) -> Address:
        """What the socket connects to."""
        return f"{self.host}/.s.PGSQL.{self.port}" if self.is_socket else (self.host, self.port)

    def on(self, database: str) -> Target:
        """The same for another database."""
        return replace(self, database=database)


def parse(url: str, *, database: str = "") -> Target:
    """Read postgresql://user:password@host:port/database?sslmode=... Raises BadTarget.

    What is missing comes from PGHOST, PGPORT, PGUSER, PGDATABASE, PGPASSWORD, PGSSLMODE, PGSSLROOTCERT and the
    password file. `database` is the default for the database.
    """
    given = _given(url)
    env = os.environ
    host = (given.get("host") or env.get("PGHOST") or _socket_dir()).split(",")[0]
    port = (given.get("port") or env.get("PGPORT") or "5432").split(",")[0]
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise BadTarget("the port is no number from 1 to 65535")
    user = given.get("user") or env.get("PGUSER") or getpass.getuser()
    sslmode = given.get("sslmode") or env.get("PGSSLMODE") or "prefer"
    if sslmode not in SSLMODES:
        raise BadTarget(f"sslmode is one of {', '.join(SSLMODES)}")
    target = Target(
        host=host,
        port=int(port),
        user=user,
        database=given.get("dbname") or env.get("PGDATABASE") or database or user,
        password=given.get("password", env.get("PGPASSWORD")),
        sslmode=sslmode,
        sslrootcert=given.get("sslrootcert") or env.get("PGSSLROOTCERT", ""),
        timeout=_timeout(given.get("connect_timeout") or env.get("PGCONNECT_TIMEOUT") or "10"),
    )
    return target if target.password is not None else replace(target, password=_from_passfile(target))


def parse_console(url: str) -> Target:
    """The console of the pooler at a URL, whatever database it names. Raises BadTarget."""
    target = parse(url, database="pgbouncer")
    return target if target.database == "pgferry" else target.on("pgbouncer")


def _given(url: str) -> dict[str, str]:
    parts = urlsplit(url.strip())
    if parts.scheme not in ("postgresql", "postgres"):
        raise BadTarget("write it as postgresql://user:password@host:port/database")
    login, at, hosts = parts.netloc.rpartition("@")
    user, colon, password = login.partition(":")
    first = hosts.split(",")[0]
    match = re.fullmatch(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::([0-9]*))?", first)
    if match is None or parts.fragment:
        raise BadTarget(
            "the host cannot be read; write %40 for @, %2F for /, %3A for :, %23 for # in a password"
        )
    given = {"host": unquote(match[1] or match[2] or ""), "port": match[3] or ""}
    given["dbname"] = unquote(parts.path.removeprefix("/"))
    if at:
        given["user"] = unquote(user)
        if colon:
            given["password"] = unquote(password)
    for key, value in parse_qsl(parts.query, keep_blank_values=True):
        if key not in _QUERY:
            raise BadTarget(f"a parameter of the URL is not known; known are {', '.join(_QUERY)}")
        given[key] = value
    return {key: value for key, value in given.items() if value or key == "password"}


def _timeout(text: str) -> float:
    try:
        return max(float(text), 0.1)
    except ValueError:
        raise BadTarget("connect_timeout is a number of seconds") from None


def _socket_dir() -> str:
    return next((path for path in ("/var/run/postgresql", "/tmp") if Path(path).is_dir()), "/tmp")


def _from_passfile(target: Target) -> str | None:
    """The password of ~/.pgpass (or PGPASSFILE) for the target; the file must be its owner's alone."""
    path = Path(os.environ.get("PGPASSFILE") or Path.home() / ".pgpass")
    try:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            return None
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    host = "localhost" if target.is_socket else target.host
    wanted = (host, str(target.port), target.database, target.user)
    for fields in map(_passfile_fields, lines):
        if len(fields) == 5 and all(f in ("*", w) for f, w in zip(fields, wanted, strict=False)):
            return fields[4]
    return None


def _passfile_fields(line: str) -> list[str]:
    return [] if line.startswith("#") else list(_split(line))


def _split(line: str) -> Iterator[str]:
    for field in re.findall(r"((?:\\.|[^:\\])*)(?::|$)", line)[:5]:
        yield re.sub(r"\\(.)", r"\1", field)
