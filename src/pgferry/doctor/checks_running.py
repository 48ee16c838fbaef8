"""Checks of a running pooler: who waits, for whom, and which limit is near."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime

from pgferry.config.show import show_config_rows
from pgferry.doctor.model import (
    Facts,
    Finding,
    Row,
    check,
    dicts,
    error,
    first,
    many,
    note,
    number,
    seconds,
    warning,
)

_NEAR = 0.8
_LONG_IDLE = 10.0
_LONG_QUERY = 5.0
_FAILED = ("connect failed", "connect timeout", "login failed", "lookup failed")


def _age(row: Row, column: str) -> float:
    """Seconds since a time of SHOW CLIENTS or SERVERS, which has the pooler's own clock and zone."""
    text = (row.get(column) or "").rsplit(" ", 1)[0]
    try:
        return max((datetime.now() - datetime.fromisoformat(text)).total_seconds(), 0.0)
    except ValueError:
        return 0.0


def _wait(row: Row) -> float:
    return number(row, "wait") + number(row, "wait_us") / 1e6


def _same_pool(row: Row, pool: Row) -> bool:
    return (row["database"], row["user"]) == (pool["database"], pool["user"])


def _holders(facts: Facts, pool: Row) -> str:
    """What the servers of a pool are busy with, longest first."""
    clients = {row["ptr"]: row for row in dicts(facts, "CLIENTS")}
    texts = []
    for row in dicts(facts, "SERVERS"):
        if not _same_pool(row, pool) or not row.get("link"):
            continue
        client = clients.get(row["link"], {})
        who = client.get("application_name") or f"client {row['link']}"
        what = "runs a query" if _wait(row) else "sits in a transaction"
        since = _wait(row) or _age(client or row, "request_time")
        if row["replication"] != "none":
            what = "has a replication connection"
            since = _age(row, "connect_time")
        texts.append((since, f"{who} {what} for {seconds(since)} (backend {row['remote_pid']})"))
    return first((text for _, text in sorted(texts, reverse=True)), 3)


def _statement(facts: Facts, server: Row) -> str:
    """What the server's client sent last, when statement_text_length lets it be seen."""
    row = next((r for r in dicts(facts, "LONGEST") if r["server"] == server["ptr"]), {})
    return " ".join((row.get("statement") or "").split())


def _colon(text: str, before: str = "") -> str:
    return f"{before}: {text}" if text else ""


def _hint(facts: Facts, server: Row) -> str:
    """How to see the statement, when it is not there."""
    if _statement(facts, server) or not facts.console or not facts.console.is_pgferry:
        return ""
    return "; statement_text_length = 200 shows which query"


def _most(clients: Iterable[Row]) -> str:
    """The applications with the most of these clients."""
    counts = Counter(
        f"{row['application_name'] or 'no application_name'} ({row['database']}/{row['user']})"
        for row in clients
    )
    return first([f"{name}: {count}" for name, count in counts.most_common()])


@check(
    "clients-wait",
    "console",
    title="No client waits for a server",
    why="Waiting clients are usually a symptom of slow queries or forgotten transactions, not of a small "
    "pool: a larger pool helps only while PostgreSQL has idle cores. So look at who holds the servers first.",
)
def clients_wait(facts: Facts) -> Iterator[Finding]:
    for pool in dicts(facts, "POOLS"):
        waiting = int(number(pool, "cl_waiting"))
        longest = number(pool, "maxwait") + number(pool, "maxwait_us") / 1e6
        if not waiting or longest < 0.5:
            continue
        severity = error if longest >= 5 else warning
        mine = [r for r in dicts(facts, "CLIENTS") if r["state"] == "waiting" and _same_pool(r, pool)]
        whose = f" ({_most(mine)})" if mine else ""
        yield severity(
            f"{pool['database']}/{pool['user']}: {many(waiting, 'client')} waiting{whose}, the longest for "
            f"{seconds(longest)}; {pool['sv_active']} servers busy, {pool['sv_idle']} idle, "
            f"{pool['sv_login']} logging in",
            f"held by: {_holders(facts, pool)}"
            if _holders(facts, pool)
            else "see `Who waits for what` in docs/troubleshooting.md",
            "SHOW POOLS, SHOW SERVERS",
        )


@check(
    "idle-in-transaction",
    "console",
    title="No client sits idle in a transaction",
    why="It keeps a server that does nothing, and its transaction holds back vacuum.",
)
def idle_in_transaction(facts: Facts) -> Iterator[Finding]:
    clients = {row["ptr"]: row for row in dicts(facts, "CLIENTS")}
    modes = {(row["database"], row["user"]): row["pool_mode"] for row in dicts(facts, "POOLS")}
    pinned = {row["server"] for row in dicts(facts, "PINS")}
    for row in dicts(facts, "SERVERS"):
        client = clients.get(row.get("link") or "")
        if client is None or _wait(row) or row["ptr"] in pinned:
            continue
        since = _age(client, "request_time")
        if modes.get((row["database"], row["user"])) != "session" and since >= _LONG_IDLE:
            yield warning(
                f"Client {client['ptr']} ({client['application_name'] or client['addr']}) of "
                f"{row['database']}/{row['user']} "
                f"has a server and does nothing with it since {seconds(since)}"
                f"{_colon(_statement(facts, row), '; its last statement')}",
                "end the transaction in the application; idle_transaction_timeout = 60; now: KILL_CLIENT "
                f"{client['id']} on the console",
                "SHOW CLIENTS, SHOW SERVERS",
            )


@check(
    "long-query",
    "console",
    title="No query takes more than its share of the pool",
    why="Queries of many seconds eat a pool made for queries of milliseconds. Give them a pool of their "
    "own, or a replica.",
)
def long_query(facts: Facts) -> Iterator[Finding]:
    clients = {row["ptr"]: row for row in dicts(facts, "CLIENTS")}
    for row in dicts(facts, "SERVERS"):
        if row.get("link") and _wait(row) >= _LONG_QUERY:
            client = clients.get(row["link"] or "", {})
            who = client.get("application_name") or f"client {row['link']}"
            yield note(
                f"A query of {who} ({row['database']}/{row['user']}) runs for {seconds(_wait(row))}"
                f"{_colon(_statement(facts, row))}",
                "statement_timeout for the role; a second entry in [databases] with a small pool_size for "
                "reports; "
                f"now: SELECT pg_cancel_backend({row['remote_pid']}) in PostgreSQL{_hint(facts, row)}",
                "SHOW SERVERS",
            )


@check(
    "pool-full",
    "console",
    title="Pools have servers to spare",
    why="Above 80 % use, waiting times rise steeply with every further client.",
)
def pool_full(facts: Facts) -> Iterator[Finding]:
    sizes = {row["name"]: int(number(row, "pool_size")) for row in dicts(facts, "DATABASES")}
    for pool in dicts(facts, "POOLS"):
        size, busy = sizes.get(pool["database"], 0), int(number(pool, "sv_active"))
        if size and busy >= size * _NEAR and busy > 1:
            yield note(
                f"{busy} of {size} servers of {pool['database']}/{pool['user']} are in use",
                "`pgferry advise` tells which size the measured load needs",
                "SHOW POOLS",
            )


@check(
    "clients-full",
    "console",
    title="There is room for more clients",
    why="At max_client_conn every further client is refused.",
)
def clients_full(facts: Facts) -> Iterator[Finding]:
    assert facts.console is not None
    used = sum(number(row, "items") for row in dicts(facts, "LISTS") if row["list"] == "used_clients")
    limit = float(facts.console.setting("max_client_conn") or 0)
    if limit and used >= limit * _NEAR:
        severity = error if used >= limit else warning
        yield severity(
            f"{used:.0f} of {limit:.0f} client connections are in use; most by "
            f"{_most(dicts(facts, 'CLIENTS'))}",
            f"fewer connections there; or max_client_conn = {limit * 2:.0f}, if the limit of open files "
            "allows it",
            "SHOW LISTS",
        )


@check(
    "waits-long",
    "console",
    title="Waiting is a small part of a query's time",
    why="avg_wait_time beside avg_query_time tells how much of what applications see is the pool's doing.",
)
def waits_long(facts: Facts) -> Iterator[Finding]:
    for row in dicts(facts, "STATS"):
        wait, query = number(row, "avg_wait_time"), number(row, "avg_query_time")
        if query and wait > query / 2 and wait > 1000:
            yield warning(
                f"{row['database']}: a query takes {seconds(query / 1e6)} on average as clients see it, and "
                f"{seconds(wait / 1e6)} of that is waiting for a server",
                "see clients-wait; `pgferry advise --console` for the size",
                "SHOW STATS",
            )


@check(
    "paused",
    "console",
    title="Nothing is paused or disabled",
    why="PAUSE and DISABLE hold until they are undone; clients of a paused database wait, those of a "
    "disabled one are refused.",
)
def paused(facts: Facts) -> Iterator[Finding]:
    if any(row["key"] == "paused" and row["value"] == "yes" for row in dicts(facts, "STATE")):
        yield error("Everything is paused", "RESUME on the console", "SHOW STATE")
    for row in dicts(facts, "DATABASES"):
        if number(row, "paused"):
            yield error(f"Database {row['name']} is paused", f"RESUME {row['name']}", "SHOW DATABASES")
        if number(row, "disabled"):
            yield error(f"Database {row['name']} is disabled", f"ENABLE {row['name']}", "SHOW DATABASES")


@check(
    "server-logins",
    "console",
    title="PostgreSQL can be reached",
    why="Clients that wait while a pool has no server, or only some that are logging in, wait for "
    "PostgreSQL itself.",
)
def server_logins(facts: Facts) -> Iterator[Finding]:
    failed = [
        f"{row['reason']} ({row['count']})"
        for row in dicts(facts, "CLOSES")
        if row["kind"] == "server" and any(word in (row["reason"] or "") for word in _FAILED)
    ]
    so_far = f"; so far: {first(failed)}" if failed else ""
    for pool in dicts(facts, "POOLS"):
        servers = sum(number(pool, c) for c in ("sv_active", "sv_idle", "sv_used", "sv_tested"))
        if number(pool, "cl_waiting") and not servers and number(pool, "maxwait") >= 1:
            yield error(
                f"Clients of {pool['database']}/{pool['user']} wait and there is no server connection"
                f"{so_far}",
                "the log says why: connect failed, server login failed, server DNS lookup failed",
                "SHOW POOLS, the log",
            )


@check(
    "not-reloaded",
    "config",
    "console",
    title="The running pooler has the file's settings",
    why="A change in the file counts after RELOAD, a start-only one after a restart; SET on the console "
    "lasts until then.",
)
def not_reloaded(facts: Facts) -> Iterator[Finding]:
    assert facts.config is not None and facts.console is not None
    if not facts.places.path:
        return
    running = {row["key"]: row for row in dicts(facts, "CONFIG")}
    for name, value, _default, reloadable in show_config_rows(facts.config):
        row = running.get(name)
        if row is not None and (row["value"] or "") != (value or "") and name not in ("conffile", "job_name"):
            yield warning(
                f"{name} is {row['value'] or 'empty'} in the running pooler and {value or 'empty'} in the "
                "file",
                "RELOAD on the console" if reloadable == "yes" else "a restart",
                facts.places.setting(name),
            )
