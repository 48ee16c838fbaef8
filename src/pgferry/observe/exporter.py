"""The figures of prometheus-community's pgbouncer_exporter, under its names, types and labels.

Dashboards and alert rules made for PgBouncer work unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from pgferry import VERSION
from pgferry.config.global_settings import Settings

Row = Mapping[str, Any]

# figure -> (metric, factor, help)
_DATABASES = {
    "pool_size": ("pool_size", 1.0, "Most server connections of a pool of this database"),
    "reserve_pool_size": ("reserve_pool", 1.0, "Extra server connections of a pool of this database"),
    "max_connections": ("max_connections", 1.0, "Most server connections to this database; 0 is no limit"),
    "current_connections": ("current_connections", 1.0, "Server connections to this database"),
    "paused": ("paused", 1.0, "1 while this database is paused"),
    "disabled": ("disabled", 1.0, "1 while this database is disabled"),
}
_DATABASE_LABELS = ("name", "host", "port", "database", "force_user", "pool_mode")
_STATS = {
    "query_count": ("queries_pooled", 1.0, "Queries of clients"),
    "query_time": ("queries_duration_seconds", 1e-6, "Time that queries took"),
    "received": ("received_bytes", 1.0, "Bytes received from clients"),
    "sent": ("sent_bytes", 1.0, "Bytes sent to clients"),
    "wait_time": ("client_wait_seconds", 1e-6, "Time that clients waited for a server"),
    "xact_count": ("sql_transactions_pooled", 1.0, "Transactions of clients"),
    "xact_time": ("server_in_transaction_seconds", 1e-6, "Time that transactions took"),
    "server_assignment_count": ("server_assignments", 1.0, "How often a client was given a server"),
    "client_parse_count": ("client_parses", 1.0, "Prepared statements made by clients"),
    "server_parse_count": ("server_parses", 1.0, "Prepared statements made on servers"),
    "bind_count": ("binds", 1.0, "Prepared statements bound by clients"),
}
_POOLS = {
    "cl_active": ("client_active_connections", "Clients that are linked to a server or idle"),
    "cl_active_cancel_req": ("client_active_cancel_connections", "Cancel requests on their way"),
    "cl_waiting": ("client_waiting_connections", "Clients that wait for a server"),
    "cl_waiting_cancel_req": (
        "client_waiting_cancel_connections",
        "Cancel requests that wait for their turn",
    ),
    "sv_active": ("server_active_connections", "Servers linked to a client"),
    "sv_active_cancel": ("server_active_cancel_connections", "Servers that a cancel request is sent to"),
    "sv_being_canceled": (
        "server_being_canceled_connections",
        "Free servers kept back until a cancel request is over",
    ),
    "sv_idle": ("server_idle_connections", "Servers ready for use"),
    "sv_used": ("server_used_connections", "Servers to be checked before the next use"),
    "sv_tested": ("server_testing_connections", "Servers that run a reset or check query"),
    "sv_login": ("server_login_connections", "Servers that connect or log in"),
}
_LISTS = {
    "databases": ("databases", "Databases"),
    "users": ("users", "Users"),
    "pools": ("pools", "Pools"),
    "free_clients": ("free_clients", "Kept for compatibility; always 0"),
    "used_clients": ("used_clients", "Clients that are logged in"),
    "login_clients": ("login_clients", "Clients that are logging in"),
    "free_servers": ("free_servers", "Servers without a client"),
    "used_servers": ("used_servers", "Servers in use"),
    "dns_names": ("cached_dns_names", "Host names in the cache"),
    "dns_zones": ("cached_dns_zones", "Kept for compatibility; always 0"),
    "dns_queries": ("in_flight_dns_queries", "Name lookups under way"),
}


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _gauges(
    prefix: str, labels: Sequence[str], table: Mapping[str, Any], rows: Sequence[Row]
) -> Iterable[Metric]:
    for column, (name, *factor, text) in table.items():
        family = GaugeMetricFamily(f"pgbouncer_{prefix}_{name}", text, labels=labels)
        for row in rows:
            family.add_metric(
                [_text(row[label]) for label in labels], float(row[column]) * (factor[0] if factor else 1.0)
            )
        yield family


def databases(rows: Sequence[Row]) -> Iterable[Metric]:
    """Entries, their limits and their connections."""
    return _gauges("databases", _DATABASE_LABELS, _DATABASES, rows)


def pools(rows: Sequence[Row]) -> Iterable[Metric]:
    """Clients and servers of each pool."""
    yield from _gauges("pools", ("database", "user"), _POOLS, rows)
    wait = GaugeMetricFamily(
        "pgbouncer_pools_client_maxwait_seconds",
        "How long the oldest waiting client has waited",
        labels=("database", "user"),
    )
    for row in rows:
        wait.add_metric([row["database"], row["user"]], row["maxwait"] + row["maxwait_us"] / 1e6)
    yield wait


def stats(totals: Mapping[str, Mapping[str, int]]) -> Iterable[Metric]:
    """What was counted for each database."""
    for counter, (name, factor, text) in _STATS.items():
        family = CounterMetricFamily(f"pgbouncer_stats_{name}", text, labels=("database",))
        for database, counted in totals.items():
            family.add_metric([database], counted[counter] * factor)
        yield family


def lists(counts: Mapping[str, int]) -> Iterable[Metric]:
    """How many there are of everything."""
    for counted, (name, text) in _LISTS.items():
        yield GaugeMetricFamily(f"pgbouncer_{name}", text, value=counts[counted])


def config(settings: Settings) -> Iterable[Metric]:
    """Limits from the configuration, the version, and that we are up."""
    for name, value, text in (
        ("max_client_connections", settings.max_client_conn, "max_client_conn"),
        ("max_user_connections", settings.max_user_connections, "max_user_connections; 0 is no limit"),
        ("max_db_connections", settings.max_db_connections, "max_db_connections; 0 is no limit"),
    ):
        yield GaugeMetricFamily(f"pgbouncer_config_{name}", f"The setting {text}", value=value)
    version = GaugeMetricFamily(
        "pgbouncer_version_info", "The version as SHOW VERSION tells it", labels=("version",)
    )
    version.add_metric([VERSION], 1)
    yield version
    yield GaugeMetricFamily("pgbouncer_up", "Whether the figures could be had", value=1)
