"""Queueing theory for a pool: Little's law and Erlang C (Poisson arrivals, exponential holding, c "
"servers)."""

from __future__ import annotations

import math


def busy(rate: float, time: float) -> float:
    """Little's law: how many servers are busy on average (rate per second, time in seconds)."""
    return rate * time


def erlang_b(servers: int, load: float) -> float:
    """The share of arrivals that find all servers busy when nobody waits; `load` in servers."""
    blocked = 1.0
    for n in range(1, servers + 1):
        blocked = load * blocked / (n + load * blocked)
    return blocked


def erlang_c(servers: int, load: float) -> float:
    """The probability that an arrival has to wait; 1 when the servers cannot keep up."""
    if load >= servers:
        return 1.0
    blocked = erlang_b(servers, load)
    return servers * blocked / (servers - load * (1 - blocked))


def mean_wait(servers: int, load: float, time: float, variation: float = 1.0) -> float:
    """The mean wait of all arrivals in seconds, infinite without a steady state.

    `variation` is the squared coefficient of variation of the holding time: 1 is exponential, where this is exact;
    else it is the approximation of Allen and Cunneen.
    """
    if load >= servers:
        return math.inf
    return erlang_c(servers, load) * time / (servers - load) * (1 + variation) / 2


def wait_percentile(servers: int, load: float, time: float, share: float) -> float:
    """The wait in seconds that `share` (0 to 1) of the arrivals do not exceed."""
    if load >= servers:
        return math.inf
    waits = erlang_c(servers, load)
    if waits <= 1 - share:
        return 0.0
    return math.log(waits / (1 - share)) * time / (servers - load)
