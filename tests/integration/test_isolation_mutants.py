"""The isolation adversary sees what it is for: with one part of the protection left out, its witnesses notice.

PGFERRY_TEST_OMIT names what a worker leaves out; each test plays the families of attacks that this part is against.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from pgferry.embedded import Cluster
from support import adversary_schema as schema
from support.adversary_rounds import Arena
from support.differential import Difference, Hang
from support.pooler import Pooler

pytestmark = [pytest.mark.usefixtures("roles"), pytest.mark.pg(15), pytest.mark.workers(1)]

ROUNDS = 40


@dataclass(frozen=True, slots=True)
class Mutant:
    """What is left out, and the attacks that must be seen then. others: only by witnesses of other login users."""

    omit: str
    families: tuple[str, ...]
    others: bool = False
    blind: bool = False  # pgferry cannot read the catalog
    slow: bool = False  # noticed after some time only: in `make test-all`, not in `make test`


MUTANTS = {
    "functions made under way": Mutant("ddl", ("ddl",)),
    "scrub between users": Mutant("ddl,users", ("ddl",), others=True),
    "whole Binds": Mutant("pieces", ("bind_pieces",), slow=True),
    "what nobody has understood": Mutant("ddl,unknown", ("functions",)),
    "settings that literals depend on": Mutant("literals", ("meanings",)),
    "a catalog that cannot be read": Mutant("catalog", ("indirect", "domains"), blind=True),
    "time limits on idle servers": Mutant("limits", ("idle",)),
    "values in any encoding": Mutant("values", ("encodings",), slow=True),
    "RESET beside a procedure": Mutant("lone", ("back",)),
    "comments that end at CR": Mutant("comment", ("comments",)),
}


@pytest.fixture
def roles(cluster: Cluster) -> Iterator[None]:
    schema.make_roles(cluster)
    yield
    schema.drop_roles(cluster)


@pytest.mark.parametrize("name", MUTANTS)
def test_noticed(cluster: Cluster, database: str, make_pooler: Callable[..., Pooler], name: str) -> None:
    mutant = MUTANTS[name]
    if mutant.slow and os.environ.get("PGFERRY_TEST_MATRIX") == "one":
        pytest.skip("make test-all")
    arena = Arena(
        cluster,
        database,
        make_pooler,
        blind=mutant.blind,
        kinds=schema.QUIET,  # with the others PostgreSQL is asked behind each statement, whatever was read in it
        settings={"default_pool_size": 1},
        environment={"PGFERRY_TEST_OMIT": mutant.omit},
        ignore=".",
    )
    for seed in range(ROUNDS):
        try:
            arena.play(arena.plan(seed, mutant.families, others=mutant.others))
        except (Difference, Hang) as e:
            if not mutant.others or "who has no state" in str(e):
                return
    pytest.fail(f"nobody noticed in {ROUNDS} rounds that {mutant.omit} was left out")


def test_others_are_not_harmed(cluster: Cluster, database: str, make_pooler: Callable[..., Pooler]) -> None:
    """Whatever is believed of statements: clients of other login users get servers that were wiped."""
    environment = {"PGFERRY_TEST_OMIT": "ddl"}
    arena = Arena(cluster, database, make_pooler, environment=environment)
    for seed in range(3):
        arena.play(arena.plan(seed, ("ddl",), others=True))
