"""What is measured: a direct connection, PgBouncer or pgferry, each with start, stop and its processes."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pgferry.client import connect
from pgferry.embedded import Account, PortLock, take_port
from pgferry.embedded.guard import Guarded

from . import wire
from .pgbouncer_package import PREPARED_SINCE, find_pgbouncer, version_of
from .processes import family
from .server import DATABASE, DIRECT_CLIENTS, SCRAM_PASSWORD, SCRAM_USER, TRUST_USER
from .system import BenchError, log_tail

POOL_SIZE = 20
MAX_CLIENTS = 6000
START_TIMEOUT_S = 30
STOP_TIMEOUT_S = 5
LOGIN_TIMEOUT_S = 5
INI = """\
[databases]
{database} = host=127.0.0.1 port={server_port} dbname={database}{server_user}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = {auth}
auth_file = {userlist}
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = {max_clients}
"""


@dataclass(frozen=True, slots=True)
class Login:
    """How clients log in: PgBouncer's `auth_type`, the user and its password ('' for none)."""

    auth: str
    user: str
    password: str


TRUST = Login("trust", TRUST_USER, "")
SCRAM = Login("scram-sha-256", SCRAM_USER, SCRAM_PASSWORD)


class Direct:
    """No pooler: clients connect to the server."""

    name = "direct"

    def __init__(self, server_port: int) -> None:
        """Measure the server that listens on `server_port`."""
        self.port = server_port

    def start(self, login: Login) -> None:
        """Nothing to start: the server runs already, and knows both users."""

    def stop(self) -> None:
        """Nothing to stop."""

    @property
    def root(self) -> int | None:
        """No pooler, no process."""
        return None

    def refuses(self, _protocol: str, clients: int) -> str | None:
        """Return why this load cannot be measured, or None."""
        if clients > DIRECT_CLIENTS:
            return f"{clients} clients exceed the server's max_connections"
        return None


class Pooler:
    """A pooler started by `program CONFIG.ini`: PgBouncer, or whatever claims to be its drop-in."""

    def __init__(
        self,
        name: str,
        program: Path,
        folder: Path,
        account: Account,
        server_port: int,
        extra: Mapping[str, str],
    ) -> None:
        """Describe the pooler `name`; `extra` is added to the common settings, `folder` takes its files."""
        self.name = name
        self.program = program
        self.account = account
        self.settings = dict(extra)
        self.env: dict[str, str] = {}
        self.server_user = ""  # that all clients share; empty: each its own
        self.prefix: list[str] = []
        self.folder = folder
        self._server_port = server_port
        self._log = folder / f"{name}.log"
        self._lock: PortLock | None = None
        self._process: Guarded | None = None

    @property
    def version(self) -> str:
        """The first line of what `program -V` says."""
        _, output = self.account.run([str(self.program), "-V"])
        return next(iter(output.splitlines()), "unknown").strip()

    @property
    def port(self) -> int:
        """The TCP port it listens on."""
        if self._lock is None:
            raise BenchError(f"{self.name} is not running")
        return self._lock.port

    @property
    def root(self) -> int | None:
        """The process that was started; its descendants are part of the pooler."""
        return None if self._process is None else self._process.pid

    @property
    def alive(self) -> bool:
        """True while the started process runs."""
        return self._process is not None and self._process.returncode() is None

    def start(self, login: Login, timeout_s: float = START_TIMEOUT_S) -> None:
        """(Re)start with `login` as the way in and wait until it works; raises BenchError otherwise."""
        self.stop()
        self._lock = take_port()
        command = [*self.prefix, str(self.program), str(self._write_config(login))]
        environment = {**self.account.environment(), **self.env}
        self._process = Guarded(self.account, command, log=self._log, cwd=self.folder, env=environment)
        deadline = time.monotonic() + timeout_s
        while (problem := self._knock(login)) is not None:
            if not self.alive or time.monotonic() > deadline:
                self.stop()
                raise BenchError(f"{self.name} does not start ({problem}): {self.log_tail()}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End the pooler; it and its children are killed when they do not end by themselves."""
        if self._process is not None:
            members = family(self._process.pid)
            # With no client left a pooler ends within a second.
            if self._process.end(signal.SIGINT, STOP_TIMEOUT_S) is None:
                for pid in members:
                    _kill(pid)
                self._process.end(signal.SIGKILL, STOP_TIMEOUT_S)
            self._process = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def members(self) -> list[int]:
        """Return all its processes; raises BenchError when it does not run."""
        if not self.alive or self.root is None:
            raise BenchError(f"{self.name} is not running: {self.log_tail()}")
        return family(self.root)

    def serving_process(self) -> int:
        """Return the process that serves the clients: pgferry's first worker, or the only process."""
        members = self.members()
        for pid in members:
            if b"pgferry.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        return members[0]

    def log_text(self) -> str:
        """Return the pooler's whole log."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def log_tail(self) -> str:
        """Return the end of the pooler's log."""
        return log_tail(self._log)

    def refuses(self, protocol: str, clients: int) -> str | None:
        """Return why this load cannot be measured, or None."""
        if protocol == "prepared" and self.name == "pgbouncer" and version_of(self.program) < PREPARED_SINCE:
            return "this version has no prepared statements in transaction mode (1.21 has)"
        if clients > MAX_CLIENTS:
            return f"{clients} clients exceed max_client_conn"
        return None

    def _write_config(self, login: Login) -> Path:
        """Write configuration and user list for `login` and the current port; returns the first's path."""
        userlist = self.folder / f"{self.name}-users.txt"
        self.account.write(userlist, f'"{TRUST_USER}" ""\n"{SCRAM_USER}" "{SCRAM_PASSWORD}"\n')
        text = INI.format(
            database=DATABASE,
            server_port=self._server_port,
            server_user=f" user={self.server_user}" if self.server_user else "",
            port=self.port,
            auth=login.auth,
            userlist=userlist,
            pool_size=POOL_SIZE,
            max_clients=MAX_CLIENTS,
        )
        config = self.folder / f"{self.name}.ini"
        self.account.write(
            config, text + "".join(f"{key} = {value}\n" for key, value in self.settings.items())
        )
        return config

    def _knock(self, login: Login) -> Exception | None:
        """Try to log in (or to connect, with a password); returns what went wrong, None when nothing did."""
        try:
            if login.password:
                connect(("127.0.0.1", self.port), LOGIN_TIMEOUT_S).close()
            else:
                wire.login(self.port, login.user, DATABASE, LOGIN_TIMEOUT_S).close()
        except (OSError, BenchError) as error:
            return error
        return None


Target = Direct | Pooler


def pgbouncer(folder: Path, account: Account, server_port: int) -> Pooler:
    """Return PgBouncer, found or fetched; raises BenchError when there is none."""
    program = find_pgbouncer(account)
    # On by default only since 1.24, refused before 1.21.
    settings = {"max_prepared_statements": "200"} if version_of(program) >= PREPARED_SINCE else {}
    return Pooler("pgbouncer", program, folder, account, server_port, settings)


def pgferry(folder: Path, account: Account, server_port: int, extra: Mapping[str, str]) -> Pooler:
    """Return pgferry of this checkout (or PGFERRY=/path); raises BenchError when it has not been built.

    It runs as the same account as the others, except where that one may not read the interpreter (in root's
    home, for example).
    """
    program = Path(os.environ.get("PGFERRY", Path(sys.executable).parent / "pgferry"))
    if not os.access(program, os.X_OK):
        raise BenchError(f"{program} is missing: run `make build` first")
    settings = {"max_prepared_statements": "200", **extra}
    pooler = Pooler("pgferry", program, folder, account, server_port, settings)
    if account.switched and not account.can_run([str(program), "-V"]):
        pooler.account = Account("root", 0, 0, "/root", switched=False)
        pooler.env = {"PGFERRY_ALLOW_ROOT": "1"}
    return pooler


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
