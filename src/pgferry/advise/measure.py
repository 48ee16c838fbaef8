"""The load of a running pgferry or PgBouncer: what SHOW STATS gained over an interval."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pgferry.advise.holding import Holding, exponential, of_quantiles
from pgferry.advise.plan import Load
from pgferry.client import Connection, QueryError

Row = dict[str, str | None]
_FEW = 100
_CLEAR = 0.25  # with more waiting than that the percentiles of transactions tell little about the holding


@dataclass(frozen=True, slots=True)
class _Sample:
    """SHOW STATS by database, at a moment."""

    when: float
    stats: dict[str, Row]


def measure(console: Connection, seconds: float) -> list[Load]:
    """Look twice, `seconds` apart; the loads of all databases that did something, the busiest first."""
    before = _sample(console)
    time.sleep(seconds)
    after = _sample(console)
    sizes = {row["name"] or "": row for row in console.rows("SHOW DATABASES")}
    pools = console.rows("SHOW POOLS")
    quantiles = _quantiles(console)
    loads = []
    for name, row in after.stats.items():
        gained = {key: _number(row, key) - _number(before.stats.get(name, {}), key) for key in row}
        # A transaction's time begins with the client's request: the waiting is part of it, in PgBouncer, too.
        count, waited = gained.get("total_xact_count", 0.0), gained.get("total_wait_time", 0.0)
        held = gained.get("total_xact_time", 0.0) - waited
        if count < 1 or held <= 0:
            continue
        rate, mean = count / (after.when - before.when), held / count / 1e6
        mine = [pool for pool in pools if pool["database"] == name]
        size = int(_number(sizes.get(name, {}), "pool_size")) * max(sum(_busy(pool) for pool in mine), 1)
        clear = waited < held * _CLEAR
        holding = _holding(quantiles.get(name, []), mean) if clear else exponential(mean)
        loads.append(Load(name, rate, holding, size, _note(mine, count, gained, after.when - before.when)))
    return sorted(loads, key=lambda load: -load.busy)


def _sample(console: Connection) -> _Sample:
    rows = console.rows("SHOW STATS")
    names = ("pgbouncer", "pgferry")
    return _Sample(
        time.monotonic(), {row["database"] or "": row for row in rows if row["database"] not in names}
    )


def _busy(pool: Row) -> bool:
    return any(_number(pool, column) for column in ("cl_active", "cl_waiting", "sv_active"))


def _quantiles(console: Connection) -> dict[str, list[Row]]:
    """Rows of SHOW STATS_PERCENTILES about transactions, by database; none from a PgBouncer."""
    try:
        rows = console.rows("SHOW STATS_PERCENTILES")
    except QueryError:
        return {}
    found: dict[str, list[Row]] = {}
    for row in rows:
        if (row.get("time") or "").startswith(("xact", "transaction")):
            found.setdefault(row["database"] or "", []).append(row)
    return found


def _holding(rows: list[Row], mean: float) -> Holding:
    """From the pool that has most of the database's transactions; exponential when there are no "
    "percentiles."""
    row = max(rows, key=lambda r: _number(r, "total_count"), default=None)
    if row is None or _number(row, "total_count") < _FEW or not _number(row, "total_p50"):
        return exponential(mean)
    p50, p95, p99 = (_number(row, f"total_{name}") / 1e6 for name in ("p50", "p95", "p99"))
    longest = p99 * max(p99 / max(p95, 1e-6), 1.5)
    return of_quantiles([(0.0, p50 / 4), (0.5, p50), (0.95, p95), (0.99, p99), (1.0, longest)], mean)


def _note(pools: list[Row], count: float, gained: dict[str, float], seconds: float) -> str:
    notes = []
    if any(pool.get("pool_mode") == "session" for pool in pools):
        notes.append("session mode: a client holds its server until it leaves, not for a transaction")
    if sum(_number(pool, "cl_waiting") for pool in pools):
        notes.append("clients wait now: what they ask for is more than what was measured")
    if count < _FEW:
        notes.append(f"only {count:.0f} transactions were seen")
    wait = gained.get("total_wait_time", 0.0) / count
    if wait > 0:
        notes.append(f"measured mean wait {wait / 1000:.3g} ms over {seconds:.0f} s")
    return "; ".join(notes)


def _number(row: Row, column: str) -> float:
    try:
        return float(row.get(column) or 0)
    except ValueError:
        return 0.0
