"""A pgferry under test: writes its files, runs it, asks its console, and notices when it misbehaved."""

import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from signal import SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, Signals
from typing import Any

import psycopg
from psycopg.rows import dict_row

from pgferry.embedded import Account, Cluster, EmbeddedError, take_port
from pgferry.embedded.account import remove_tree
from pgferry.embedded.pooler import PoolerProcess, accepts, runner

# What must never be in the log of a healthy pooler; "runtime error" is UBSan's, the last a dead worker's.
WRONG = re.compile(
    r"Traceback \(most recent|Fatal Python error|AddressSanitizer|runtime error:|worker.* died"
)
# PGFERRY_TEST_PROGRAM=/path/to/pgbouncer runs the tests on the original: is a test right about it?
PROGRAM = os.environ.get("PGFERRY_TEST_PROGRAM", "")
SECRETS = {"postgres": "", "admin": "", "stats": "", "app": ""}


class Pooler:
    """`pgferry` with a configuration of its own, listening on 127.0.0.1, ::1 and a unix socket.

    Defaults: transaction mode, trust, users postgres, admin (console), stats (console, read only) and app,
    every database forwarded to `cluster`. `settings` are those of [pgbouncer]; a value None leaves a default
    out. `databases`, `users` and `peers` map names to the text after "="; `userlist` maps users to secrets.
    `program`: what to run instead, a PgBouncer. `port`: one that another Pooler listens on (so_reuseport).
    """

    def __init__(
        self,
        cluster: Cluster | None = None,
        *,
        workers: int = 1,
        settings: Mapping[str, object] | None = None,
        databases: Mapping[str, str] | None = None,
        users: Mapping[str, str] | None = None,
        peers: Mapping[str, str] | None = None,
        userlist: Mapping[str, str] | None = None,
        hba: str | None = None,
        environment: Mapping[str, str] | None = None,
        program: str = PROGRAM,
        port: int = 0,
    ) -> None:
        self.account = Account.choose() if program else runner()
        self.cluster = cluster
        self.directory = self.account.make_dir("pgferry-test-")
        self.directory.chmod(0o711)  # other accounts may use the unix socket
        self._port_lock = take_port()
        self.port = port or self._port_lock.port
        self.host = "127.0.0.1"
        self.socket_dir = self.directory
        self.config_file = self.directory / "pgferry.ini"
        self.auth_file = self.directory / "userlist.txt"
        self.hba_file = self.directory / "hba.conf"
        self._settings: dict[str, object] = {
            "listen_addr": "127.0.0.1,::1",
            "listen_port": self.port,
            "unix_socket_dir": self.socket_dir,
            "auth_type": "trust",
            "auth_file": self.auth_file,
            "admin_users": "admin,postgres",
            "stats_users": "stats",
            "pool_mode": "transaction",
            **({} if program else {"workers": workers}),
            **({"auth_hba_file": self.hba_file} if hba is not None else {}),
            **(settings or {}),
        }
        self._databases = dict({"*": self.server()} if databases is None else databases)
        self._users = dict(users or {})
        self._peers = dict(peers or {})
        self._userlist = dict(SECRETS if userlist is None else userlist)
        self._hba = hba
        self._ending: str | None = None
        self._process = PoolerProcess(
            self.config_file,
            self.directory / "log",
            environment=environment,
            program=[program] if program else (),
        )
        self.write()

    # --- files

    def server(self, **more: object) -> str:
        """The connection string of `cluster` for a line of [databases], e.g. server(dbname="x")."""
        if self.cluster is None:
            return "host=127.0.0.1 port=1"
        return " ".join(
            f"{k}={v}" for k, v in {"host": "127.0.0.1", "port": self.cluster.port, **more}.items()
        )

    def write(self) -> None:
        """Write all files from what is set now."""
        sections: dict[str, Mapping[str, object]] = {
            "databases": self._databases,
            "users": self._users,
            "peers": self._peers,
            "pgbouncer": {k: v for k, v in self._settings.items() if v is not None},
        }
        text = "".join(
            f"[{name}]\n" + "".join(f"{k} = {v}\n" for k, v in pairs.items()) + "\n"
            for name, pairs in sections.items()
            if pairs
        )
        self.account.write(self.config_file, text)
        secrets = "".join(f'"{_doubled(u)}" "{_doubled(s)}"\n' for u, s in self._userlist.items())
        if not self.auth_file.exists() or self.auth_file.read_text() != secrets:
            self.account.write(self.auth_file, secrets)  # pgferry looks at it, too
        if self._hba is not None:
            self.account.write(self.hba_file, self._hba)

    def set(
        self,
        settings: Mapping[str, object] | None = None,
        *,
        databases: Mapping[str, str | None] | None = None,
        users: Mapping[str, str | None] | None = None,
        peers: Mapping[str, str | None] | None = None,
        userlist: Mapping[str, str | None] | None = None,
        reload: bool = True,
    ) -> None:
        """Change entries (None removes one), write the files, and RELOAD."""
        self._settings.update(settings or {})
        for have, change in (
            (self._databases, databases),
            (self._users, users),
            (self._peers, peers),
            (self._userlist, userlist),
        ):
            for name, value in (change or {}).items():
                have.pop(name, None)
                if value is not None:
                    have[name] = value
        self.write()
        if reload:
            self.reload()

    # --- life

    def start(self, timeout: float = 30.0) -> "Pooler":
        """Start it; returns when it accepts connections on every address of the default ones."""
        self._process.start(self._accepts, timeout)
        return self

    def stop(self, how: Signals = SIGQUIT, timeout: float = 10.0) -> int | None:
        """Signal and wait for the end; its exit status."""
        self._ending = self._ending or how.name
        return self._process.stop(how, timeout)

    def restart(self) -> None:
        """Stop at once and start again on the same port."""
        self.stop()
        self._ending = None
        self.start()

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for an end that the test caused by signal() or SHUTDOWN; its exit status."""
        self._ending = self._ending or "the test"
        return self._process.wait(timeout)

    def signal(self, which: Signals) -> None:
        """Send a signal to the supervisor; those that end it make its end expected."""
        if which not in (SIGHUP, SIGUSR1, SIGUSR2):
            self._ending = which.name
        self._process.send(which)

    def expect_end(self) -> None:
        """The test makes it end by other means than a signal."""
        self._ending = "the test"

    @property
    def pid(self) -> int | None:
        """The supervisor, None when it does not run."""
        return self._process.pid

    @property
    def worker_pids(self) -> list[int]:
        """The workers' process ids."""
        return self._process.workers()

    def close(self) -> None:
        """End it at once and remove its files, without judging it."""
        try:
            self._ending = self._ending or "close"
            self._process.stop()
        finally:
            remove_tree(self.directory)
            self._port_lock.release()

    def finish(self, ignore: str | None = None) -> None:
        """End it and raise AssertionError when it crashed, left something behind or logged what is WRONG.

        `ignore`: a regular expression; log lines that match it are not looked at.
        """
        try:
            crashed = self._ending is None and self._process.returncode is not None
            status = self._process.returncode
            if not crashed:
                status = self._process.stop()
            log = self.log()
        except EmbeddedError as e:
            raise AssertionError(f"{e}\n{self.log()[-4000:]}") from e
        finally:
            self.close()
        assert not crashed, f"pgferry ended by itself with status {status}:\n{log[-4000:]}"
        assert status in (None, 0, 1) or self._ending == "SIGKILL", f"exit status {status}:\n{log[-4000:]}"
        lines = [x for x in log.splitlines() if not (ignore and re.search(ignore, x))]
        wrong = [x for x in lines if WRONG.search(x)]
        assert not wrong, "wrong in the log: " + "\n".join(wrong) + "\n" + log[-6000:]

    # --- use

    def conninfo(
        self, db: str = "postgres", user: str = "postgres", host: str | None = None, **more: object
    ) -> str:
        """A libpq connection string through the pooler. More keywords are added as they are."""
        pairs: dict[str, Any] = {
            "host": host or self.host,
            "port": self.port,
            "dbname": db,
            "user": user,
            **more,
        }
        return psycopg.conninfo.make_conninfo("", **pairs)

    def connect(
        self, db: str = "postgres", user: str = "postgres", *, autocommit: bool = True, **more: Any
    ) -> "psycopg.Connection[tuple[Any, ...]]":
        """A psycopg connection through the pooler; connect_timeout 10 s unless said otherwise."""
        return psycopg.connect(
            self.conninfo(db, user, **{"connect_timeout": 10, **more}), autocommit=autocommit
        )

    def console(
        self, user: str = "admin", db: str = "pgbouncer", host: str | None = None
    ) -> "psycopg.Connection[dict[str, Any]]":
        """A connection to the console, simple protocol, autocommit; rows as dicts."""
        return psycopg.connect(
            self.conninfo(db, user, host, connect_timeout=10),
            autocommit=True,
            row_factory=dict_row,
            cursor_factory=psycopg.ClientCursor,
        )

    def admin(self, command: str, user: str = "admin", host: str | None = None) -> list[dict[str, Any]]:
        """Run one console command; its rows (none for those without)."""
        with self.console(user, host=host) as console:
            cursor = console.execute(command.encode())
            return cursor.fetchall() if cursor.description is not None else []

    def show(self, what: str, **match: object) -> list[dict[str, Any]]:
        """Rows of SHOW what, those whose columns equal `match`."""
        rows = self.admin(f"SHOW {what}")
        return [r for r in rows if all(r[k] == v for k, v in match.items())]

    def reload(self) -> None:
        """RELOAD by the console: in effect when it returns."""
        self.admin("RELOAD")

    def log(self) -> str:
        """Everything it logged to its standard error so far."""
        return self._process.log()

    def wait_log(self, pattern: str, timeout: float = 10.0) -> "re.Match[str]":
        """Wait (seconds) until the log matches a regular expression."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            if match := re.search(pattern, self.log(), re.MULTILINE):
                found.append(match)
            return bool(found)

        eventually(look, timeout, f"no {pattern!r} in the log")
        return found[0]

    def _accepts(self) -> bool:
        """It says that it is up, and every default listener is there (those that settings left)."""
        if "process up" not in self.log():
            return False
        addresses: list[Any] = []
        if "127.0.0.1" in str(self._settings["listen_addr"]):
            addresses.append((self.host, self.port))
        if str(self._settings["unix_socket_dir"]) == str(self.socket_dir):
            addresses.append(str(Path(self.socket_dir) / f".s.PGSQL.{self.port}"))
        return all(accepts(a) for a in addresses)


def eventually(
    check: Callable[[], object], timeout: float = 10.0, message: str = "it never came true"
) -> None:
    """Wait (seconds) until check() is true; AssertionError with the message otherwise."""
    limit = time.monotonic() + timeout
    while not check():
        assert time.monotonic() < limit, f"{message} (after {timeout:g} s)"
        time.sleep(0.02)


def _doubled(text: str) -> str:
    return text.replace('"', '""')
