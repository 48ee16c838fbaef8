"""The targets that pgferry must meet against PgBouncer, and whether a run meets them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .results import Cell, Results


@dataclass(frozen=True, slots=True)
class Goal:
    """A limit for one figure: as a ratio to PgBouncer, or absolute for `pgferry` alone."""

    text: str
    scenario: str
    figure: str
    limit: float
    relative: bool
    unit: str = ""
    variant: str = ""
    least_clients: int = 1


GOALS = (
    *(
        Goal(
            f"processor time per transaction, {name}, 16 clients and more",
            "query",
            "cpu_us",
            1.0,
            True,
            "×",
            name,
            16,
        )
        for name in ("simple", "extended", "prepared")
    ),
    Goal("median latency", "query", "p50_us", 1.05, True, "×"),
    Goal("p99 latency", "query", "p99_us", 1.05, True, "×"),
    Goal("processor time of a connection per transaction", "connect", "cpu_us", 1.1, True, "×"),
    Goal("processor time of 1 GB out", "bulk", "cpu_s_per_gb", 0.4, True, "×"),
    Goal(
        "throughput without session state / of 200 tenants with theirs, own tables",
        "state",
        "slowdown",
        1.43,
        False,
        "×",
    ),
    Goal(
        "processor time of a transaction without session state, track / ignore",
        "policies",
        "cost",
        1.02,
        False,
        "×",
    ),
    Goal("memory for each idle client", "memory", "idle_bytes", 4096, False, " bytes"),
    Goal("a worker at rest", "memory", "rest_mb", 40, False, " MB"),
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A goal and the worst of its cells; `value` is None when nothing was measured."""

    goal: Goal
    cell: Cell | None
    value: float | None
    missed: int
    unclear: int
    cells: int

    @property
    def word(self) -> str:
        """'pass', 'fail', 'unclear' (each miss has rounds on both sides of the limit) or 'not measured'."""
        if self.value is None:
            return "not measured"
        if self.missed == 0:
            return "pass"
        return "unclear" if self.unclear == self.missed else "fail"


def judge(results: Results) -> list[Verdict]:
    """Return the verdict on every goal."""
    return [_judge(goal, results) for goal in GOALS]


def _judge(goal: Goal, results: Results) -> Verdict:
    found = list(_values(goal, results))
    if not found:
        return Verdict(goal, None, None, 0, 0, 0)
    value, _, cell = max(found, key=lambda item: item[0])
    missed = [least for number, least, _ in found if number > goal.limit]
    unclear = sum(least <= goal.limit for least in missed)
    return Verdict(goal, cell, value, len(missed), unclear, len(found))


def _values(goal: Goal, results: Results) -> Iterator[tuple[float, float, Cell]]:
    """Yield the figure, the least of its rounds and the cell, for each cell that the goal is about."""
    for cell in results.cells(goal.scenario):
        if goal.variant not in ("", cell.variant) or cell.clients < goal.least_clients:
            continue
        if goal.relative:
            ratio = results.ratio(cell, goal.figure)
            if ratio is not None:
                yield ratio.value, ratio.low, cell
        elif (value := results.median(cell, "pgferry", goal.figure)) is not None:
            yield value, value, cell
