"""The pooler's present figures, the console's own among them: what SHOW tells and what metrics are made of."""

import asyncio
from typing import Any

from pgferry.supervisor import merge
from pgferry.supervisor.pooler import Pooler

CONSOLE = "pgbouncer"

Row = dict[str, Any]

_WORKER_LISTS = ("free_clients", "used_clients", "login_clients", "free_servers", "used_servers")


async def pools(pooler: Pooler) -> list[Row]:
    """One row for each database and user. The longest wait is maxwait (s) and maxwait_us (what is left of it)."""
    rows = await pooler.pools()
    if not any(row["database"] == CONSOLE for row in rows):
        counts = dict.fromkeys(merge.POOL_COUNTS, 0) | {"cl_active": pooler.console_sessions}
        rows.append({"database": CONSOLE, "user": CONSOLE, "pool_mode": "statement", **counts})
        rows.sort(key=lambda row: (str(row["database"]), str(row["user"])))
    for row in rows:
        wait = int(row.get("maxwait_us") or 0)
        row["maxwait"], row["maxwait_us"] = divmod(wait, 1_000_000)
    return rows


async def databases(pooler: Pooler) -> list[Row]:
    """One row for each entry, in order of name."""
    rows = [row for row in await pooler.databases() if row["name"] != CONSOLE]
    rows.append(_console_entry(pooler))
    rows.sort(key=lambda row: str(row["name"]))
    return rows


def _console_entry(pooler: Pooler) -> Row:
    settings = pooler.config.settings
    return {
        "name": CONSOLE,
        "host": None,
        "port": settings.listen_port,
        "database": CONSOLE,
        "force_user": CONSOLE,
        "pool_size": 2,
        "reserve_pool_size": 0,
        "server_lifetime": int(settings.server_lifetime),
        "pool_mode": "statement",
        "max_connections": settings.max_db_connections,
        "current_connections": 0,
        "max_client_connections": settings.max_db_client_connections,
        "current_client_connections": pooler.console_sessions,
        "paused": 0,
        "disabled": 0,
    }


async def users(pooler: Pooler) -> list[Row]:
    """One row for each user."""
    rows = await pooler.users()
    if any(row["name"] == CONSOLE for row in rows):
        return rows
    settings = pooler.config.settings
    return [
        *rows,
        {
            "name": CONSOLE,
            "max_user_connections": settings.max_user_connections,
            "max_user_client_connections": settings.max_user_client_connections,
        },
    ]


async def lists(pooler: Pooler) -> dict[str, int]:
    """How many there are of everything, by name."""
    entries, roles, pairs, peer_pools, counted = await asyncio.gather(
        pooler.databases(), pooler.users(), pooler.pools(), pooler.show("peer_pools"), pooler.show("lists")
    )
    counts = merge.totals(counted)
    dns = pooler.resolver
    return {
        "databases": len({str(row["name"]) for row in entries} | {CONSOLE}),
        "users": len({str(row["name"]) for row in roles} | {CONSOLE}),
        "peers": len(pooler.config.peers),
        "pools": len({(row["database"], row["user"]) for row in pairs} | {(CONSOLE, CONSOLE)}),
        "peer_pools": len(merge.peer_pools(peer_pools)),
        **{name: counts.get(name, 0) for name in _WORKER_LISTS},
        "dns_names": len(dns.rows()),
        "dns_zones": len(dns.zones()),
        "dns_queries": dns.pending,
        "dns_pending": 0,
    }
