"""Histograms: the compiled buckets are those that percentiles are computed from, at every boundary."""

from hypothesis import given
from hypothesis import strategies as st

from pgferry.engine.shared import times
from pgferry.supervisor.times import BUCKETS, KINDS, Histogram, TimesKeeper, lower_bound
from support.rig import Rig
from support.wire import query


def bucket_of(seconds: float) -> int:
    """The one bucket that a duration is counted in."""
    counter = times.Times()
    counter.note(0, seconds)
    low, counts = counter.row()["query"]
    assert counts == (1).to_bytes(8, "little")
    return low


def test_both_sides_know_the_same() -> None:
    assert times.BUCKETS == BUCKETS
    assert times.KINDS == KINDS


def test_every_bound_begins_its_bucket() -> None:
    for bucket in range(BUCKETS):
        low, high = lower_bound(bucket), lower_bound(bucket + 1)
        assert low < high
        assert bucket_of((low + 0.5) / 1e6) == bucket
        assert bucket_of((high - 0.5) / 1e6) == bucket


def test_what_is_out_of_range() -> None:
    assert bucket_of(0.0) == 0
    assert bucket_of(-1.0) == 0
    assert bucket_of(5000.0) == BUCKETS - 1
    assert bucket_of(1e12) == BUCKETS - 1


@given(st.lists(st.floats(1e-6, 4000.0), min_size=1, max_size=200), st.sampled_from([0.5, 0.95, 0.99]))
def test_percentiles_are_close(durations: list[float], share: float) -> None:
    counter = times.Times()
    for duration in durations:
        counter.note(0, duration)
    histogram = Histogram.unpack(counter.row()["query"])
    assert histogram.count == len(durations)
    ordered = sorted(durations)
    exact = ordered[max(0, -(-int(share * 100) * len(ordered) // 100) - 1)] * 1e6
    found = histogram.percentile(share)
    assert exact / 1.15 - 2 <= found <= exact * 1.15 + 2


def test_an_engine_counts_what_it_does() -> None:
    rig = Rig()
    try:
        port = rig.login()
        for _ in range(3):
            rig.feed(port, query("SELECT 1"))
        pool = rig.pool
        keeper = TimesKeeper()
        row = {
            "database": "db",
            "user": "app",
            "times": pool.times.row(),
            "seconds": dict.fromkeys(KINDS, 0.5),
        }
        keeper.update(0, [row])
        found = keeper.pools()["db", "app"]
        assert {kind: h.count for kind, h in found.items()} == {
            "query": pool.stats.query_count,
            "xact": pool.stats.xact_count,
            "wait": pool.stats.server_assignment_count,
            "connect": 1,
        }
        assert found["query"].count == 3
    finally:
        rig.close()
