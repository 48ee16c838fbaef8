"""The last hour in figures: one sample every 5 s, for everything and for each of the busiest pools."""

from __future__ import annotations

from array import array
from collections.abc import Mapping

STEP = 5.0
SAMPLES = 720
FIELDS = ("clients", "waiting", "active", "idle", "tps", "qps", "p50", "p95", "p99", "wait95")
"""Clients logged in, waiting ones; servers; per second; query percentiles and 95 % of waits in us."""
_MAX_POOLS = 100

Figures = Mapping[str, float]
TOTAL = ("", "")


class Ring:
    """SAMPLES values of each field, oldest first; what was before the first sample is left out."""

    def __init__(self) -> None:
        self._values = {name: array("f", bytes(4 * SAMPLES)) for name in FIELDS}

    def put(self, place: int, figures: Figures) -> None:
        """Set the sample at a place."""
        for name, values in self._values.items():
            values[place] = figures.get(name, 0.0)

    def series(self, start: int, count: int) -> dict[str, list[float]]:
        """`count` samples of each field from a place on, round the end."""
        return {
            name: [round(value, 3) for value in (values[start:] + values[:start])[:count]]
            for name, values in self._values.items()
        }


class History:
    """Rings by pool; TOTAL is everything together. A pool that is not seen any more keeps its past."""

    def __init__(self) -> None:
        self._rings: dict[tuple[str, str], Ring] = {TOTAL: Ring()}
        self._times = array("d", bytes(8 * SAMPLES))
        self._place = 0
        self._count = 0

    def add(self, when: float, figures: Mapping[tuple[str, str], Figures]) -> None:
        """Take a sample of everything; `when` is Unix time."""
        for key in figures:
            if key not in self._rings and len(self._rings) <= _MAX_POOLS:
                self._rings[key] = Ring()
        self._times[self._place] = when
        for key, ring in self._rings.items():
            ring.put(self._place, figures.get(key, {}))
        self._place = (self._place + 1) % SAMPLES
        self._count = min(self._count + 1, SAMPLES)

    def series(self, key: tuple[str, str]) -> dict[str, list[float]] | None:
        """Times and values of a pool, oldest first; None when it has no ring."""
        ring = self._rings.get(key)
        if ring is None:
            return None
        start = self._place if self._count == SAMPLES else 0
        times = (self._times[start:] + self._times[:start])[: self._count]
        return {"time": list(times), **ring.series(start, self._count)}
