"""The ways to reach the database, and one measurement of each."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace

from pgferry.client import Target
from pgferry.compare.load import Plan
from pgferry.compare.watch import Watch
from pgferry.embedded.account import remove_tree
from pgferry.embedded.load import Figures
from pgferry.embedded.pooler import PoolerProcess, accepts, runner
from pgferry.embedded.ports import take_port
from pgferry.embedded.spread import spread
from pgferry.protocol.options import build_options

_MODULE = "pgferry.compare.load"


@dataclass(frozen=True, slots=True)
class Way:
    """`kind`: fresh (a connection for each query), kept (one for each client), pooled, or pooler (a running "
    "one)."""

    name: str
    kind: str
    size: int = 0
    mode: str = ""
    target: Target | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """How to measure. `guard` are the settings of sessions that protect the database."""

    target: Target
    queries: tuple[str, ...]
    clients: int
    seconds: float
    guard: tuple[tuple[str, str], ...]
    limit: int  # direct connections at most

    @property
    def options(self) -> str:
        """The guard as a startup parameter."""
        return build_options(self.guard)

    @property
    def connect_query(self) -> str:
        """The guard as SQL."""
        return "; ".join(f"SET {name} = {value}" for name, value in self.guard)


@dataclass(slots=True)
class Outcome:
    """What came of one way."""

    way: Way
    clients: int
    figures: Figures
    connections: int
    memory: int | None
    pooler_cpu: float | None = None


def measure(trial: Trial, way: Way, watch: Watch, tick: Callable[[float], None]) -> Outcome:
    """Measure one way; tick() gets the seconds that have passed. Raises EmbeddedError."""
    clients = min(trial.clients, trial.limit) if way.kind in ("fresh", "kept") else trial.clients
    direct = way.kind in ("fresh", "kept")
    plan = Plan(
        asdict(way.target or trial.target),
        clients,
        trial.seconds,
        list(trial.queries),
        fresh=way.kind == "fresh",
        options=trial.options if direct else "",
    )
    cpu = None
    with ExitStack() as stack:
        pooler = None
        if way.kind == "pooled":
            pooler, target = stack.enter_context(_pooled(trial, way))
            plan = replace(plan, target=asdict(target))
            before = pooler.cpu_seconds()
        cost = stack.enter_context(watch.watching())
        load = stack.enter_context(spread(plan, _MODULE))
        passed = 0.0
        for figures in load.progress():
            tick(figures.seconds - passed)
            passed = figures.seconds
        if pooler is not None:
            cpu = pooler.cpu_seconds() - before
        tick(max(trial.seconds - passed, 0.0))
        return Outcome(way, clients, load.total, cost.connections, cost.memory, cpu)


@contextmanager
def _pooled(trial: Trial, way: Way) -> Iterator[tuple[PoolerProcess, Target]]:
    """A private pgferry in front of the database, for one user with a password of its own."""
    account = runner()
    folder = account.make_dir("pgferry-bench-")
    password = secrets.token_hex(16)
    target = trial.target
    with ExitStack() as stack:
        stack.callback(remove_tree, folder)
        port = stack.enter_context(take_port())
        pairs = {
            "host": target.host,
            "port": str(target.port),
            "dbname": target.database,
            "user": target.user,
            "pool_size": str(way.size),
            "pool_mode": way.mode,
            "connect_query": trial.connect_query,
        }
        if target.password is not None:
            pairs["password"] = target.password
        entry = " ".join(f"{key}={_quoted(value)}" for key, value in pairs.items() if value)
        users, config = folder / "userlist.txt", folder / "pgferry.ini"
        account.write(users, f'"bench" "{password}"\n')
        account.write(
            config,
            f"[databases]\nbench = {entry}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
            f"unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {users}\n"
            f"max_client_conn = {trial.clients + 100}\nquery_wait_timeout = {trial.seconds + 60:.0f}\n"
            f"server_tls_sslmode = {target.sslmode}\nlog_connections = 0\nlog_disconnections = 0\n",
        )
        pooler = PoolerProcess(config, folder / "log")
        stack.callback(pooler.stop)
        pooler.start(lambda: accepts(("127.0.0.1", port)))
        yield pooler, Target("127.0.0.1", port, "bench", "bench", password, "disable")


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
