"""How many server connections a configuration may open: pool by pool, within its limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pgferry.config import effective
from pgferry.config.model import Config, Database, User
from pgferry.doctor.model import Facts


@dataclass(frozen=True, slots=True)
class Demand:
    """The connections that one entry of [databases] may open: with one user, and with all of them."""

    database: Database
    one_user: int
    all_users: int
    pools: int
    unlimited: bool = False


def entries(facts: Facts) -> list[Database]:
    """The entries that lead to the given PostgreSQL, all of them when none names it; `*` included."""
    assert facts.config is not None
    config = facts.config
    found = [*config.databases.values(), *([config.autodb] if config.autodb else [])]
    if facts.server is None:
        return found
    target = facts.server.target
    there = [d for d in found if d.port == target.port and (target.host in d.hosts or _both_local(d, facts))]
    return there or found


def _both_local(database: Database, facts: Facts) -> bool:
    assert facts.server is not None
    local = {"localhost", "127.0.0.1", "::1"}
    return facts.server.target.is_local and (
        not database.hosts or any(h in local or h.startswith("/") for h in database.hosts)
    )


def demands(facts: Facts) -> Iterator[Demand]:
    """What each entry may open."""
    assert facts.config is not None
    config = facts.config
    for database in entries(facts):
        sizes = [_size(config, database, user) for user in users(config, database)]
        limit = effective.max_db_connections(config, database)
        unlimited = limit == 0 and any(size == 0 for size in sizes)
        cap = limit or 1_000_000
        yield Demand(database, min(max(sizes), cap), min(sum(sizes), cap), len(sizes), unlimited)


def users(config: Config, database: Database) -> list[User | None]:
    """Who may have a pool in an entry: its forced user, else everybody known, at least somebody."""
    if database.user is not None:
        return [config.users.get(database.user)]
    known = [user for user in config.users.values() if user.secret is not None]
    return [*known] or [None]


def _size(config: Config, database: Database, user: User | None) -> int:
    size = effective.pool_size(config, database, user)
    if size == 0:
        return 0
    size += effective.reserve_pool_size(config, database, user)
    limit = effective.max_user_connections(config, user)
    return min(size, limit) if limit else size
