"""Measurements as data: a record for each cell, target and round; medians and ratios over them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median


@dataclass(frozen=True, slots=True)
class Cell:
    """One thing that is measured: a scenario, a protocol or variant of it, and a number of clients."""

    scenario: str
    variant: str
    clients: int

    def __str__(self) -> str:
        words = [self.scenario]
        if self.variant and self.variant != self.scenario:
            words.append(self.variant)
        if self.clients > 1 or self.scenario == "query":
            words.append(f"{self.clients} client{'s' if self.clients > 1 else ''}")
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class Measurement:
    """The figures of one target in one round of a cell, or why there are none (`error`)."""

    cell: Cell
    target: str
    round: int
    figures: dict[str, float] = field(default_factory=dict)
    error: str = ""
    skipped: bool = False


@dataclass(frozen=True, slots=True)
class Ratio:
    """pgferry divided by PgBouncer: of the medians, and the least and greatest of the rounds."""

    value: float
    low: float
    high: float


class Results:
    """All measurements of a run and the questions the report asks of them."""

    def __init__(self, facts: dict[str, str]) -> None:
        """Start empty; `facts` say when, where and how."""
        self.facts = facts
        self.measurements: list[Measurement] = []

    def add(self, measurement: Measurement) -> None:
        """Keep one measurement."""
        self.measurements.append(measurement)

    def cells(self, scenario: str) -> list[Cell]:
        """Return the cells of a scenario in the order they were first measured."""
        return list(dict.fromkeys(item.cell for item in self.measurements if item.cell.scenario == scenario))

    def median(self, cell: Cell, target: str, figure: str) -> float | None:
        """Return the median of `figure` over the rounds, None when there is none."""
        values = [item.figures[figure] for item in self._of(cell, target) if figure in item.figures]
        return median(values) if values else None

    def problem(self, cell: Cell, target: str) -> str:
        """Return why a target has no figures in a cell ('' when it has, or was not asked)."""
        found = self._of(cell, target)
        if any(item.figures for item in found):
            return ""
        return found[0].error if found else ""

    def problems(self) -> list[Measurement]:
        """Return everything that was skipped or failed, one per cell and target."""
        return list({(item.cell, item.target): item for item in self.measurements if item.error}.values())

    def ratio(self, cell: Cell, figure: str) -> Ratio | None:
        """Return pgferry's `figure` as a ratio to PgBouncer's, None unless both have it."""
        ours, theirs = self.median(cell, "pgferry", figure), self.median(cell, "pgbouncer", figure)
        if ours is None or not theirs:
            return None
        rounds = list(self._round_ratios(cell, figure)) or [ours / theirs]
        return Ratio(ours / theirs, min(rounds), max(rounds))

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        data = {"facts": self.facts, "measurements": [asdict(item) for item in self.measurements]}
        path.write_text(json.dumps(data, indent=1) + "\n")

    def _round_ratios(self, cell: Cell, figure: str) -> Iterable[float]:
        theirs = {item.round: item.figures for item in self._of(cell, "pgbouncer")}
        for item in self._of(cell, "pgferry"):
            other = theirs.get(item.round, {})
            if figure in item.figures and other.get(figure):
                yield item.figures[figure] / other[figure]

    def _of(self, cell: Cell, target: str) -> list[Measurement]:
        return [item for item in self.measurements if item.cell == cell and item.target == target]


def load(path: Path) -> Results:
    """Read what save() wrote, to draw the report again without measuring."""
    data = json.loads(path.read_text())
    results = Results(data["facts"])
    for item in data["measurements"]:
        results.add(Measurement(**{**item, "cell": Cell(**item["cell"])}))
    return results
