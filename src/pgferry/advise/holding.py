"""How long a transaction holds its server: a distribution as a table of equally likely times."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

SIZE = 10_000  # so that one transaction in ten thousand can be a slow one
_SHARES = [(i + 0.5) / SIZE for i in range(SIZE)]


@dataclass(frozen=True, slots=True)
class Holding:
    """`times` (seconds) in ascending order, each as likely as the other; `shape` says where they come "
    "from."""

    times: Sequence[float]
    shape: str

    @property
    def mean(self) -> float:
        return math.fsum(self.times) / len(self.times)

    @property
    def variation(self) -> float:
        """The squared coefficient of variation: 0 all equal, 1 exponential, more with rare long ones."""
        mean = self.mean
        return math.fsum((t - mean) ** 2 for t in self.times) / len(self.times) / mean**2 if mean else 0.0

    def percentile(self, share: float) -> float:
        return self.times[min(int(share * len(self.times)), len(self.times) - 1)]

    def with_slow(self, share: float, time: float) -> Holding:
        """The same with a share of the transactions that take `time`."""
        slow = round(share * len(self.times))
        step = len(self.times) / max(len(self.times) - slow, 1)
        kept = [self.times[int(i * step)] for i in range(len(self.times) - slow)]
        return Holding(sorted([*kept, *[time] * slow]), f"{self.shape}, {share:.3%} take {time:g} s")


def exponential(mean: float) -> Holding:
    """The usual assumption when only the mean is known."""
    return _scaled([-math.log1p(-share) for share in _SHARES], mean, "exponential")


def constant(time: float) -> Holding:
    """All equal."""
    return Holding([time] * SIZE, "constant")


def lognormal(mean: float, p99: float) -> Holding:
    """What queries usually look like, from the mean and the 99th percentile; needs mean < p99 < 15 means."""
    z = NormalDist().inv_cdf(0.99)
    ratio = math.log(p99 / mean)
    # ln p99 = mu + z s and ln mean = mu + s * s / 2
    under = z * z - 2 * ratio
    if ratio <= 0 or under < 0:
        raise ValueError("the 99th percentile has to be larger than the mean, and at most 15 times as large")
    s = z - math.sqrt(under)
    normal = NormalDist(0, s) if s > 0 else None
    values = [math.exp(normal.inv_cdf(share)) if normal else 1.0 for share in _SHARES]
    return _scaled(values, mean, "lognormal")


def of_quantiles(points: Sequence[tuple[float, float]], mean: float) -> Holding:
    """Measured percentiles (share, seconds), straight lines between them on a logarithmic scale; then the "
    "mean."""
    known = sorted((share, max(time, 1e-6)) for share, time in points)
    shares = [share for share, _ in known]
    values = []
    for share in _SHARES:
        at = min(max(bisect_left(shares, share), 1), len(known) - 1)
        (s0, t0), (s1, t1) = known[at - 1], known[at]
        part = (share - s0) / (s1 - s0)
        values.append(math.exp(math.log(t0) + part * (math.log(t1) - math.log(t0))))
    return _scaled(sorted(values), mean, "measured")


def of_histogram(buckets: Sequence[tuple[float, float]], mean: float) -> Holding:
    """A histogram: (upper limit in seconds, count) in ascending order."""
    total = sum(count for _, count in buckets)
    if total <= 0:
        return exponential(mean)
    points, seen = [(0.0, buckets[0][0] / 2)], 0.0
    for limit, count in buckets:
        if count > 0:
            seen += count
            points.append((seen / total, limit))
    return of_quantiles(points, mean)


def _scaled(values: Sequence[float], mean: float, shape: str) -> Holding:
    factor = mean * len(values) / math.fsum(values)
    return Holding([value * factor for value in values], shape)
