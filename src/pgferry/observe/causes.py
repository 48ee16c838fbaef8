"""Who is behind refused and too many logins, said when they happen: by then nobody has to ask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

_STORM = 100
"""So many logins to a database within a sample, with few transactions, are a storm."""

Row = Mapping[str, Any]
Counts = dict[str, tuple[int, int]]
"""Logins and transactions by database."""


def is_client_limit(reason: str) -> bool:
    """Whether a login was refused because too many clients are there already."""
    return "client_conn" in reason


def most_clients(clients: Iterable[Row]) -> tuple[str, int, int]:
    """(who has most clients, how many, of how many); `clients`: counts by application_name, database and user."""
    counts: Counter[str] = Counter()
    for row in clients:
        if row["database"] != "pgbouncer":
            name = row["application_name"] or "clients without application_name"
            counts[f"{name} ({row['database']}/{row['user']})"] += int(row["count"])
    who, count = max(counts.items(), key=lambda item: item[1], default=("nobody", 0))
    return who, count, counts.total()


def logins(totals: Mapping[str, Mapping[str, int]]) -> Counts:
    """From the counters of each database."""
    return {
        database: (counted["client_login_count"], counted["xact_count"])
        for database, counted in totals.items()
        if database != "pgbouncer"
    }


def storms(now: Counts, before: Counts) -> dict[str, int]:
    """Databases that clients logged in to again and again between two samples, and how often."""
    found = {}
    for database, (count, transactions) in now.items():
        old_count, old_transactions = before.get(database, (0, 0))
        new = count - old_count
        if new >= _STORM and new * 5 > transactions - old_transactions:
            found[database] = new
    return found
