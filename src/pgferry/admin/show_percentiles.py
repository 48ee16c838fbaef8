"""SHOW STATS_PERCENTILES: how long queries, transactions, waits and server logins of each pool take."""

from collections.abc import Sequence

from pgferry.admin.context import Context, Show
from pgferry.admin.result import Type, Value, columns
from pgferry.supervisor.times import KINDS

SHARES = (0.5, 0.95, 0.99)
_PERCENTILES = (
    *columns(Type.TEXT, "database user time"),
    *columns(Type.INT8, "count p50 p95 p99 total_count total_p50 total_p95 total_p99"),
)


async def _percentiles(context: Context) -> list[Sequence[Value]]:
    await context.pooler.refresh_times()
    times = context.pooler.times
    period = times.period()
    result: list[Sequence[Value]] = []
    for (database, user), totals in times.pools().items():
        for kind in KINDS:
            row: list[Value] = [database, user, kind]
            for histogram in (period[database, user][kind], totals[kind]):
                row += [histogram.count, *(histogram.percentile(share) for share in SHARES)]
            result.append(row)
    return result


SHOWS = {"STATS_PERCENTILES": Show(_PERCENTILES, _percentiles)}
