"""Checks of a PostgreSQL: its limits and timeouts, and who holds it up now."""

from __future__ import annotations

from collections.abc import Iterator

from pgferry.doctor.model import (
    Facts,
    Finding,
    Server,
    check,
    error,
    first,
    many,
    note,
    number,
    seconds,
    warning,
)

_LONG_TRANSACTION = 300.0
_IDLE_IN_TRANSACTION = 60.0
_OLDEST_SUPPORTED = 14


def _server(facts: Facts) -> Server:
    assert facts.server is not None
    return facts.server


@check(
    "connections-used",
    "server",
    title="PostgreSQL has connections to spare",
    why="At max_connections logins fail for everybody, monitoring and the pooler included.",
)
def connections_used(facts: Facts) -> Iterator[Finding]:
    server = _server(facts)
    used, free = len(server.activity) + 1, server.for_clients
    if used >= free * 0.8:
        apps: dict[str, int] = {}
        for row in server.activity:
            name = row["application_name"] or f"user {row['usename']}"
            apps[name] = apps.get(name, 0) + 1
        largest = [f"{n} ({c})" for n, c in sorted(apps.items(), key=lambda item: -item[1])]
        severity = error if used >= free else warning
        yield severity(
            f"{used} of {free} connections are in use; most by {first(largest)}",
            "put the applications that connect directly behind the pooler; raise max_connections only for "
            "its pools",
            "pg_stat_activity",
        )


@check(
    "max-connections-high",
    "server",
    title="max_connections is not used as a pool",
    why="Every connection is a process of 5 to 10 MB and a slot that every snapshot looks at. Thousands of "
    "them are slower than a few dozen behind a pooler.",
)
def max_connections_high(facts: Facts) -> Iterator[Finding]:
    limit = _server(facts).number("max_connections")
    if limit > 500:
        yield note(
            f"max_connections = {limit:.0f}",
            "the sum of the pools and 20 % more, e.g. 100 to 300",
            "postgresql.conf",
        )


@check(
    "server-idle-in-transaction",
    "server",
    title="No session sits idle in a transaction",
    why="It keeps its locks and holds back vacuum in the whole cluster.",
)
def server_idle_in_transaction(facts: Facts) -> Iterator[Finding]:
    for row in _server(facts).activity:
        idle = number(row, "state_age")
        if (row["state"] or "").startswith("idle in transaction") and idle >= _IDLE_IN_TRANSACTION:
            yield warning(
                f"Backend {row['pid']} ({row['application_name'] or row['usename']}, {row['datname']}) is "
                "idle in a transaction since "
                f"{seconds(idle)}; last: {_short(row['query'])}",
                f"SELECT pg_terminate_backend({row['pid']}); idle_in_transaction_session_timeout = '60s'",
                "pg_stat_activity",
            )


@check(
    "long-transaction",
    "server",
    title="No transaction is open for minutes",
    why="Rows deleted or updated since it began cannot be vacuumed: tables and indexes grow.",
)
def long_transaction(facts: Facts) -> Iterator[Finding]:
    for row in _server(facts).activity:
        if number(row, "xact_age") >= _LONG_TRANSACTION and row["state"] == "active":
            yield warning(
                f"Backend {row['pid']} ({row['application_name'] or row['usename']}) has a transaction open "
                "for "
                f"{seconds(number(row, 'xact_age'))}: {_short(row['query'])}",
                "a replica or an entry of its own for reports; statement_timeout for the role",
                "pg_stat_activity",
            )


@check(
    "blocked",
    "server",
    title="Nobody waits for a lock",
    why="A session that waits for a lock holds a server of the pool as if it worked.",
)
def blocked(facts: Facts) -> Iterator[Finding]:
    rows = [r for r in _server(facts).activity if number(r, "blockers") and number(r, "query_age") >= 1.0]
    if rows:
        row = max(rows, key=lambda r: number(r, "query_age"))
        yield warning(
            f"{many(len(rows), 'session')} wait for locks, backend {row['pid']} since "
            f"{seconds(number(row, 'query_age'))}: "
            f"{_short(row['query'])}",
            f"SELECT pg_blocking_pids({row['pid']}) names who holds it; lock_timeout = '5s' for migrations",
            "pg_stat_activity",
        )


@check(
    "is-pooler",
    "server",
    title="The URL leads to PostgreSQL itself",
    why="A pooler in front of a pooler doubles the hops and the waiting. (The process id given at login was "
    "not that of the process that ran the query.)",
)
def is_pooler(facts: Facts) -> Iterator[Finding]:
    server = _server(facts)
    if server.is_pooler:
        severity = warning if facts.config is not None else note
        yield severity(
            f"A pooler answers at {server.target.host}:{server.target.port}",
            "give doctor and the [databases] entries the address of PostgreSQL itself",
            "the URL",
        )


@check(
    "password-encryption",
    "server",
    title="New passwords are stored for SCRAM",
    why="md5 hashes are enough to log in and quick to guess; PostgreSQL 18 warns that they go away.",
)
def password_encryption(facts: Facts) -> Iterator[Finding]:
    if _server(facts).settings.get("password_encryption") == "md5":
        yield note(
            "password_encryption = md5",
            "password_encryption = 'scram-sha-256', then set the passwords again",
            "postgresql.conf",
        )


@check(
    "hba-trust",
    "server",
    title="No password-free login over the network",
    why="trust lets everybody who reaches the port be whoever they say they are.",
)
def hba_trust(facts: Facts) -> Iterator[Finding]:
    server = _server(facts)
    loopback = ("127.0.0.1", "::1", "localhost", "samehost")
    bad = [
        f"line {row['line_number']}"
        for row in server.hba
        if row["auth_method"] == "trust" and row["type"] != "local" and row["address"] not in loopback
    ]
    listens = server.settings.get("listen_addresses", "")
    if bad and any(a.strip() not in (*loopback, "") for a in listens.split(",")):
        yield error(
            f"pg_hba.conf lets other hosts in without a password ({first(bad)})",
            "scram-sha-256 instead of trust",
            "pg_hba.conf",
        )


@check(
    "server-tls",
    "server",
    title="Connections over the network can be encrypted",
    why="Queries and results can be read on the way.",
)
def server_tls(facts: Facts) -> Iterator[Finding]:
    server = _server(facts)
    if not server.target.is_local and not server.tls:
        yield warning(
            f"The connection to {server.target.host} is not encrypted (ssl = "
            f"{server.settings.get('ssl', '?')})",
            "ssl = on with a certificate, hostssl in pg_hba.conf",
            "postgresql.conf",
        )


@check(
    "superuser",
    "server",
    title="The application's user is no superuser",
    why="A superuser may take the slots reserved for repairs, ignores row-level security, and a hole in the "
    "application is a hole in the server.",
)
def superuser(facts: Facts) -> Iterator[Finding]:
    server = _server(facts)
    names = {row["usename"] for row in server.activity if row["usename"]}
    config = facts.config
    if server.superuser and config is not None:
        forced = {d.user for d in config.databases.values() if d.user}
        if server.target.user in forced or server.target.user in (names & set(config.users)):
            yield warning(
                f"{server.target.user} is a superuser and has pools",
                "a role without SUPERUSER for applications",
                facts.places.path or "SHOW USERS",
            )


@check(
    "no-statements",
    "server",
    title="pg_stat_statements is there",
    why="Which query is slow, how often and since when: without it nobody knows, and doctor cannot see "
    "session state or statement caches.",
)
def no_statements(facts: Facts) -> Iterator[Finding]:
    if _server(facts).statements is None:
        yield note(
            "pg_stat_statements cannot be read in this database",
            "shared_preload_libraries = 'pg_stat_statements', CREATE EXTENSION pg_stat_statements, GRANT "
            "pg_read_all_stats",
            "postgresql.conf",
        )


@check(
    "old-version",
    "server",
    title="The server's version is supported",
    why="Unsupported versions get no fixes; before 14 snapshots with many connections are slow.",
)
def old_version(facts: Facts) -> Iterator[Finding]:
    version = _server(facts).version
    if 0 < version < _OLDEST_SUPPORTED:
        yield note(f"PostgreSQL {version} is not supported any more", f"{_OLDEST_SUPPORTED} or later", "")


@check(
    "abandoned-queries",
    "server",
    title="Queries of clients that are gone end",
    why="A pooler's connection that breaks leaves its query running, for nobody. "
    "client_connection_check_interval makes PostgreSQL look.",
)
def abandoned_queries(facts: Facts) -> Iterator[Finding]:
    server = _server(facts)
    if server.settings.get("client_connection_check_interval") == "0" and not server.number(
        "statement_timeout"
    ):
        yield note(
            "client_connection_check_interval = 0: a query whose client is gone runs to its end",
            "client_connection_check_interval = '10s'",
            "postgresql.conf",
        )


@check(
    "reserved-slots",
    "server",
    title="A slot is left for the one who repairs",
    why="With superuser_reserved_connections = 0 a full server cannot be looked at by anybody.",
)
def reserved_slots(facts: Facts) -> Iterator[Finding]:
    if _server(facts).settings.get("superuser_reserved_connections") == "0":
        yield warning(
            "superuser_reserved_connections = 0", "superuser_reserved_connections = 3", "postgresql.conf"
        )


def _short(text: str | None) -> str:
    return " ".join((text or "").split())[:60]
