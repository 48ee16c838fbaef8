"""Checks of session state in transaction mode, by what the server has seen of it."""

from __future__ import annotations

from collections.abc import Iterator

from pgferry.config import effective
from pgferry.doctor.demand import entries
from pgferry.doctor.model import (
    Facts,
    Finding,
    Row,
    check,
    dicts,
    first,
    many,
    note,
    number,
    seconds,
    warning,
)
from pgferry.session.classify import classify
from pgferry.session.verdict import Touch

_WORDS = {
    Touch.SETTINGS: "settings or roles",
    Touch.PREPARED: "SQL-level prepared statements",
    Touch.LISTEN: "LISTEN",
    Touch.TEMP: "temporary objects",
    Touch.LOCKS: "session advisory locks",
    Touch.CURSORS: "WITH HOLD cursors",
}
_OLD_PIN = 60.0
_PARSES = 1000
_LOGINS = 100


def _ignoring(facts: Facts) -> list[str]:
    assert facts.config is not None
    return [
        d.name
        for d in entries(facts)
        if effective.pool_mode(facts.config, d, None) != "session"
        and effective.session_state(facts.config, d, None) == "ignore"
    ]


@check(
    "state-ignored",
    "config",
    title="Session state stays with the client that made it",
    why="With session_state = ignore, what a client sets with SET, SET ROLE, LISTEN, a temporary table or "
    "an advisory lock stays on the server connection, where another client finds it: another tenant's "
    "search_path, a lock nobody releases.",
)
def state_ignored(facts: Facts) -> Iterator[Finding]:
    names = _ignoring(facts)
    if not names:
        return
    place, change = facts.places.setting("session_state"), "session_state = track"
    if facts.console is not None and not facts.console.is_pgferry:
        place, change = facts.places.setting("pool_mode"), "pgferry with session_state = track"
    used = _used(facts)
    if used:
        kinds = ", ".join(used)
        yield warning(
            f"session_state = ignore in transaction mode, and applications use {kinds}: "
            f"{first(used.values(), 2)}",
            f"{change}; or pool_mode = session for these users",
            place,
        )
    elif facts.server is None or facts.server.statements is None:
        yield note(
            f"session_state = ignore in transaction mode ({first(names)}): whatever a client sets, the next "
            "one finds",
            f"{change}, or make sure that no application uses session state",
            place,
        )


def _used(facts: Facts) -> dict[str, str]:
    """The kinds of session state that the server has seen statements of, each with one of them."""
    if facts.server is None:
        return {}
    rows: list[Row] = [*(facts.server.statements or []), *facts.server.activity]
    used: dict[str, str] = {}
    for text in filter(None, (row["query"] for row in rows)):
        # DISCARD and RESET end state; pgferry's and PgBouncer's own are among them.
        verdict = classify(text.encode())
        touched = 0 if verdict.discards else verdict.touch
        for bit, words in _WORDS.items():
            if touched & bit and not text.lstrip()[:5].upper().startswith("RESET"):
                used.setdefault(words, " ".join(text.split())[:60])
    return used


@check(
    "pins",
    "console",
    title="Servers are not pinned for long",
    why="A pinned server serves one client only. A few do no harm; a pool full of them makes everybody else "
    "wait.",
)
def pins(facts: Facts) -> Iterator[Finding]:
    rows = list(dicts(facts, "PINS"))
    old = [row for row in rows if number(row, "age") >= _OLD_PIN]
    for row in old[:3]:
        yield warning(
            f"Client {row['client']} ({row['application_name'] or 'no application_name'}) of "
            f"{row['database']} has pinned a "
            f"server for {seconds(number(row, 'age'))}: {row['reasons']}",
            f"end that state in the application, pool_mode=session for user {row['user']}, pin_timeout, or "
            f"KILL_CLIENT {row['client']}",
            "SHOW PINS",
        )
    for pool in dicts(facts, "POOLS"):
        size = _pool_size(facts, pool)
        held = sum(r["database"] == pool["database"] and r["user"] == pool["user"] for r in rows)
        if size and held * 2 >= size:
            yield warning(
                f"{held} of {size} servers of {pool['database']}/{pool['user']} are pinned",
                "max_pinned below the pool's size keeps servers for everybody else; see SHOW PINS for the "
                "reasons",
                "SHOW PINS",
            )


def _pool_size(facts: Facts, pool: Row) -> int:
    row = next((r for r in dicts(facts, "DATABASES") if r["name"] == pool["database"]), None)
    return int(number(row, "pool_size")) if row else 0


@check(
    "state-errors",
    "console",
    title="Session state could always be restored",
    why="A restore that PostgreSQL refuses (a role or a table is gone) is an error for the client.",
)
def state_errors(facts: Facts) -> Iterator[Finding]:
    for row in dicts(facts, "STATE_COUNTERS"):
        if row["counter"] in ("replay_failures", "refusals") and number(row, "count"):
            yield note(
                f"{row['counter']} of {row['database']}/{row['user']}: {row['count']} ({row['reason']})",
                "the log has a line for each; see docs/session-state.md",
                "SHOW STATE_COUNTERS",
            )


@check(
    "statement-cache",
    "console",
    title="Drivers keep their prepared statements",
    why="A driver whose statement cache is off prepares the same text for each execution: one more message, "
    "one more parse and plan, and thousands of equal entries. Caches were switched off for poolers that "
    "could not keep prepared statements; pgferry keeps them.",
)
def statement_cache(facts: Facts) -> Iterator[Finding]:
    for row in dicts(facts, "STATS"):
        parses, binds = number(row, "total_client_parse_count"), number(row, "total_bind_count")
        if parses >= _PARSES and parses >= binds * 0.9:
            yield note(
                f"Clients of {row['database']} prepared {parses:.0f} times for {binds:.0f} executions",
                "statement caches on: prepareThreshold (JDBC), statement_cache_size (asyncpg), "
                "prepare_threshold (psycopg)",
                "SHOW STATS",
            )


@check(
    "login-storm",
    "console",
    title="Clients stay connected",
    why="A login costs hundreds of times as much as a transaction through a connection that is there: SCRAM "
    "is slow on purpose. Applications should keep a few connections to the pooler.",
)
def login_storm(facts: Facts) -> Iterator[Finding]:
    for row in dicts(facts, "STATS"):
        logins, transactions = number(row, "total_client_login_count"), number(row, "total_xact_count")
        if logins >= _LOGINS and logins * 5 > transactions:
            yield note(
                f"{row['database']}: {logins:.0f} logins for {transactions:.0f} transactions",
                "a small connection pool in the application (CONN_MAX_AGE, persistent connections)",
                "SHOW STATS",
            )


@check(
    "pinned-limit",
    "config",
    title="max_pinned is below the pool's size",
    why="max_pinned at or above the pool's size limits nothing: pins can still take every server.",
)
def pinned_limit(facts: Facts) -> Iterator[Finding]:
    assert facts.config is not None
    for database in entries(facts):
        limit, size = (
            effective.max_pinned(facts.config, database),
            effective.pool_size(facts.config, database, None),
        )
        if limit and size and limit >= size:
            yield warning(
                f"max_pinned is {limit} for {many(size, 'server')} of {database.name}",
                f"max_pinned = {max(size // 2, 1)}",
                facts.places.setting("max_pinned"),
            )
