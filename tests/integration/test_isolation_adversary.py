"""Programs that try to leave session state behind, against clients that must not see it.

A failure prints its seed, who saw what, and what the attackers had done until then. PGFERRY_DIFF_SEED=<seed> plays
that round alone, again and again (what the pooler did before may matter); PGFERRY_DIFF_SHRINK=1 looks for the attacks
that it needs; PGFERRY_ADVERSARY=family,family plays these families alone. `make soak
TESTS=tests/integration/test_isolation_adversary.py` plays for PGFERRY_SOAK_SECONDS; `make adversary` plays all
variants and counts.
"""

import os
import time
from collections.abc import Callable, Iterator

import pytest

from pgferry.embedded import Cluster
from support import adversary_schema as schema
from support.adversary_families import FAMILIES
from support.adversary_rounds import KILLED, Arena, Plan, seeds, shrunk
from support.differential import Difference, Hang, fixed_seed
from support.pooler import Pooler

pytestmark = pytest.mark.usefixtures("roles")

SECONDS = 6.0  # of each test and combination in `make test`
MakeArena = Callable[..., Arena]


@pytest.fixture
def roles(cluster: Cluster) -> Iterator[None]:
    schema.make_roles(cluster)
    yield
    schema.drop_roles(cluster)


@pytest.fixture
def make_arena(cluster: Cluster, database: str, make_pooler: Callable[..., Pooler]) -> MakeArena:
    def make(**options: object) -> Arena:
        return Arena(cluster, database, make_pooler, **options)

    return make


def rounds(arena: Arena, seconds: float, killing: bool = False) -> None:
    """Rounds until the time is over."""
    fixed = fixed_seed()
    chosen = os.environ.get("PGFERRY_ADVERSARY", "")
    families = chosen.split(",") if chosen else [*FAMILIES]
    for seed in seeds(fixed or time.time_ns() // 1000 % 10**9, seconds):
        one_round(arena, arena.plan(fixed or seed, families, killing))


def one_round(arena: Arena, plan: Plan) -> None:
    try:
        arena.play(plan)
    except (Difference, Hang) as e:
        if not os.environ.get("PGFERRY_DIFF_SHRINK"):
            raise
        raise type(e)(f"{e}\nshrunk to:\n{shrunk(arena, plan)}") from None


def test_nothing_is_left(make_arena: MakeArena) -> None:
    rounds(make_arena(), SECONDS)


def test_nothing_is_left_when_things_die(make_arena: MakeArena) -> None:
    rounds(make_arena(ignore=KILLED), SECONDS, killing=True)


@pytest.mark.soak
@pytest.mark.skipif("PGFERRY_SOAK_SECONDS" not in os.environ, reason="make soak")
def test_soak(make_arena: MakeArena) -> None:
    seconds = float(os.environ["PGFERRY_SOAK_SECONDS"])
    arena = make_arena(ignore=KILLED)
    rounds(arena, seconds * 0.75)
    rounds(arena, seconds * 0.25, killing=True)
    print(arena.summary)
