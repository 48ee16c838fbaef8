"""The differential test sees every leak: with one part of the work turned off, its programs fail.

PGFERRY_TEST_OMIT names what a worker leaves out. The programs of each test are about the state that this part
is for, so that few rounds are enough.
"""

import os
from collections.abc import Callable

import pytest

from pgferry.embedded import Cluster
from support import state_schema
from support.differential import Difference, Hang
from support.pooler import SECRETS, Pooler
from support.state_differential import Comparison
from support.state_programs import make_programs

pytestmark = [pytest.mark.usefixtures("tenants"), pytest.mark.pg(18), pytest.mark.workers(1)]

ROUNDS = 40
CLIENTS = 10

# What is left out, and the kinds of state that its programs use.
MUTANTS = {
    "settings": ["settings"],
    "role": ["role"],
    "prepared": ["prepared"],
    "listen": ["listen"],
    "temp": ["temp"],
    "locks": ["locks"],
    "cursors": ["cursors"],
    "scrub": ["settings", "role", "temp", "locks"],
    "base": ["settings", "base"],
    "probe": ["settings", "prepared"],
}
# Of these programs every kind once, when time is short.
NOTHING_OMITTED = [
    kinds
    for omitted, kinds in MUTANTS.items()
    if os.environ.get("PGFERRY_TEST_MATRIX") != "one"
    or omitted in ("listen", "cursors", "scrub", "base", "probe")
]


@pytest.fixture
def comparison_of(
    cluster: Cluster, database: str, make_pooler: Callable[..., Pooler], monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Comparison]:
    """A comparison of a pgferry that leaves something out."""
    monkeypatch.setattr(
        "support.differential.STALLED", 3.0
    )  # who waits for a lock left behind waits for ever

    def make(omitted: str) -> Comparison:
        pooler = make_pooler(
            settings={
                "session_state": "track",
                "default_pool_size": 3,
                "server_round_robin": 1,
                "query_wait_notify": 0,
            },
            userlist={**SECRETS, state_schema.APP: ""},
            environment={"PGFERRY_TEST_OMIT": omitted},
        )
        return Comparison(cluster, database, (pooler.host, pooler.port))

    return make


@pytest.mark.parametrize("omitted", MUTANTS)
def test_noticed(comparison_of: Callable[[str], Comparison], omitted: str) -> None:
    comparison = comparison_of(omitted)
    for seed in range(ROUNDS):
        try:
            comparison.check(make_programs(seed, CLIENTS, MUTANTS[omitted]), seed)
        except (Difference, Hang):
            return
    pytest.fail(f"nobody noticed in {ROUNDS} rounds that {omitted} was left out")


def test_nothing_left_out(comparison_of: Callable[[str], Comparison]) -> None:
    """The same programs, when all the work is done."""
    comparison = comparison_of("")
    for kinds in NOTHING_OMITTED:
        comparison.check(make_programs(0, CLIENTS, kinds), 0)
