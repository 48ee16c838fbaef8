"""SHOW STATS, STATS_TOTALS, STATS_AVERAGES and TOTALS: the same counters under four sets of names."""

from collections.abc import Sequence

from pgferry.admin.context import Context, Show
from pgferry.admin.result import Column, Type, Value, columns
from pgferry.supervisor.stats import COUNTERS, add, zero

# PgBouncer names the columns of each result differently, prefixes included; the order is that of COUNTERS.
_TOTAL_NAMES = " ".join(f"total_{name}" for name in COUNTERS)
_AVERAGE_NAMES = " ".join(f"avg_{'recv' if name == 'received' else name}" for name in COUNTERS)
_PLAIN_NAMES = (
    "server_assignment_count xact_count query_count bytes_received bytes_sent xact_time query_time wait_time"
)
_PARSE_NAMES = ("client_parse_count", "server_parse_count", "bind_count", "client_login_count")
_TOTALS_NAMES = (
    "server_assignment_count",
    "xact_count",
    "query_count",
    "client_bytes",
    "server_bytes",
    "xact_time",
    "query_time",
    "wait_time",
    "ps_client_parse_count",
    "ps_server_parse_count",
    "ps_bind_count",
    "client_login_count",
)
_DATABASE = Column("database", Type.TEXT)
_STATS = (_DATABASE, *columns(Type.NUMERIC, f"{_TOTAL_NAMES} {_AVERAGE_NAMES}"))
_STATS_TOTALS = (_DATABASE, *columns(Type.NUMERIC, f"{_PLAIN_NAMES} {' '.join(_PARSE_NAMES)}"))
_STATS_AVERAGES = (
    _DATABASE,
    *columns(Type.NUMERIC, f"{_PLAIN_NAMES} {' '.join(f'avg_{name}' for name in _PARSE_NAMES)}"),
)
_TOTALS = (Column("name", Type.TEXT), Column("value", Type.NUMERIC))


async def _stats(context: Context) -> list[Sequence[Value]]:
    await context.pooler.refresh_stats()
    stats = context.pooler.stats
    means = stats.averages()
    return [
        [name, *(total[c] for c in COUNTERS), *(means[name][c] for c in COUNTERS)]
        for name, total in stats.databases().items()
    ]


async def _stats_totals(context: Context) -> list[Sequence[Value]]:
    await context.pooler.refresh_stats()
    rows = context.pooler.stats.databases().items()
    return [[name, *(total[counter] for counter in COUNTERS)] for name, total in rows]


async def _stats_averages(context: Context) -> list[Sequence[Value]]:
    await context.pooler.refresh_stats()
    rows = context.pooler.stats.averages().items()
    return [[name, *(mean[counter] for counter in COUNTERS)] for name, mean in rows]


async def _totals(context: Context) -> list[Sequence[Value]]:
    await context.pooler.refresh_stats()
    total, mean = zero(), context.pooler.stats.total_averages()
    for counters in context.pooler.stats.databases().values():
        add(total, counters)
    return [
        (f"{prefix}_{name}", values[counter])
        for prefix, values in (("total", total), ("avg", mean))
        for name, counter in zip(_TOTALS_NAMES, COUNTERS, strict=True)
    ]


SHOWS = {
    "STATS": Show(_STATS, _stats),
    "STATS_TOTALS": Show(_STATS_TOTALS, _stats_totals),
    "STATS_AVERAGES": Show(_STATS_AVERAGES, _stats_averages),
    "TOTALS": Show(_TOTALS, _totals),
}
