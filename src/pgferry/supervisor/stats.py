"""Counters of all workers over time: totals that survive a worker's death, averages, the `stats:` line."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

COUNTERS = (
    "server_assignment_count",
    "xact_count",
    "query_count",
    "received",
    "sent",
    "xact_time",
    "query_time",
    "wait_time",
    "client_parse_count",
    "server_parse_count",
    "bind_count",
    "client_login_count",
)
# A time is averaged over the events that took it, everything else over seconds.
_PER_EVENT = {
    "xact_time": "xact_count",
    "query_time": "query_count",
    "wait_time": "server_assignment_count",
}

Totals = dict[str, int]


def zero() -> Totals:
    """Counters at 0."""
    return dict.fromkeys(COUNTERS, 0)


def add(into: Totals, other: Mapping[str, Any]) -> None:
    """Add the counters of `other`."""
    for name in COUNTERS:
        into[name] += int(other.get(name) or 0)


def averages(now: Mapping[str, int], before: Mapping[str, int], seconds: float) -> Totals:
    """Counts per second, and times (us) per query, transaction or assignment, between two sets of totals.

    A total that went down (a dropped wildcard database) counts as no change.
    """
    change = {name: max(0, now.get(name, 0) - before.get(name, 0)) for name in COUNTERS}
    result = {}
    for name, value in change.items():
        event = _PER_EVENT.get(name)
        divisor = seconds if event is None else change[event]
        result[name] = int(value / divisor) if divisor > 0 else 0
    return result


def _sum(databases: Mapping[str, Totals]) -> Totals:
    result = zero()
    for counters in databases.values():
        add(result, counters)
    return result


@dataclass(slots=True)
class _Snapshot:
    when: float
    databases: dict[str, Totals] = field(default_factory=dict)


class StatsKeeper:
    """Totals by database. `update` takes the rows of a worker, `retire` keeps those of a dead one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._workers: dict[int, dict[str, Totals]] = {}
        self._retired: dict[str, Totals] = {}
        self.console = zero()
        """Counters of the database pgbouncer, kept by the console itself."""
        self._newer = _Snapshot(clock())
        self._older = self._newer

    def update(self, worker: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take the present totals of a worker."""
        current: dict[str, Totals] = {}
        for row in rows:
            add(current.setdefault(str(row["database"]), zero()), row)
        self._workers[worker] = current

    def retire(self, worker: int) -> None:
        """Keep what a dead worker had counted when last asked; its successor starts from 0."""
        for name, counters in self._workers.pop(worker, {}).items():
            add(self._retired.setdefault(name, zero()), counters)

    def databases(self) -> dict[str, Totals]:
        """Totals by database, in order of name."""
        live = {name for rows in self._workers.values() for name in rows}
        result: dict[str, Totals] = {}
        for source in (*self._workers.values(), {n: t for n, t in self._retired.items() if n in live}):
            for name, counters in source.items():
                add(result.setdefault(name, zero()), counters)
        result["pgbouncer"] = dict(self.console)
        return dict(sorted(result.items()))

    def averages(self) -> dict[str, Totals]:
        """Averages by database since the snapshot before last."""
        seconds = self._clock() - self._older.when
        before = self._older.databases
        return {name: averages(now, before.get(name, {}), seconds) for name, now in self.databases().items()}

    def total_averages(self) -> Totals:
        """Averages over all databases since the snapshot before last."""
        before, now = _sum(self._older.databases), _sum(self.databases())
        return averages(now, before, self._clock() - self._older.when)

    def snapshot(self) -> str:
        """Close a stats_period; returns the text of its log line."""
        current = _Snapshot(self._clock(), self.databases())
        before, now = _sum(self._newer.databases), _sum(current.databases)
        a = averages(now, before, current.when - self._newer.when)
        self._older, self._newer = self._newer, current
        return (
            f"stats: {a['xact_count']} xacts/s, {a['query_count']} queries/s, "
            f"{a['client_parse_count']} client parses/s, {a['server_parse_count']} server parses/s, "
            f"{a['bind_count']} binds/s, {a['client_login_count']} client logins/s, "
            f"in {a['received']} B/s, out {a['sent']} B/s, "
            f"xact {a['xact_time']} us, query {a['query_time']} us, wait {a['wait_time']} us"
        )
