"""Histograms over workers and periods: sums, differences, workers that die."""

from array import array
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pgferry.supervisor.close_reasons import CloseReasons
from pgferry.supervisor.times import BUCKETS, KINDS, Histogram, TimesKeeper, lower_bound

COUNTS = st.dictionaries(st.integers(0, BUCKETS - 1), st.integers(1, 1000), max_size=8)


def made(counts: dict[int, int], seconds: float = 0.0) -> Histogram:
    if not counts:
        return Histogram()
    low = min(counts)
    return Histogram(low, [counts.get(i, 0) for i in range(low, max(counts) + 1)], seconds)


def seen(histogram: Histogram) -> dict[int, int]:
    return {i: n for i, n in enumerate(histogram.counts, histogram.low) if n}


def row(database: str, query: Histogram) -> dict[str, Any]:
    packed = dict.fromkeys(KINDS, (0, b""))
    packed["query"] = (query.low, query.counts.tobytes())
    return {
        "database": database,
        "user": "u",
        "times": packed,
        "seconds": dict.fromkeys(KINDS, query.seconds),
    }


@given(COUNTS, COUNTS)
def test_sum_and_difference(a: dict[int, int], b: dict[int, int]) -> None:
    total = made(a)
    total.add(made(b))
    assert seen(total) == {i: a.get(i, 0) + b.get(i, 0) for i in {*a, *b}}
    assert seen(total.since(made(a))) == b
    assert total.count == sum(a.values()) + sum(b.values())


@given(COUNTS)
def test_percentiles_grow(counts: dict[int, int]) -> None:
    histogram = made(counts)
    found = [histogram.percentile(share) for share in (0.0, 0.1, 0.5, 0.9, 0.99, 1.0)]
    assert found == sorted(found)
    if counts:
        assert lower_bound(max(counts)) <= found[-1] < lower_bound(max(counts) + 1)


def test_a_period_is_what_came_since_the_snapshot_before_last() -> None:
    keeper = TimesKeeper()
    keeper.update(0, [row("a", made({10: 5}))])
    assert keeper.period()["a", "u"]["query"].count == 5
    keeper.snapshot()
    keeper.snapshot()
    keeper.update(0, [row("a", made({10: 5, 20: 2}))])
    assert seen(keeper.period()["a", "u"]["query"]) == {20: 2}
    assert keeper.pools()["a", "u"]["query"].count == 7


def test_a_dead_worker_stays_in_the_totals() -> None:
    keeper = TimesKeeper()
    keeper.update(0, [row("a", made({10: 5}, 1.5))])
    keeper.update(1, [row("a", made({12: 1})), row("b", made({3: 1}))])
    keeper.retire(0)
    assert keeper.pools()["a", "u"]["query"].count == 6
    assert keeper.pools()["a", "u"]["query"].seconds == 1.5
    keeper.retire(1)
    assert keeper.pools() == {}, "nobody has the pools any more"
    keeper.update(0, [row("a", made({10: 1}))])
    assert keeper.pools()["a", "u"]["query"].count == 7


def test_a_count_that_went_down_began_anew() -> None:
    now, before = Histogram(4, [3, 1]), Histogram(4, [9, 1])
    assert seen(now.since(before)) == {4: 3}
    assert Histogram(4, array("Q", [1])).since(Histogram(2, [7])).count == 1


def test_ends_are_summed_by_reason() -> None:
    ends = CloseReasons()
    ends.update(0, [{"kind": "client", "reason": "x", "count": 2}])
    ends.update(
        1, [{"kind": "client", "reason": "x", "count": 1}, {"kind": "server", "reason": "y", "count": 4}]
    )
    ends.retire(1)
    ends.update(1, [{"kind": "client", "reason": "x", "count": 1}])
    assert ends.totals() == {("client", "x"): 4, ("server", "y"): 4}
