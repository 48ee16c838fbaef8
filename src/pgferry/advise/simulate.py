"""A pool simulated: arrivals at random, each takes the server that is free first and holds it for a while."""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass

from pgferry.advise.holding import Holding

ARRIVALS = 60_000
_WARM_UP = 0.1


@dataclass(frozen=True, slots=True)
class Waits:
    """Waiting times in seconds; infinite where the servers cannot keep up."""

    probability: float
    mean: float
    p50: float
    p95: float
    p99: float


OVERLOAD = Waits(1.0, math.inf, math.inf, math.inf, math.inf)


def simulate(
    servers: int, rate: float, holding: Holding, *, arrivals: int = ARRIVALS, seed: int = 1
) -> Waits:
    """First come, first served, `servers` of them, Poisson arrivals. The same seed gives the same answer."""
    if rate * holding.mean >= servers:
        return OVERLOAD
    source = random.Random(seed)
    times, count = holding.times, len(holding.times)
    free_at = [0.0] * servers
    now, waits = 0.0, []
    for _ in range(arrivals):
        now += source.expovariate(rate)
        start = max(now, free_at[0])
        heapq.heapreplace(free_at, start + times[int(source.random() * count)])
        waits.append(start - now)
    waits = sorted(waits[int(arrivals * _WARM_UP) :])
    return Waits(
        probability=sum(wait > 0 for wait in waits) / len(waits),
        mean=math.fsum(waits) / len(waits),
        p50=waits[len(waits) // 2],
        p95=waits[int(len(waits) * 0.95)],
        p99=waits[int(len(waits) * 0.99)],
    )
