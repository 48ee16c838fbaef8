"""The differential test sees every leak: with one part of the work turned off, its programs fail.

PGFERRY_TEST_OMIT names what a worker leaves out. The programs of each test are about the state that this part
is for, so that few rounds are enough.
"""

from collections.abc import Callable

import pytest

from pgferry.embedded import Cluster
from support import state_schema
from support.differential import Difference, Hang
from support.pooler import SECRETS, Pooler
from support.state_differential import Judge
from support.state_programs import make_programs

pytest.importorskip("pgferry.engine.state")
pytestmark = [pytest.mark.usefixtures("tenants"), pytest.mark.pg(18), pytest.mark.workers(1)]

ROUNDS = 12
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


@pytest.mark.parametrize("omitted", MUTANTS)
def test_noticed(cluster: Cluster, database: str, make_pooler: Callable[..., Pooler], omitted: str) -> None:
    pooler = make_pooler(
        settings={"default_pool_size": 3, "server_round_robin": 1, "query_wait_notify": 0},
        userlist={**SECRETS, state_schema.APP: ""},
        environment={"PGFERRY_TEST_OMIT": omitted},
    )
    judge = Judge(cluster, database, (pooler.host, pooler.port))
    for seed in range(ROUNDS):
        try:
            judge.check(make_programs(seed, CLIENTS, MUTANTS[omitted]), seed)
        except (Difference, Hang):
            return
    pytest.fail(f"nobody noticed in {ROUNDS} rounds that {omitted} was left out")
