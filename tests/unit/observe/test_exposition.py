"""What is written for scrapers is what prometheus-client would have written."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder

from pgferry.observe import exposition, own
from pgferry.observe.exposition import Histograms, registry, writer
from pgferry.supervisor.times import Histogram

TEXT = st.text(max_size=8) | st.sampled_from(['a"b', "back\\slash", "two\nlines", "", "naïve"])
NUMBER = st.floats() | st.integers(0, 10**18).map(float) | st.sampled_from([0.0, 1e6, 999999.5, 1e16, 1e21])
ACCEPTS = [
    "",
    "text/plain;version=0.0.4",
    "text/plain;version=1.0.0;escaping=allow-utf-8",
    "application/openmetrics-text;version=1.0.0;escaping=underscores;q=0.6,text/plain;version=0.0.4;q=0.4",
    "application/openmetrics-text;version=0.0.1",
    "application/openmetrics-text;version=1.0.0;escaping=dots",
]


def same(families: list[Metric], accept: str) -> None:
    theirs, their_type = choose_encoder(accept)
    ours, our_type = writer(accept)
    assert our_type == their_type
    assert ours(families) == theirs(registry(families))


@pytest.mark.parametrize("accept", ACCEPTS)
@settings(deadline=None, max_examples=60)
@given(TEXT, st.lists(st.tuples(TEXT, TEXT, NUMBER), max_size=4))
def test_all_kinds(accept: str, about: str, rows: list[tuple[str, str, float]]) -> None:
    gauge = GaugeMetricFamily("some_gauge", about, labels=("user", "database"))
    counter = CounterMetricFamily("some_events", about, labels=("zone",))
    histograms = Histograms("some_seconds", about, ("user", "database", "app"))
    for one, two, value in rows:
        gauge.add_metric([one, two], value)
        counter.add_metric([two], value)
        histograms.add((one, two, one), [("0.5", value), ("1.0", value), ("+Inf", value)], value)
    plain = GaugeMetricFamily("some_plain", about, value=3)
    same([gauge, counter, histograms, plain], accept)


@pytest.mark.parametrize(
    "value", [1e5, 1e6, 1234567.0, 12345678.25, 9.99e15, 1e16, -5e7, math.inf, -math.inf]
)
def test_numbers(value: float) -> None:
    same([GaugeMetricFamily("some_gauge", "about", value=value)], "")


def test_our_own_families() -> None:
    made = Histogram(3, [1, 0, 7], 0.25)
    times = {("shop", "web"): dict.fromkeys(("query", "xact", "wait", "connect"), made)}
    families = [
        *own.durations(times),
        *own.close_reasons({("client", "left"): 3}),
        *own.state(True, False, 2, 0),
    ]
    for accept in ACCEPTS:
        same(families, accept)


def test_a_histogram_has_samples_for_other_writers() -> None:
    family = exposition.Histograms("some_seconds", "about", ("pool",))
    family.add(["a"], [("1.0", 2), ("+Inf", 3)], 4.5)
    assert [(s.name, s.labels, s.value) for s in family.samples] == [
        ("some_seconds_bucket", {"pool": "a", "le": "1.0"}, 2),
        ("some_seconds_bucket", {"pool": "a", "le": "+Inf"}, 3),
        ("some_seconds_count", {"pool": "a"}, 3),
        ("some_seconds_sum", {"pool": "a"}, 4.5),
    ]
