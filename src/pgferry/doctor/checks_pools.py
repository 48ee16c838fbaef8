"""Checks of sizes, limits and modes: from a configuration, with what the server and the console add."""

from __future__ import annotations

from collections.abc import Iterator

from pgferry.config import effective
from pgferry.config.model import Database
from pgferry.doctor.demand import Demand, demands, entries, users
from pgferry.doctor.model import Facts, Finding, check, error, first, many, note, warning

POSTGRES_DEFAULT = 97  # max_connections = 100 without the three for superusers


@check(
    "pool-sum",
    "config",
    title="The pools together fit into max_connections",
    why="Each (database, user) pair has a pool of its own. What they may open together, reserve included, "
    "has to stay below max_connections less the reserved slots, with room for migrations, monitoring and "
    "people; beyond it logins fail exactly when the load is highest.",
)
def pool_sum(facts: Facts) -> Iterator[Finding]:
    found = list(demands(facts))
    free = facts.server.for_clients if facts.server else POSTGRES_DEFAULT
    whose = (
        f"PostgreSQL has {free} (max_connections less the reserved ones)"
        if facts.server
        else f"PostgreSQL's default leaves {free}"
    )
    place = facts.places.setting("default_pool_size")
    for demand in found:
        if demand.unlimited:
            yield error(
                f"The pool of {demand.database.name} has no limit (pool size 0)",
                "set pool_size, or max_db_connections for the database",
                facts.places.database(demand.database.name),
            )
    least, most = sum(d.one_user for d in found), sum(d.all_users for d in found)
    pools = sum(d.pools for d in found)
    if least > free:
        severity = error if facts.server else note
        yield severity(
            f"The pools may open {least} connections with a single user; {whose}",
            _smaller(found, free),
            place,
        )
    elif most > free:
        severity = warning if facts.server else note
        yield severity(
            f"The pools may open {most} connections in {many(pools, 'pool')} when every user is active; "
            f"{whose}",
            f"{_smaller(found, free)}; or max_db_connections for each database, which holds over all its "
            "users",
            place,
        )


def _smaller(found: list[Demand], free: int) -> str:
    pools = max(sum(d.pools for d in found), 1)
    return f"default_pool_size = {max(int(free * 0.9) // pools, 1)} (nine tenths of {free} over {many(pools, 'pool')})"


@check(
    "pools-uncounted",
    "config",
    title="The number of pools is known",
    why="Users that auth_query finds, and databases that `*` lets in, each bring a pool of their own. "
    "Without a limit above them nobody can say how many connections PostgreSQL will see.",
)
def pools_uncounted(facts: Facts) -> Iterator[Finding]:
    assert facts.config is not None
    for database in entries(facts):
        if effective.max_db_connections(facts.config, database):
            continue
        looked_up = bool(database.auth_user or facts.settings.auth_user) and database.user is None
        if looked_up or database.name == "*":
            yield note(
                f"{database.name}: a pool for each "
                f"{'user that auth_query finds' if looked_up else 'database that a client names'}",
                "max_db_connections (holds over all users of a database), or the entries that are meant, by "
                "name",
                facts.places.database(database.name),
            )


@check(
    "pool-cores",
    "config",
    "server",
    title="No pool is far larger than the server can work on",
    why="A server works on about (cores x 2 + disks) queries at a time. More connections than that queue "
    "inside PostgreSQL instead of in the pooler, where they cost memory and slow down each other's "
    "snapshots and locks.",
)
def pool_cores(facts: Facts) -> Iterator[Finding]:
    assert facts.server is not None and facts.config is not None
    if not facts.server.cores:
        return
    useful = facts.server.cores * 2 + 1
    for database in entries(facts):
        size = max(
            effective.pool_size(facts.config, database, user) for user in users(facts.config, database)
        )
        if size > useful * 2:
            yield warning(
                f"Pool size {size} of {database.name}; {many(facts.server.cores, 'core')} work on about "
                f"{useful} at a time",
                f"measure with `pgferry advise`; start with {useful}, and more only while the server has "
                "idle cores",
                facts.places.pool_size(database.name if database.pool_size is not None else ""),
            )


@check(
    "reserve-never",
    "config",
    title="The reserve pool can engage",
    why="The reserve opens when the oldest client has waited reserve_pool_timeout. With 0 it never opens; "
    "with a time near query_wait_timeout the clients are turned away before it helps.",
)
def reserve_never(facts: Facts) -> Iterator[Finding]:
    assert facts.config is not None
    settings = facts.settings
    with_reserve = [d for d in entries(facts) if effective.reserve_pool_size(facts.config, d, None) > 0]
    if not with_reserve:
        return
    place = facts.places.setting("reserve_pool_timeout")
    wait = settings.reserve_pool_timeout
    if wait == 0:
        yield warning(
            "There is a reserve, and reserve_pool_timeout = 0 never opens it",
            "reserve_pool_timeout = 3",
            place,
        )
    for database in with_reserve:
        limit = effective.query_wait_timeout(facts.config, database, None)
        if limit and wait >= limit / 2:
            yield warning(
                f"reserve_pool_timeout is {wait:g} s, and clients of {database.name} give up after {limit:g} "
                "s",
                f"reserve_pool_timeout = {max(limit / 10, 0.1):.3g}",
                place,
            )


@check(
    "reserve-none",
    "config",
    title="There is a reserve for bursts",
    why="Without a reserve a burst or one slow query holds up everybody in the pool. A tenth or two of the "
    "pool, opened after a few seconds, takes the top off.",
)
def reserve_none(facts: Facts) -> Iterator[Finding]:
    assert facts.config is not None
    if not any(effective.reserve_pool_size(facts.config, d, None) for d in entries(facts)):
        size = facts.settings.default_pool_size
        yield note(
            "No pool has a reserve",
            f"reserve_pool_size = {max(size // 5, 1)}, reserve_pool_timeout = 3",
            facts.places.setting("reserve_pool_size"),
        )


@check(
    "session-mode",
    "config",
    title="Session mode is used only where it is needed",
    why="In session mode a client keeps its server until it leaves, so a pool of 20 serves 20 clients, "
    "however idle they are. Web applications want transaction mode.",
)
def session_mode(facts: Facts) -> Iterator[Finding]:
    assert facts.config is not None
    config = facts.config
    for database in entries(facts):
        size = effective.pool_size(config, database, None)
        if (
            effective.pool_mode(config, database, None) == "session"
            and size
            and config.settings.max_client_conn > size * 2
        ):
            own = database.pool_mode is not None
            yield warning(
                f"{database.name} pools in session mode: up to {config.settings.max_client_conn} clients "
                f"share {size} servers, "
                "and each keeps its own until it leaves",
                "pool_mode = transaction; keep session mode for a separate entry used by migrations and "
                "batch jobs",
                facts.places.database(database.name) if own else facts.places.setting("pool_mode"),
            )


@check(
    "clients-few",
    "config",
    title="max_client_conn leaves room for clients",
    why="Pooling pays when many clients share few servers. The default of 100 clients is below what most "
    "deployments bring along: pods x processes x the pool of each.",
)
def clients_few(facts: Facts) -> Iterator[Finding]:
    limit, size = facts.settings.max_client_conn, facts.settings.default_pool_size
    if size and limit <= size * 2:
        yield warning(
            f"max_client_conn is {limit} for pools of {size}: hardly more clients than servers",
            f"max_client_conn = {size * 50} (a client costs about 1 kB)",
            facts.places.setting("max_client_conn"),
        )


@check(
    "min-pool",
    "config",
    title="min_pool_size fits into the pool",
    why="min_pool_size is cut down to the pool's size, so a larger value keeps the whole pool open for ever.",
)
def min_pool(facts: Facts) -> Iterator[Finding]:
    assert facts.config is not None
    for database in entries(facts):
        wanted = _wanted_minimum(facts, database)
        size = effective.pool_size(facts.config, database, None)
        if size and wanted >= size:
            yield note(
                f"min_pool_size {wanted} keeps all {size} servers of {database.name} open at all times",
                f"min_pool_size = {size // 4}, or a larger pool",
                facts.places.setting("min_pool_size"),
            )


def _wanted_minimum(facts: Facts, database: Database) -> int:
    own = database.min_pool_size
    return facts.settings.min_pool_size if own is None else own


@check(
    "workers-small-pool",
    "config",
    title="The pools are larger than the number of workers",
    why="Server connections belong to one worker. When a pool has fewer of them than there are workers, "
    "they move between workers, which takes up to a second each time.",
)
def workers_small_pool(facts: Facts) -> Iterator[Finding]:
    assert facts.config is not None
    workers = facts.settings.workers
    small = [d.name for d in entries(facts) if 0 < effective.pool_size(facts.config, d, None) < workers * 2]
    if workers > 1 and small:
        yield warning(
            f"{workers} workers share pools of fewer than {workers * 2} servers: {first(small)}",
            "fewer workers (one is enough until its process uses a whole core), or larger pools",
            facts.places.setting("workers"),
        )


@check(
    "prepared-off",
    "config",
    title="Prepared statements work in transaction mode",
    why="With max_prepared_statements = 0 a server keeps one prepared statement at a time, so PostgreSQL plans "
    "nearly every query again; with session_state = ignore a statement prepared in one transaction is gone in the "
    "next.",
)
def prepared_off(facts: Facts) -> Iterator[Finding]:
    assert facts.config is not None
    modes = {effective.pool_mode(facts.config, d, None) for d in entries(facts)}
    if facts.settings.max_prepared_statements == 0 and modes & {"transaction", "statement"}:
        yield warning(
            "max_prepared_statements = 0 in transaction mode: nearly every query is planned again",
            "max_prepared_statements = 200, and the drivers' statement caches on again",
            facts.places.setting("max_prepared_statements"),
        )


@check(
    "reset-always",
    "config",
    title="No reset query after every transaction",
    why="server_reset_query_always adds a round trip to every transaction and throws away the prepared "
    "statements of the server. With session_state = track nothing is left that it would have to clean.",
)
def reset_always(facts: Facts) -> Iterator[Finding]:
    if facts.settings.server_reset_query_always:
        yield warning(
            "server_reset_query_always = 1 runs server_reset_query after every transaction",
            "server_reset_query_always = 0 with session_state = track",
            facts.places.setting("server_reset_query_always"),
        )


@check(
    "lifetime",
    "config",
    title="Server connections live long enough to be worth it",
    why="A new connection costs 3 to 30 ms and a process of PostgreSQL. server_lifetime = 0 uses each once "
    "only.",
)
def lifetime(facts: Facts) -> Iterator[Finding]:
    assert facts.config is not None
    for database in entries(facts):
        life = effective.server_lifetime(facts.config, database)
        if life < 60:
            yield warning(
                f"Servers of {database.name} are replaced after {life:g} s",
                "server_lifetime = 3600",
                facts.places.setting("server_lifetime"),
            )
