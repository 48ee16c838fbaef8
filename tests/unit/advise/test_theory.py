"""Erlang C against known values, the simulation against Erlang C, sizes and budgets against their "
"definition."""

import math

import pytest

from pgferry.advise import given
from pgferry.advise.erlang import busy, erlang_b, erlang_c, mean_wait, wait_percentile
from pgferry.advise.holding import constant, exponential, lognormal, of_histogram, of_quantiles
from pgferry.advise.plan import Load, alternatives, budget, by_little, option, recommend, what_if
from pgferry.advise.plot import svg_plot, text_plot, time_text
from pgferry.advise.simulate import OVERLOAD, simulate


def by_definition(servers: int, load: float) -> float:
    """Erlang C as the textbooks write it: sums of powers and factorials."""
    top = load**servers / math.factorial(servers) * servers / (servers - load)
    return top / (sum(load**k / math.factorial(k) for k in range(servers)) + top)


@pytest.mark.parametrize(
    ("servers", "load", "waits"),
    [
        (1, 0.7, 0.7),  # M/M/1: the use itself
        (2, 1.0, 1 / 3),
        (3, 2.0, 4 / 9),
        (14, 10.0, 0.1741),  # the example of every course on call centres
        (10, 8.0, 0.4092),
    ],
)
def test_known_values_of_erlang_c(servers: int, load: float, waits: float) -> None:
    assert erlang_c(servers, load) == pytest.approx(waits, abs=5e-5)


def test_known_values_of_erlang_b() -> None:
    assert erlang_b(1, 1.0) == pytest.approx(0.5)
    assert erlang_b(10, 5.0) == pytest.approx(0.01838, abs=5e-6)  # of the printed tables


@pytest.mark.parametrize("servers", [1, 2, 5, 20, 60])
@pytest.mark.parametrize("use", [0.1, 0.5, 0.9, 0.99])
def test_erlang_c_by_its_definition(servers: int, use: float) -> None:
    assert erlang_c(servers, servers * use) == pytest.approx(by_definition(servers, servers * use), rel=1e-9)


def test_little() -> None:
    assert busy(200, 0.005) == pytest.approx(1)
    assert busy(200, 0.05) == pytest.approx(10)
    assert by_little(Load("a", 200, exponential(0.05))) == 15


def test_m_m_1_waits() -> None:
    """One server: mean wait = use / (1 - use) * time; percentiles of an exponential."""
    assert mean_wait(1, 0.5, 0.01) == pytest.approx(0.01)
    assert wait_percentile(1, 0.5, 0.01, 0.99) == pytest.approx(0.02 * math.log(50))
    assert wait_percentile(1, 0.5, 0.01, 0.5) == 0
    assert mean_wait(1, 0.5, 0.01, variation=0) == pytest.approx(0.005)  # M/D/1: half
    assert mean_wait(2, 2.0, 1.0) == math.inf
    assert erlang_c(2, 3.0) == 1


@pytest.mark.parametrize(("servers", "load"), [(1, 0.7), (4, 3.0), (12, 9.0)])
def test_the_simulation_agrees_with_erlang_c(servers: int, load: float) -> None:
    waits = simulate(servers, load / 0.01, exponential(0.01), arrivals=400_000)
    assert waits.probability == pytest.approx(erlang_c(servers, load), rel=0.03)
    assert waits.mean == pytest.approx(mean_wait(servers, load, 0.01), rel=0.06)
    assert waits.p99 == pytest.approx(wait_percentile(servers, load, 0.01, 0.99), rel=0.08)


def test_the_simulation_of_other_distributions() -> None:
    """M/D/1 and M/G/1 have exact means, too (Pollaczek and Khinchine)."""
    flat = simulate(1, 70, constant(0.01), arrivals=400_000)
    assert flat.mean == pytest.approx(mean_wait(1, 0.7, 0.01, 0.0), rel=0.05)
    slow = exponential(0.005).with_slow(0.01, 0.1)
    expected = mean_wait(1, 60 * slow.mean, slow.mean, slow.variation)
    assert simulate(1, 60, slow, arrivals=600_000).mean == pytest.approx(expected, rel=0.1)
    assert simulate(2, 300, constant(0.01)) == OVERLOAD


def test_distributions() -> None:
    assert exponential(0.01).mean == pytest.approx(0.01)
    assert exponential(0.01).variation == pytest.approx(1, abs=0.01)
    assert exponential(0.01).percentile(0.99) == pytest.approx(0.01 * math.log(100), rel=0.02)
    heavy = lognormal(0.005, 0.04)
    assert heavy.mean == pytest.approx(0.005)
    assert heavy.percentile(0.99) == pytest.approx(0.04, rel=0.03)
    measured = of_quantiles([(0, 0.001), (0.5, 0.004), (0.95, 0.02), (0.99, 0.05), (1, 0.2)], 0.0075)
    assert measured.mean == pytest.approx(0.0075)
    assert measured.percentile(0.5) == pytest.approx(0.004, rel=0.3)
    assert of_histogram([(0.001, 50), (0.002, 0), (0.004, 50)], 0.002).mean == pytest.approx(0.002)
    assert of_histogram([], 0.002).shape == "exponential"
    with pytest.raises(ValueError, match="15 times"):
        lognormal(0.005, 1.0)
    with_slow = constant(0.005).with_slow(0.01, 2.0)
    assert with_slow.mean == pytest.approx(0.99 * 0.005 + 0.02)
    assert len(with_slow.times) == 10_000


def test_the_recommended_size_is_the_smallest() -> None:
    load = Load("shop", 200, lognormal(0.05, 0.3), size=12)
    size = recommend(load, 0.01)
    assert size >= by_little(load)
    assert option(load, size).simulated.p99 <= 0.01
    assert option(load, size - 1).simulated.p99 > 0.01
    assert {12, size} <= set(alternatives(load, size))
    assert min(alternatives(load, size)) == 11  # the first that keeps up


def test_a_tiny_load_gets_one_server() -> None:
    load = Load("idle", 0.1, exponential(0.001))
    assert recommend(load, 0.01) == 1
    assert option(load, 1).use < 0.001


def test_what_if() -> None:
    load = Load("shop", 100, constant(0.01))
    assert what_if(load, given.changes(("traffic=2",))).busy == pytest.approx(2)
    assert what_if(load, given.changes(("slow=1%:2s traffic=2",))).busy == pytest.approx(
        200 * (0.0099 + 0.02)
    )
    assert given.changes(("pods=40x50",)) == {"pods": (40, 50)}
    for wrong in ("traffic=0", "slow=2s", "slow=200%:1s", "pods=4", "cores=4"):
        with pytest.raises(ValueError, match=r"not understood|percentage"):
            given.changes((wrong,))


def test_given_loads() -> None:
    load = given.load("shop=200/5ms/40ms@20")
    assert (load.name, load.rate, load.size) == ("shop", 200, 20)
    assert load.holding.mean == pytest.approx(0.005)
    assert given.load("3/2s").holding.shape == "exponential"
    assert given.load("a=1/7/7").holding.shape == "constant"
    for wrong in ("shop", "shop=200", "=0/5ms", "a=1/0ms", "a=1/x"):
        with pytest.raises(ValueError, match="is no "):
            given.load(wrong)


def test_a_budget_is_shared_where_it_helps() -> None:
    busy_one, quiet = Load("busy", 400, exponential(0.02)), Load("quiet", 1, exponential(0.02))
    shares = budget([busy_one, quiet], 14)
    assert sum(shares) <= 14
    assert shares[0] >= 12
    assert shares[1] >= 1

    # Nothing else shares it better.
    def total(sizes: tuple[int, int]) -> float:
        pairs = zip((busy_one, quiet), sizes, strict=True)
        return sum(x.rate * mean_wait(n, x.busy, x.holding.mean) for x, n in pairs)

    assert total((shares[0], shares[1])) == pytest.approx(
        min(total((n, 14 - n)) for n in range(9, 14)), rel=0.01
    )
    with pytest.raises(ValueError, match="10 connections are needed"):
        budget([busy_one, quiet], 9)


def test_plots() -> None:
    load = Load("a & b", 200, exponential(0.05), size=8)
    options = [option(load, size) for size in (8, 11, 15, 30)]
    text = text_plot(options, {8: "now", 15: "recommended"}).splitlines()
    assert len(text) == 5
    assert text[1].endswith("never ends  now")
    assert text[2].count("█") > text[3].count("█") > text[4].count("█")
    svg = svg_plot("a & b", options, {15: "recommended"})
    assert "a &amp; b" in svg
    assert svg.count("<polyline") == 4
    assert "inf" not in svg
    assert [time_text(x) for x in (0, 0.0000004, 0.00025, 0.005, 1.5, 300, math.inf)] == [
        "0",
        "0",
        "250 us",
        "5 ms",
        "1.5 s",
        "5 min",
        "never ends",
    ]
