"""The same files given to a real PgBouncer and to pgferry, each in a directory and on a port of its own."""

import fcntl
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
from bench.pgbouncer_package import find_pgbouncer, version_of
from bench.system import BenchError

from pgferry.embedded import Account, Cluster
from support.pooler import Pooler

DEPLOYMENTS = Path(__file__).parent / "deployments"
INI = "pgbouncer.ini"
COMPARED = ((1, 24), (1, 26))  # the versions that known.py knows


@cache
def original(suite: str) -> tuple[str, tuple[int, ...]]:
    """PgBouncer of a Debian release: program and version; skips the test when it cannot be had."""
    account = Account.choose()
    with pytest.MonkeyPatch.context() as patch, open(account.cache_dir() / "pgbouncer.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test process may be fetching it
        patch.setenv("PGBOUNCER_SUITE", suite)
        patch.delenv("PGBOUNCER", raising=False)
        try:
            program = find_pgbouncer(account)
        except BenchError as error:
            pytest.skip(f"no PgBouncer of Debian's {suite}: {error}")
    version = version_of(program)
    if version[:2] not in COMPARED:
        pytest.skip(
            f"Debian's {suite} has PgBouncer {'.'.join(map(str, version))}, which nobody has compared yet"
        )
    return str(program), version


class Twin(Pooler):
    """A pooler with files as they stand in /etc/pgbouncer: only ports and directories are moved.

    `files`: name in /etc/pgbouncer -> text, pgbouncer.ini among them. PostgreSQL is where they say port 5432.
    """

    def __init__(self, cluster: Cluster, files: Mapping[str, str], program: str) -> None:
        self.files = dict(files)
        super().__init__(cluster, program=program, settings={"listen_addr": "127.0.0.1"})

    def write(self) -> None:
        """Write the files, moved."""
        for name, text in self.files.items():
            path = self.config_file if name == INI else self.directory / name
            self.account.write(path, self.moved(text))

    def moved(self, text: str) -> str:
        """A file's text for this directory, this port and this PostgreSQL."""
        assert self.cluster is not None
        text = re.sub(r"/etc/pgbouncer/|/var/(?:log|run)/pgbouncer/", f"{self.directory}/", text)
        text = re.sub(r"^(listen_port *= *)\d+", rf"\g<1>{self.port}", text, flags=re.MULTILINE)
        text = re.sub(r"^(unix_socket_dir *=).*", rf"\1 {self.directory}", text, flags=re.MULTILINE)
        return re.sub(r"\bport=5432\b", f"port={self.cluster.port}", text)

    def masked(self, text: str) -> str:
        """A text without what must differ between two poolers and between two runs."""
        assert self.cluster is not None
        text = text.replace(str(self.config_file), "DIR/pgbouncer.ini").replace(str(self.directory), "DIR")
        text = re.sub(r"\b([CS])-(?:0x[0-9a-f]+|\d+): ", r"\1: ", text)
        text = re.sub(r"unix\(\d+\):\d+", "unix(PID):PORT", text)
        text = re.sub(rf"\b{self.port}\b", "PORT", text)
        text = re.sub(rf"\b{self.cluster.port}\b", "PGPORT", text)
        text = re.sub(r"(127\.0\.0\.1|\[::1\]):\d+", r"\1:N", text)
        return re.sub(r"\bage=\d+s", "age=Ns", text)

    def log_lines(self, start: int = 0, port: int = 0) -> tuple[list[str], int]:
        """Masked lines of the log from an offset on, level first, without time and pid; the next offset.

        `port`: lines about the client with this port. Else those that are about no connection.
        """
        text = self.log()
        end = text.rfind("\n") + 1
        lines = [re.sub(r"^\S+ \S+ \S+ \[\d+\] ", "", line) for line in text[start:end].splitlines()]
        lines = [line for line in lines if not line.startswith(("DEBUG", "NOISE"))]
        if port:
            lines = [line for line in lines if re.search(rf"@127\.0\.0\.1:{port}\b", line)]
        else:
            lines = [line for line in lines if not re.match(r"[A-Z]+ (?:[CS]-|stats: )", line)]
        return [self.masked(line) for line in lines], end


def deployment(name: str) -> dict[str, str]:
    """The files of a deployment in deployments/."""
    return {path.name: path.read_text() for path in sorted((DEPLOYMENTS / name).iterdir())}


def without_wildcard(files: Mapping[str, str]) -> dict[str, str]:
    """The same without an entry for databases that are not named."""
    return {**files, INI: files[INI].replace("\n* = ", "\n; * = ")}
