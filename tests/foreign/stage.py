"""A private PostgreSQL for one run of a suite, and for the run through pgferry also that and bystanders."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from pgferry.embedded import Account, Cluster
from pgferry.embedded.account import remove_tree
from support.cluster import new_cluster
from support.pooler import Pooler

from .bystanders import Bystanders

VERSION = 15
DIRECT, POOLED = "direct", "pgferry"
# Round robin hands out the server used longest ago, so that a client seldom meets the same one twice.
# The pool is large enough for suites that hold many transactions open, but only as many servers start as are
# needed at a time, and at least min_pool_size.
POOL: Mapping[str, object] = {
    "session_state": "track",
    "server_round_robin": 1,
    "default_pool_size": 40,
    "min_pool_size": 4,
    "max_client_conn": 500,
    "query_wait_timeout": 30,
    "log_connections": 0,
    "log_disconnections": 1,
}


@dataclass(slots=True)
class Stage:
    """Where a suite finds its server, and where it may write."""

    cluster: Cluster
    host: str
    port: int
    scratch: Path  # everybody may write here
    bystanders: dict[str, object] = field(default_factory=dict)
    log: str = ""

    def environment(self, database: str) -> dict[str, str]:
        """The caller's environment without its own PG* settings and this interpreter's paths, plus libpq's."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "PYTHON", "VIRTUAL_ENV"))}
        return kept | {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": "postgres",
            "PGDATABASE": database,
            "TZ": "UTC",
        }


@contextmanager
def staged(
    way: str,
    *,
    databases: Sequence[str],
    prepare: Mapping[str, str],
    settings: Mapping[str, str | int],
    mode: str = "transaction",
) -> Iterator[Stage]:
    """A fresh server with `databases` and the statements of `prepare` (by database) run in them.

    For the way POOLED the host and port are those of a pgferry in front of it, and two bystanders use the
    pool of each of the databases (not in session mode, where there is nothing to shuffle). `log` is then
    pgferry's, else the server's.
    """
    scratch = Account.choose().make_dir("pgferry-foreign-")
    scratch.chmod(0o777)
    cluster = new_cluster(VERSION, settings={"max_connections": 150, **settings})
    try:
        for name in databases:
            cluster.sql(f'CREATE DATABASE "{name}" TEMPLATE template0')
        for name, text in prepare.items():
            cluster.sql(text, name)
        with contextlib.ExitStack() as open_things:
            stage = Stage(cluster, "127.0.0.1", cluster.port, scratch)
            if way == POOLED:
                pooler = Pooler(cluster, settings={**POOL, "pool_mode": mode})
                open_things.callback(pooler.close)
                pooler.start()
                stage.port = pooler.port
                open_things.enter_context(_witnessed(stage, pooler, databases if mode != "session" else ()))
            yield stage
            stage.log = pooler.log() if way == POOLED else cluster.log()
    finally:
        cluster.close()
        remove_tree(scratch)


@contextmanager
def _witnessed(stage: Stage, pooler: Pooler, databases: Sequence[str]) -> Iterator[None]:
    """Bystanders around a run; the reports of all databases' are added up in `stage.bystanders`."""
    groups = {
        name: Bystanders(stage.cluster.conninfo(name), pooler.conninfo(name)).start() for name in databases
    }
    try:
        yield
    finally:
        for name, group in groups.items():
            stage.bystanders[name] = group.stop()
