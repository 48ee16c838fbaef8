"""From a load to sizes: the recommended one, the alternatives, and shares of one server's connections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pgferry.advise.erlang import busy, erlang_c, mean_wait, wait_percentile
from pgferry.advise.holding import Holding
from pgferry.advise.simulate import Waits, simulate

HEADROOM = 0.5  # above what Little's law asks for
LARGEST = 2000


@dataclass(frozen=True, slots=True)
class Load:
    """What one application (a pool, or a database with several) asks for: transactions a second, and their "
    "time."""

    name: str
    rate: float
    holding: Holding
    size: int = 0  # now; 0 is unknown
    note: str = ""

    @property
    def busy(self) -> float:
        """Servers busy on average."""
        return busy(self.rate, self.holding.mean)


@dataclass(frozen=True, slots=True)
class Option:
    """One size and what it would mean."""

    size: int
    use: float
    probability: float
    mean: float
    p95: float
    p99: float
    simulated: Waits


def option(load: Load, size: int) -> Option:
    """What a size means, by Erlang C and simulated."""
    work, time = load.busy, load.holding.mean
    return Option(
        size=size,
        use=work / size,
        probability=erlang_c(size, work),
        mean=mean_wait(size, work, time),
        p95=wait_percentile(size, work, time, 0.95),
        p99=wait_percentile(size, work, time, 0.99),
        simulated=simulate(size, load.rate, load.holding),
    )


def by_little(load: Load) -> int:
    """Little's law and the headroom."""
    return max(math.ceil(load.busy * (1 + HEADROOM) - 1e-9), 1)


def recommend(load: Load, max_wait: float) -> int:
    """The smallest size with the headroom whose simulated 99th percentile of waiting is at most max_wait "
    "(s)."""
    low = by_little(load)
    high = low
    while high < LARGEST and simulate(high, load.rate, load.holding).p99 > max_wait:
        low, high = high + 1, min(high * 2, LARGEST)
    while low < high:
        middle = (low + high) // 2
        if simulate(middle, load.rate, load.holding).p99 > max_wait:
            low = middle + 1
        else:
            high = middle
    return high


def alternatives(load: Load, recommended: int) -> list[int]:
    """Sizes worth showing: from the first that can keep up to twice the recommended one, and the one in "
    "use."""
    least = math.floor(load.busy) + 1
    steps = {
        least,
        by_little(load),
        recommended,
        recommended + 1,
        math.ceil(recommended * 1.5),
        recommended * 2,
    }
    steps |= {max(least, round(recommended * part)) for part in (0.5, 0.75)}
    return sorted(steps | ({load.size} if load.size else set()))


def what_if(load: Load, changes: dict[str, tuple[float, ...]]) -> Load:
    """The load with the changes of parse_change()."""
    if "traffic" in changes:
        load = replace(load, rate=load.rate * changes["traffic"][0])
    if "slow" in changes:
        share, time = changes["slow"]
        load = replace(load, holding=load.holding.with_slow(share, time))
    return load


def budget(loads: Sequence[Load], slots: int) -> list[int]:
    """Share `slots` connections out so that the time all transactions together wait is least.

    Each load gets what keeps up first; every further slot goes where it saves the most waiting. Raises
    ValueError when not even that fits.
    """
    sizes = [math.floor(load.busy) + 1 for load in loads]
    if sum(sizes) > slots:
        raise ValueError(f"{sum(sizes)} connections are needed to keep up, and there are {slots}")
    for _ in range(slots - sum(sizes)):
        gains = [
            load.rate * (_mean(load, size) - _mean(load, size + 1))
            for load, size in zip(loads, sizes, strict=True)
        ]
        best = max(range(len(loads)), key=lambda i: gains[i])
        if gains[best] <= 1e-9:
            break
        sizes[best] += 1
    return sizes


def _mean(load: Load, size: int) -> float:
    return mean_wait(size, load.busy, load.holding.mean, load.holding.variation)
