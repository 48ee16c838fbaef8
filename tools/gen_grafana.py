"""Writes deploy/grafana/pgferry.json, the dashboard, from the list of panels here (--check only compares)."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from generated import write_or_check

PAGE = Path(__file__).resolve().parent.parent / "deploy" / "grafana" / "pgferry.json"
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WHERE = 'instance=~"$instance", database=~"$database"'
WIDTH, HEIGHT = 8, 8


def rate(metric: str, by: str, where: str = WHERE) -> str:
    """A counter per second."""
    return f"sum by ({by}) (rate({metric}{{{where}}}[$__rate_interval]))"


def quantile(share: float, histogram: str, by: str, where: str = WHERE) -> str:
    """A percentile of a histogram."""
    return f"histogram_quantile({share}, {rate(f'{histogram}_bucket', f'le, {by}', where)})"


def total(metric: str, by: str = "database, user") -> str:
    """A gauge added up."""
    return f"sum by ({by}) ({metric}{{{WHERE}}})"


INSTANCE = 'instance=~"$instance"'
POOL = "{{database}}/{{user}}"
# title, unit, what it says, then (legend, expression)
Panel = tuple[str, str, str, list[tuple[str, str]]]
ROWS: list[tuple[str, list[Panel]]] = [
    (
        "Who waits",
        [
            (
                "Clients that wait",
                "short",
                "Above 0 for long: the pool is used up. First look at what holds the servers (SHOW LONGEST).",
                [(POOL, total("pgbouncer_pools_client_waiting_connections"))],
            ),
            (
                "Waiting for a server",
                "s",
                "How long clients waited for a server.",
                [
                    (
                        f"p{round(share * 100)} {{{{database}}}}",
                        quantile(share, "pgferry_wait_duration_seconds", "database"),
                    )
                    for share in (0.5, 0.95, 0.99)
                ],
            ),
            (
                "Longest wait now",
                "s",
                "The oldest waiting client.",
                [(POOL, f"max by (database, user) (pgbouncer_pools_client_maxwait_seconds{{{WHERE}}})")],
            ),
        ],
    ),
    (
        "Load",
        [
            (
                "Transactions",
                "ops",
                "Transactions per second.",
                [("{{database}}", rate("pgbouncer_stats_sql_transactions_pooled_total", "database"))],
            ),
            (
                "Query time",
                "s",
                "From a query to the end of its answer, waiting included.",
                [
                    (
                        f"p{round(share * 100)} {{{{database}}}}",
                        quantile(share, "pgferry_query_duration_seconds", "database"),
                    )
                    for share in (0.5, 0.95, 0.99)
                ],
            ),
            (
                "Transaction time",
                "s",
                "From the first query of a transaction to its end.",
                [
                    (
                        f"p{round(share * 100)} {{{{database}}}}",
                        quantile(share, "pgferry_transaction_duration_seconds", "database"),
                    )
                    for share in (0.5, 0.95, 0.99)
                ],
            ),
        ],
    ),
    (
        "Pools",
        [
            (
                "Servers in use",
                "short",
                "Against the pool's size: above 80 % the waiting rises steeply.",
                [
                    (f"{POOL} active", total("pgbouncer_pools_server_active_connections")),
                    (f"{POOL} idle", total("pgbouncer_pools_server_idle_connections")),
                ],
            ),
            (
                "Clients",
                "short",
                "Against max_client_conn.",
                [
                    ("{{database}}", total("pgbouncer_pools_client_active_connections", "database")),
                    ("max_client_conn", f"max(pgbouncer_config_max_client_connections{{{INSTANCE}}})"),
                ],
            ),
            (
                "Held by idle or long transactions",
                "s",
                "The oldest open transaction of each pool.",
                [(POOL, f"max by (database, user) (pgferry_longest_transaction_seconds{{{WHERE}}})")],
            ),
            (
                "Idle in transaction, pinned",
                "short",
                "Servers held by a client that does nothing, or that keeps session state which cannot move.",
                [
                    (f"{POOL} idle in transaction", total("pgferry_idle_in_transaction")),
                    (
                        f"{POOL} pinned: {{{{reason}}}}",
                        total("pgferry_pinned_servers", "database, user, reason"),
                    ),
                ],
            ),
            (
                "New server connections",
                "s",
                "How long connecting and logging in to PostgreSQL takes.",
                [("p99 {{database}}", quantile(0.99, "pgferry_server_connect_duration_seconds", "database"))],
            ),
            (
                "Ended connections",
                "ops",
                "By reason: refusals, timeouts, errors.",
                [
                    (
                        "{{kind}}: {{reason}}",
                        rate("pgferry_connections_closed_total", "kind, reason", INSTANCE),
                    )
                ],
            ),
        ],
    ),
    (
        "pgferry itself",
        [
            (
                "Processor time",
                "percentunit",
                "A worker at 100 % needs another beside it (workers).",
                [("{{process}}", rate("pgferry_process_cpu_seconds_total", "process", INSTANCE))],
            ),
            (
                "Event loop lag",
                "s",
                "By how much workers were late for their own clock.",
                [
                    (
                        "p99 worker {{worker}}",
                        quantile(0.99, "pgferry_event_loop_lag_seconds", "worker", INSTANCE),
                    )
                ],
            ),
            (
                "Memory",
                "bytes",
                "Resident memory of supervisor and workers.",
                [("{{process}}", f"pgferry_process_resident_memory_bytes{{{INSTANCE}}}")],
            ),
        ],
    ),
]


def panels() -> list[dict[str, Any]]:
    """All panels with their places: three to a row."""
    made: list[dict[str, Any]] = []
    top = 0
    for title, items in ROWS:
        made.append(
            {
                "id": len(made) + 1,
                "type": "row",
                "title": title,
                "collapsed": False,
                "gridPos": {"x": 0, "y": top, "w": 24, "h": 1},
                "panels": [],
            }
        )
        top += 1
        for number, item in enumerate(items):
            place = {"x": number % 3 * WIDTH, "y": top + number // 3 * HEIGHT, "w": WIDTH, "h": HEIGHT}
            made.append(panel(len(made) + 1, place, *item))
        top += (len(items) + 2) // 3 * HEIGHT
    return made


def panel(
    number: int, place: dict[str, int], title: str, unit: str, text: str, targets: list[tuple[str, str]]
) -> dict[str, Any]:
    """One chart."""
    return {
        "id": number,
        "type": "timeseries",
        "title": title,
        "description": text,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 8}}, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": [
            {"refId": chr(ord("A") + i), "datasource": SOURCE, "expr": expr, "legendFormat": legend}
            for i, (legend, expr) in enumerate(targets)
        ],
    }


def variable(name: str, label: str, query: str) -> dict[str, Any]:
    """A choice at the top of the page."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def render() -> str:
    """The file's text."""
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    board = {
        "uid": "pgferry",
        "title": "pgferry",
        "tags": ["postgresql", "pgferry"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {
            "list": [
                source,
                variable("instance", "Instance", "label_values(pgbouncer_up, instance)"),
                variable(
                    "database",
                    "Database",
                    "label_values(pgbouncer_pools_client_active_connections, database)",
                ),
            ]
        },
        "panels": panels(),
    }
    return json.dumps(board, indent=2) + "\n"


if __name__ == "__main__":
    sys.exit(write_or_check(PAGE, render(), "gen_grafana.py"))
