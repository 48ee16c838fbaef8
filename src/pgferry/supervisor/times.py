"""Histograms of durations of all workers over time, and percentiles from them (engine/times.pyx makes them)."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

KINDS = ("query", "xact", "wait", "connect")
BUCKETS = 240
_LINEAR = 8
"""Buckets of 1 us each at the start; from there on so many to an octave."""

Key = tuple[str, str]
"""Database and user of a pool."""


def lower_bound(bucket: int) -> int:
    """The smallest duration (us) that is counted in a bucket; of BUCKETS: where the last one should end."""
    if bucket < _LINEAR:
        return bucket
    octave, part = divmod(bucket, _LINEAR)
    return (_LINEAR + part) << (octave - 1)


class Histogram:
    """Counts by bucket, from bucket `low` on, and the sum of the durations in seconds."""

    __slots__ = ("counts", "low", "seconds")

    def __init__(self, low: int = 0, counts: Sequence[int] = (), seconds: float = 0.0) -> None:
        self.low = low
        self.counts = array("Q", counts)
        self.seconds = seconds

    @classmethod
    def unpack(cls, packed: Sequence[Any], seconds: float = 0.0) -> Histogram:
        """A histogram as a worker sends it: first bucket, native 64-bit counts."""
        made = cls(int(packed[0]), (), seconds)
        made.counts.frombytes(packed[1])
        return made

    @property
    def count(self) -> int:
        """How many durations there are."""
        return sum(self.counts)

    def add(self, other: Histogram) -> None:
        """Add the counts of another one."""
        self.seconds += other.seconds
        if not other.counts:
            return
        if not self.counts:
            self.low, self.counts = other.low, other.counts[:]
            return
        low = min(self.low, other.low)
        high = max(self.low + len(self.counts), other.low + len(other.counts))
        mine = array("Q", bytes(8 * (high - low)))
        for source in (self, other):
            for i, n in enumerate(source.counts, source.low - low):
                mine[i] += n
        self.low, self.counts = low, mine

    def since(self, before: Histogram | None) -> Histogram:
        """What came after `before`; a count that went down (its worker was replaced) began anew."""
        if before is None or not before.counts:
            return self
        counts = list(self.counts)
        for i, n in enumerate(before.counts, before.low - self.low):
            if 0 <= i < len(counts):
                counts[i] = counts[i] - n if counts[i] >= n else counts[i]
        return Histogram(self.low, counts, max(0.0, self.seconds - before.seconds))

    def percentile(self, share: float) -> int:
        """The duration (us) that `share` of all do not exceed; 0 when there are none."""
        rank = share * self.count
        if not self.counts or rank <= 0:
            return 0
        for bucket, n in enumerate(self.counts, self.low):
            if n and rank <= n:
                low, high = lower_bound(bucket), lower_bound(bucket + 1)
                return min(math.ceil(low + (high - low) * rank / n), high - 1)
            rank -= n
        return lower_bound(self.low + len(self.counts)) - 1


Times = dict[str, Histogram]
"""The histograms of a pool by kind."""


def _add(into: dict[Key, Times], other: Mapping[Key, Times]) -> None:
    for key, times in other.items():
        mine = into.setdefault(key, {kind: Histogram() for kind in KINDS})
        for kind, histogram in times.items():
            mine[kind].add(histogram)


class TimesKeeper:
    """Histograms by pool. `update` takes the rows of a worker, `retire` keeps those of a dead one."""

    def __init__(self) -> None:
        self._workers: dict[int, dict[Key, Times]] = {}
        self._retired: dict[Key, Times] = {}
        self._newer: dict[Key, Times] = {}
        self._older: dict[Key, Times] = {}

    def update(self, worker: int, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take the present histograms of a worker."""
        self._workers[worker] = {
            (str(row["database"]), str(row["user"])): {
                kind: Histogram.unpack(row["times"][kind], float(row["seconds"][kind])) for kind in KINDS
            }
            for row in rows
        }

    def retire(self, worker: int) -> None:
        """Keep what a dead worker had counted when last asked; its successor starts from 0."""
        _add(self._retired, self._workers.pop(worker, {}))

    def pools(self) -> dict[Key, Times]:
        """Totals by pool, in order of name. Pools that no worker has any more are left out."""
        result: dict[Key, Times] = {}
        # Called from other threads, too: a worker that dies meanwhile must not disturb.
        for rows in list(self._workers.values()):
            _add(result, rows)
        _add(result, {key: times for key, times in list(self._retired.items()) if key in result})
        return dict(sorted(result.items()))

    def period(self) -> dict[Key, Times]:
        """By pool, what came since the snapshot before last: the same time as the averages of SHOW STATS."""
        return {
            key: {
                kind: histogram.since(self._older.get(key, {}).get(kind)) for kind, histogram in times.items()
            }
            for key, times in self.pools().items()
        }

    def snapshot(self) -> None:
        """Close a stats_period."""
        self._older, self._newer = self._newer, self.pools()
