"""Random session-state programs by many clients, directly and through transaction mode: every answer is the same.

A failure prints its seed; PGFERRY_DIFF_SEED=<seed> runs that round alone, PGFERRY_DIFF_SHRINK=1 then also looks
for the shortest programs that still differ. `make soak` runs for PGFERRY_SOAK_SECONDS.
"""

import os
import time
from collections.abc import Callable

import pytest

from pgferry.embedded import Cluster
from support import state_schema
from support.differential import Difference, Hang, fixed_seed
from support.pooler import SECRETS, Pooler
from support.state_differential import Comparison, shrunk
from support.state_programs import make_programs

pytestmark = pytest.mark.usefixtures("tenants")

SECONDS = 8.0  # of each test and combination in `make test`
DEATHS = 5.0
CLIENTS = 16

# Few servers in turn, and few statements on each, so that luck cannot hide a mistake.
SETTINGS: dict[str, object] = {
    "session_state": "track",
    "default_pool_size": 3,
    "server_round_robin": 1,
    "max_prepared_statements": 8,
    "query_wait_notify": 0,
}


# What it leaves behind is nobody's.
RESET = "SET work_mem = '77MB'; SELECT set_config('app.x', 'reset', false); SET search_path = nowhere"


@pytest.fixture
def comparison(cluster: Cluster, database: str, make_pooler: Callable[..., Pooler]) -> Comparison:
    return made(cluster, database, make_pooler, SETTINGS)


def made(
    cluster: Cluster, database: str, make_pooler: Callable[..., Pooler], settings: dict[str, object]
) -> Comparison:
    pooler = make_pooler(settings=settings, userlist={**SECRETS, state_schema.APP: ""})
    return Comparison(cluster, database, (pooler.host, pooler.port))


def rounds(seconds: float, one: Callable[[int], None]) -> None:
    """Until the time is over, each with its seed."""
    if (seed := fixed_seed()) is not None:
        return one(seed)
    end = time.monotonic() + seconds
    seed = time.time_ns() // 1000 % 10**9
    while time.monotonic() < end:
        one(seed)
        seed += 1
    return None


def one_round(comparison: Comparison, seed: int) -> None:
    """Difference or Hang, with the seed, when the runs are not alike."""
    programs = make_programs(seed, CLIENTS)
    try:
        comparison.check(programs, seed)
    except (Difference, Hang) as e:
        text = f"seed {seed}: {e}"
        if os.environ.get("PGFERRY_DIFF_SHRINK"):
            text += "\nshrunk to:\n" + shrunk(comparison, programs, seed)
        raise type(e)(text) from None


def one_deadly_round(comparison: Comparison, seed: int) -> None:
    try:
        comparison.check_deaths(make_programs(seed, CLIENTS), seed)
    except (Difference, Hang) as e:
        raise type(e)(f"seed {seed}, with deaths: {e}") from None


def test_same_answers(comparison: Comparison) -> None:
    rounds(SECONDS, lambda seed: one_round(comparison, seed))


@pytest.mark.workers(1)
def test_same_answers_with_a_reset_query_that_sets(
    cluster: Cluster, database: str, make_pooler: Callable[..., Pooler]
) -> None:
    settings = SETTINGS | {"server_reset_query_always": 1, "server_reset_query": RESET}
    comparison = made(cluster, database, make_pooler, settings)
    rounds(SECONDS / 2, lambda seed: one_round(comparison, seed))


def test_never_wrong_when_servers_die(comparison: Comparison) -> None:
    rounds(DEATHS, lambda seed: one_deadly_round(comparison, seed))


@pytest.mark.soak
@pytest.mark.skipif("PGFERRY_SOAK_SECONDS" not in os.environ, reason="make soak")
def test_soak(comparison: Comparison) -> None:
    seconds = float(os.environ["PGFERRY_SOAK_SECONDS"]) / 4
    rounds(seconds, lambda seed: one_round(comparison, seed))
    rounds(seconds / 3, lambda seed: one_deadly_round(comparison, seed))
