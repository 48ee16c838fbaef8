"""Runs the chosen scenarios: every cell by all targets in turn, the order changing from round to round."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import permutations

from .results import Cell, Measurement, Results
from .scenarios import Scenario, Size
from .system import BenchError
from .targets import Direct, Pooler, Target


def order_of_round(targets: Sequence[Target], number: int) -> list[Target]:
    """Return the targets in the order of round `number`; a round is followed by the reverse of itself."""
    orders = list(permutations(targets))
    order = list(orders[number // 2 % len(orders)])
    return order if number % 2 == 0 else order[::-1]


class Runner:
    """Measures scenarios one after the other and reports each figure as it comes."""

    def __init__(self, targets: Sequence[Target], size: Size, results: Results) -> None:
        """Measure `targets` with loads of `size` into `results`."""
        self._targets = targets
        self._size = size
        self._results = results
        self._done = 0
        self._total = 0
        self._begin = time.monotonic()

    def run(self, scenarios: Sequence[Scenario]) -> None:
        """Measure everything; what fails becomes a measurement with an error, and the rest goes on."""
        self._begin = time.monotonic()
        self._total = sum(
            len(scenario.cells(self._size)) * self._rounds(scenario) * len(self._fit(scenario))
            for scenario in scenarios
        )
        for scenario in scenarios:
            self._scenario(scenario)

    def _scenario(self, scenario: Scenario) -> None:
        targets = self._fit(scenario)
        down = {target.name: text for target in targets if (text := self._start(target, scenario))}
        try:
            for cell in scenario.cells(self._size):
                for number in range(self._rounds(scenario)):
                    for target in order_of_round(targets, number):
                        self._once(scenario, cell, target, number, down)
        finally:
            for target in targets:
                target.stop()

    def _once(
        self, scenario: Scenario, cell: Cell, target: Target, number: int, down: dict[str, str]
    ) -> None:
        """Take one measurement and keep it."""
        self._done += 1
        refusal = target.refuses(cell.variant, cell.clients)
        if refusal:
            measurement = Measurement(cell, target.name, number, error=refusal, skipped=True)
        elif target.name in down:
            measurement = Measurement(cell, target.name, number, error=down[target.name])
        else:
            try:
                measurement = Measurement(
                    cell, target.name, number, scenario.measure(target, cell, self._size)
                )
            except (BenchError, OSError) as error:
                measurement = Measurement(cell, target.name, number, error=self._explain(target, error))
                if text := self._start(target, scenario):
                    down[target.name] = text
        self._results.add(measurement)
        if not (refusal and number):
            self._tell(measurement)

    def _start(self, target: Target, scenario: Scenario) -> str:
        """(Re)start a target; returns why it does not start, '' when it does."""
        try:
            target.start(scenario.login)
        except (BenchError, OSError) as error:
            return str(error)
        return ""

    def _explain(self, target: Target, error: Exception) -> str:
        if isinstance(target, Pooler) and not target.alive:
            return f"{error}; {target.name} has died: {target.log_tail()}"
        return str(error)

    def _fit(self, scenario: Scenario) -> list[Target]:
        if scenario.pgferry_only:
            return [item for item in self._targets if item.name == "pgferry"]
        return [item for item in self._targets if not (scenario.needs_pooler and isinstance(item, Direct))]

    def _rounds(self, scenario: Scenario) -> int:
        return scenario.rounds or self._size.rounds

    def _tell(self, item: Measurement) -> None:
        seconds = int(time.monotonic() - self._begin)
        figures = " ".join(f"{name}={_short(value)}" for name, value in item.figures.items())
        if item.error:
            figures = ("skipped: " if item.skipped else "FAILED: ") + item.error
        place = f"[{self._done:3}/{self._total} {seconds // 60:2}:{seconds % 60:02}]"
        print(f"{place} {item.cell!s:32} {item.round + 1} {item.target:9} {figures}", flush=True)


def _short(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
