"""Asks a console and a PostgreSQL for what the checks look at; reads only."""

from __future__ import annotations

from typing import Any

import msgspec

from pgferry.client import ClientError, Connection, QueryError, Target
from pgferry.config.global_settings import Settings
from pgferry.config.kinds import BadValue
from pgferry.config.model import Config, Database, User
from pgferry.config.settings import settings_by_name
from pgferry.doctor.model import Console, Row, Server

SHOWS = (
    "VERSION",
    "CONFIG",
    "DATABASES",
    "USERS",
    "POOLS",
    "LISTS",
    "STATS",
    "CLIENTS",
    "SERVERS",
    "STATE",
    "PINS",
    "STATE_COUNTERS",
    "LONGEST",
    "CLOSES",
)
_ACTIVITY = """
SELECT pid, usename, datname, application_name, state, pg_catalog.left(query, 200) AS query,
       extract(epoch FROM pg_catalog.now() - xact_start) AS xact_age,
       extract(epoch FROM pg_catalog.now() - query_start) AS query_age,
       extract(epoch FROM pg_catalog.now() - state_change) AS state_age,
       pg_catalog.cardinality(pg_catalog.pg_blocking_pids(pid)) AS blockers
FROM pg_catalog.pg_stat_activity
WHERE backend_type = 'client backend' AND pid <> pg_catalog.pg_backend_pid()
"""
_STATEMENTS = "SELECT query, calls FROM pg_stat_statements ORDER BY calls DESC LIMIT 2000"
_ROLE_SETTINGS = "SELECT pg_catalog.unnest(setconfig) FROM pg_catalog.pg_db_role_setting"
_HBA = """
SELECT type, pg_catalog.array_to_string(database, ',') AS database, auth_method, address, line_number
FROM pg_catalog.pg_hba_file_rules WHERE error IS NULL
"""
_DATABASE_COLUMNS = {
    "pool_size": "pool_size",
    "min_pool_size": "min_pool_size",
    "reserve_pool_size": "reserve_pool_size",
    "pool_mode": "pool_mode",
    "max_connections": "max_db_connections",
}


def ask_console(target: Target) -> Console:
    """Everything the checks want to know of a console. Raises ClientError when it cannot be asked."""
    shows = {}
    with Connection(target, application_name="pgferry doctor", timeout=30.0) as console:
        for what in SHOWS:
            try:
                shows[what] = console.rows(f"SHOW {what}")
            except QueryError:
                continue  # PgBouncer does not know it, or a user in stats_users may not see it
    return Console(target, shows)


def ask_server(target: Target, cores: int) -> Server:
    """Everything the checks want to know of a PostgreSQL; `cores` 0 is unknown. Raises ClientError."""
    with Connection(target, application_name="pgferry doctor", timeout=30.0) as server:
        facts = Server(target, tls=server.tls, cores=cores)
        facts.is_pooler = int(server.value("SELECT pg_catalog.pg_backend_pid()")) != server.pid
        facts.superuser = (
            server.value("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user") == "t"
        )
        rows = server.rows("SELECT name, setting FROM pg_catalog.pg_settings")
        facts.settings = {str(row["name"]): row["setting"] or "" for row in rows}
        server.query("SET statement_timeout = '10s'")  # nobody is held up by the doctor
        facts.activity = server.rows(_ACTIVITY)
        facts.statements = _optional(server, _STATEMENTS)
        facts.role_settings = [row[0] or "" for row in server.query(_ROLE_SETTINGS).rows]
        facts.hba = _optional(server, _HBA) or []
        return facts


def _optional(server: Connection, sql: str) -> list[Row] | None:
    """The rows, None when the extension is missing or the right to see them."""
    try:
        return server.rows(sql)
    except QueryError:
        return None


def config_of(console: Console) -> Config:
    """The configuration that a running pooler shows; values it words differently keep their defaults."""
    values: dict[str, Any] = {}
    for row in console.rows("CONFIG"):
        setting = settings_by_name.get(row["key"] or "")
        if setting is None:
            continue
        text = row["value"] or ""
        try:
            values[setting.attribute] = (
                setting.null_value if setting.default is None and not text else setting.kind.parse(text)
            )
        except BadValue:
            continue
    if not console.is_pgferry:
        values["session_state"] = "ignore"  # PgBouncer has nothing else
    users = {str(row["name"]): _user(row) for row in console.rows("USERS") if row.get("name")}
    databases = [_database(row) for row in console.shows.get("DATABASES", [])]
    named = {d.name: d for d in databases if d.name not in ("pgbouncer", "pgferry")}
    try:
        settings = msgspec.convert(values, Settings)
    except msgspec.ValidationError as e:
        raise ClientError(f"SHOW CONFIG of {console.target} cannot be read: {e}") from e
    return Config(settings=settings, databases=named, users=users)


def _database(row: Row) -> Database:
    limits: dict[str, Any] = {
        ours: (row[theirs] if theirs == "pool_mode" else int(row[theirs] or 0))
        for theirs, ours in _DATABASE_COLUMNS.items()
        if row.get(theirs)
    }
    return Database(
        name=row["name"] or "",
        dbname=row.get("database") or "",
        hosts=tuple(filter(None, (row.get("host") or "").split(","))),
        port=int(row.get("port") or 5432),
        user=row.get("force_user") or None,
        **limits,
    )


def _user(row: Row) -> User:
    size = (row.get("pool_size") or "").strip()
    return User(
        name=row["name"] or "",
        secret="",  # not shown; that it is listed is enough for the checks
        pool_size=int(size) if size else None,
        max_user_connections=int(row.get("max_user_connections") or 0) or None,
    )
