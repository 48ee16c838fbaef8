"""Why connections were closed: by kind and reason, over all workers and their deaths."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

Key = tuple[str, str]
"""Kind (refused: a client before it was logged in; client; server) and reason."""


class CloseReasons:
    """Totals. `update` takes a worker's, `retire` keeps a dead one's."""

    def __init__(self) -> None:
        self._workers: dict[int, Counter[Key]] = {}
        self._retired: Counter[Key] = Counter()

    def update(self, worker: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take the present totals of a worker."""
        self._workers[worker] = Counter(
            {(str(row["kind"]), str(row["reason"])): int(row["count"]) for row in rows}
        )

    def retire(self, worker: int) -> None:
        """Keep what a dead worker had counted when last asked; its successor starts from 0."""
        self._retired += self._workers.pop(worker, Counter())

    def totals(self) -> dict[Key, int]:
        """All totals, in order of kind and reason."""
        result = Counter(self._retired)
        for counted in self._workers.values():
            result += counted
        return dict(sorted(result.items()))
