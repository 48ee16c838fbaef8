"""A private PostgreSQL server in a temporary directory: made in a second, gone with its owner."""

import hashlib
import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from pgferry.client import Connection, ConnectionFailed, Result, Target
from pgferry.embedded.account import Account, remove_tree
from pgferry.embedded.errors import EmbeddedError
from pgferry.embedded.fetch import locked
from pgferry.embedded.find import Installation, installation
from pgferry.embedded.guard import Guarded, alive, children
from pgferry.embedded.ports import PortLock, take_port

SUPERUSER = "postgres"
TRUST = (
    "local all all trust",
    "host all all all trust",
    "local replication all trust",
    "host replication all all trust",
)
# Nothing here outlives its machine, so nothing is flushed to the disk; but commits survive kill().
THROWAWAY = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "log_line_prefix": "%m [%p] %u@%d ",
}
_QUERY_SECONDS = 30.0
INITDB = ("--username", SUPERUSER, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")


class Cluster:
    """One server: `start()` it, connect to `conninfo()`, `close()` it (or use it in a with statement).

    It listens on 127.0.0.1, ::1 and a unix socket in `socket_dir`, always on `port`. Settings are
    postgresql.conf's. Superuser `postgres` may always log in over the unix socket; who else may is
    said by the pg_hba.conf lines (everybody, by default). With `private` there is only the unix socket,
    in a directory that other accounts (but root) cannot enter: who may log in as superuser can run
    programs as `account`. When the calling process ends in whatever way, the server is ended and its
    directory removed. Methods raise EmbeddedError, and QueryError for what the server refuses.
    """

    def __init__(
        self,
        version: int | None = None,
        *,
        port: int | None = None,
        settings: Mapping[str, str | int] | None = None,
        hba: Sequence[str] = TRUST,
        server: Installation | None = None,
        private: bool = False,
    ) -> None:
        self.account = Account.choose()
        self.server = installation(self.account, version) if server is None else server
        self._lock: PortLock | None = take_port() if port is None else None
        self.port = self._lock.port if self._lock else int(port or 0)
        self.settings: dict[str, str | int] = dict(settings or {})
        self.directory = self.account.make_dir("pgferry-pg-")
        self.data_dir = self.directory / "data"
        self.socket_dir = self.directory / "run"
        self.log_file = self.directory / "log"
        self._private = private
        self._guard: Guarded | None = None
        try:
            self._create(hba)
        except BaseException:
            self.close()
            raise

    # --- what it is

    @property
    def version(self) -> int:
        """The major version."""
        return self.server.major

    @property
    def socket(self) -> str:
        """The path of the unix socket."""
        return str(self.socket_dir / f".s.PGSQL.{self.port}")

    @property
    def pid(self) -> int | None:
        """The postmaster, None when it does not run."""
        return self._guard.pid if self._guard is not None and self._guard.returncode() is None else None

    def conninfo(
        self, dbname: str = "postgres", user: str = SUPERUSER, host: str = "127.0.0.1", **more: object
    ) -> str:
        """A libpq connection string; host may be `self.socket_dir`. More keywords are added as they are."""
        pairs = {"host": host, "port": self.port, "dbname": dbname, "user": user, **more}
        return " ".join(f"{k}={_quoted(str(v))}" for k, v in pairs.items())

    def log(self) -> str:
        """The server's log so far."""
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def sql(self, sql: str, dbname: str = "postgres") -> list[tuple[str | None, ...]]:
        """Run statements as superuser over the unix socket; the last one's rows as text."""
        return self.query(sql, dbname).rows

    def query(self, sql: str, dbname: str = "postgres") -> Result:
        """The same with column names. Raises QueryError with the server's words."""
        try:
            target = Target(str(self.socket_dir), self.port, SUPERUSER, dbname)
            with Connection(target, timeout=_QUERY_SECONDS) as connection:
                return connection.query(sql)
        except (ConnectionFailed, OSError) as e:
            raise EmbeddedError(f"PostgreSQL on port {self.port} cannot be reached: {e}") from e

    # --- what can be done with it

    def start(self, timeout: float = 60.0) -> "Cluster":
        """Start the server and wait (seconds) until it accepts connections. Harmless when it runs."""
        if self.pid is not None:
            return self
        self._release()
        self.log_file.touch()
        shown = len(self.log())
        argv = [str(self.server.bindir / "postgres"), "-D", str(self.data_dir)]
        self._guard = Guarded(
            self.account, argv, log=self.log_file, cwd=self.data_dir, orphan_dir=self.directory
        )
        limit = time.monotonic() + timeout
        while not self._ready():
            status = self._guard.returncode()
            if status is not None or time.monotonic() > limit:
                why = (
                    f"ended with status {status}"
                    if status is not None
                    else f"is not ready after {timeout:g} s"
                )
                self.stop("immediate")
                raise EmbeddedError(f"PostgreSQL {self.server.version} {why}:\n{self.log()[shown:].strip()}")
            time.sleep(0.01)
        return self

    def stop(self, mode: str = "fast", timeout: float = 60.0) -> None:
        """Stop as pg_ctl does: smart (waits for clients), fast, immediate. Harmless when it is down."""
        how = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode]
        if self._guard is not None and self._guard.end(how, timeout) is None:
            self.kill()
            raise EmbeddedError(
                f"PostgreSQL did not end in {timeout:g} s and was killed:\n{self.log()[-2000:]}"
            )
        self._release()

    def restart(self, mode: str = "fast") -> None:
        """Stop and start; the port and the data stay."""
        self.stop(mode)
        self.start()

    def kill(self) -> None:
        """SIGKILL the server and all its backends, as a crashed machine would; start() recovers."""
        if self._guard is None:
            return
        backends = children(self._guard.pid)
        self._guard.end(signal.SIGKILL, 10.0)
        for pid in backends:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        limit = time.monotonic() + 10.0
        while any(alive(p) for p in backends) and time.monotonic() < limit:
            time.sleep(0.005)
        self._release()

    def reload(self) -> None:
        """SIGHUP, and wait until the server has read its files again."""
        if self.pid is None:
            return
        before = self.sql("SELECT pg_catalog.pg_conf_load_time()")
        os.kill(self.pid, signal.SIGHUP)
        limit = time.monotonic() + 10.0
        while self.sql("SELECT pg_catalog.pg_conf_load_time()") == before:
            if time.monotonic() > limit:
                raise EmbeddedError(f"PostgreSQL did not reload:\n{self.log()[-2000:]}")
            time.sleep(0.02)

    def configure(self, **settings: str | int) -> None:
        """Change settings and reload; those that only a start can change take effect at restart()."""
        self.settings.update(settings)
        self._write_settings()
        self.reload()

    def set_hba(self, lines: Sequence[str] = TRUST) -> None:
        """Replace the pg_hba.conf lines (the superuser's own line stays) and reload."""
        first = f"local all {SUPERUSER} trust"
        self.account.write(self.data_dir / "pg_hba.conf", "\n".join((first, *lines)) + "\n")
        self.reload()

    def close(self) -> None:
        """End the server at once and remove its directory. Harmless twice."""
        if self._guard is not None:
            self.stop("immediate")
        remove_tree(self.directory)
        if self._lock is not None:
            self._lock.release()

    def __enter__(self) -> "Cluster":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- how

    def _create(self, hba: Sequence[str]) -> None:
        template = _template(self.account, self.server)
        self._as_account(["/bin/cp", "-R", "--reflink=auto", str(template), str(self.data_dir)], "copying")
        self.socket_dir.mkdir(mode=0o700 if self._private else 0o755)
        self.account.own(self.socket_dir)
        if not self._private:
            self.directory.chmod(0o711)  # the socket is for everybody, as PostgreSQL's own default is
        with (self.data_dir / "postgresql.conf").open("a", encoding="utf-8") as conf:
            conf.write("\ninclude = 'pgferry.conf'\n")
        self._write_settings()
        self.set_hba(hba)

    def _write_settings(self) -> None:
        fixed: dict[str, str | int] = {
            "listen_addresses": "" if self._private else "127.0.0.1,::1",
            "port": self.port,
            "unix_socket_directories": str(self.socket_dir),
        }
        lines = [f"{k} = {_setting(v)}" for k, v in {**THROWAWAY, **fixed, **self.settings}.items()]
        self.account.write(self.data_dir / "pgferry.conf", "\n".join(lines) + "\n")

    def _ready(self) -> bool:
        """Line 8 of postmaster.pid is what pg_ctl waits for (src/include/utils/pidfile.h)."""
        try:
            lines = (self.data_dir / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _release(self) -> None:
        if self._guard is not None:
            self._guard.release()
            self._guard = None

    def _as_account(self, argv: Sequence[str], what: str) -> None:
        status, output = self.account.run(argv)
        if status != 0:
            raise EmbeddedError(f"{what.capitalize()} the data directory failed: {output.strip()}")


def _template(account: Account, server: Installation) -> Path:
    """A data directory fresh from initdb, kept in the cache: copying it takes a tenth of the time."""
    base = account.cache_dir() / f"templates-{account.name}"
    base.mkdir(mode=0o711, exist_ok=True)
    account.own(base)
    identity = hashlib.sha256(repr((str(server.bindir), server.version, INITDB)).encode()).hexdigest()[:8]
    target = base / f"{server.version}-{identity}"
    if target.is_dir():
        return target
    with locked(account.cache_dir() / ".templates.lock"):
        if target.is_dir():
            return target
        scratch = base / f".new-{os.getpid()}"
        shutil.rmtree(scratch, ignore_errors=True)
        argv = [str(server.bindir / "initdb"), *INITDB, "-D", str(scratch)]
        status, output = account.run(argv, cwd=base)
        if status != 0:
            shutil.rmtree(scratch, ignore_errors=True)
            raise EmbeddedError(f"initdb of PostgreSQL {server.version} failed:\n{output.strip()}")
        scratch.rename(target)
    return target


def _quoted(value: str) -> str:
    """A value of a connection string; quoted only when it has to be, for the reader's sake."""
    if value and not any(c in " '\\" for c in value):
        return value
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _setting(value: str | int) -> str:
    return str(value) if isinstance(value, int) else "'" + value.replace("'", "''") + "'"
