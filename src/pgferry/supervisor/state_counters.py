"""Counters of session state by reason (pins, probes, restores, ...), over all workers and their deaths."""

from collections.abc import Iterable, Mapping
from typing import Any

KEY = ("database", "user", "counter", "reason")

_Key = tuple[str, ...]


class StateCounters:
    """Totals by database, user, counter and reason. `update` takes a worker's, `retire` keeps a dead one's."""

    def __init__(self) -> None:
        self._workers: dict[int, dict[_Key, int]] = {}
        self._retired: dict[_Key, int] = {}

    def update(self, worker: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take the present totals of a worker."""
        self._workers[worker] = _summed((tuple(str(row[part]) for part in KEY), row["count"]) for row in rows)

    def retire(self, worker: int) -> None:
        """Keep what a dead worker had counted when last asked; its successor starts from 0."""
        counted = self._workers.pop(worker, {})
        self._retired = _summed([*self._retired.items(), *counted.items()])

    def rows(self) -> list[dict[str, Any]]:
        """All totals, in order of database, user, counter and reason."""
        counted = [item for worker in self._workers.values() for item in worker.items()]
        totals = _summed([*self._retired.items(), *counted])
        return [{**dict(zip(KEY, key, strict=True)), "count": totals[key]} for key in sorted(totals)]


def _summed(items: Iterable[tuple[_Key, int]]) -> dict[_Key, int]:
    result: dict[_Key, int] = {}
    for key, count in items:
        result[key] = result.get(key, 0) + int(count)
    return result
