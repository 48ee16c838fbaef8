"""`make adversary`: rounds of the isolation adversary over its variants, and what they found.

Differences do not end it: each is printed with its seed when it is found, and the summary counts them.
"""

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pgferry.embedded import Cluster
from support import adversary_schema as schema
from support import cluster as clusters
from support.adversary_families import FAMILIES
from support.adversary_rounds import KILLED, Arena, Summary, shrunk
from support.differential import Difference, Hang
from support.pooler import Pooler

EACH = 12  # rounds with one pooler and one database


@dataclass(frozen=True, slots=True)
class Variant:
    """A pooler to be attacked."""

    name: str
    workers: int = 1
    settings: dict[str, object] = field(default_factory=dict)
    killing: bool = False
    first: str = ""  # see Plan
    blind: bool = False  # see Arena


VARIANTS = (
    Variant("one server", 1, {"default_pool_size": 1}),
    Variant("one worker", 1, {"default_pool_size": 3}),
    Variant("two workers", 2, {"default_pool_size": 4}),
    Variant("last used first", 1, {"server_round_robin": 0}),
    Variant("killing", 1, {}, True),
    Variant("killing, two workers", 2, {"default_pool_size": 4}, True),
    Variant("refuse", 1, {"session_state": "refuse"}),
    Variant("scrub always", 1, {"scrub": "always"}),
    Variant("scrub when needed", 1, {"scrub": "when_needed"}),
    Variant("pin unknown", 1, {"unknown_state": "pin", "default_pool_size": 6}),
    Variant("reload", 1, {}, first="reload"),
    Variant("outside", 1, {}, first="outside"),
    Variant("blind", 1, {"default_pool_size": 12}, blind=True),
    Variant("session mode", 1, {"pool_mode": "session", "default_pool_size": 40}),
)


@contextmanager
def arena(variant: Variant, cluster: Cluster, without: Sequence[str]) -> Iterator[Arena]:
    """The arena of a variant, on a database of its own."""
    database = f"adversary_{random.randrange(10**9)}"
    cluster.sql(f"CREATE DATABASE {database}")
    made: list[Pooler] = []

    def make_pooler(**options: object) -> Pooler:
        made.append(Pooler(cluster, workers=variant.workers, **options))  # type: ignore[arg-type]
        return made[-1].start()

    try:
        yield Arena(cluster, database, make_pooler, without, variant.blind, settings=variant.settings)
    finally:
        for pooler in made:
            try:
                pooler.finish(KILLED if variant.killing else None)
            except AssertionError as e:
                print(f"pgferry itself: {e}", flush=True)
        cluster.sql(f"DROP DATABASE {database} WITH (FORCE)")


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be played. seed: this round alone, again and again."""

    seconds: float
    rounds: int
    families: Sequence[str]
    without: Sequence[str]
    seed: int | None
    shrink: bool


def play(variant: Variant, cluster: Cluster, wish: Wish) -> Summary:
    """Rounds of one variant until the time is over; a new pooler and database now and then, and after a difference."""
    total = Summary()
    end = time.monotonic() + wish.seconds
    seed = random.randrange(10**8) * 10 if wish.seed is None else wish.seed
    while time.monotonic() < end and total.rounds < wish.rounds:
        with arena(variant, cluster, wish.without) as here:
            most = min(EACH, wish.rounds - total.rounds)
            while time.monotonic() < end and here.summary.rounds < most:
                plan = here.plan(seed, wish.families, variant.killing, first=variant.first)
                seed += wish.seed is None
                try:
                    here.play(plan)
                except (Difference, Hang) as e:
                    text = f"{e}\nshrunk to:\n{shrunk(here, plan)}" if wish.shrink else str(e)
                    print(f"--- {variant.name}, PostgreSQL {cluster.version}: {text}\n", flush=True)
                    break
            total += here.summary
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600, help="for all variants together")
    parser.add_argument("--rounds", type=int, default=10**9, help="at most, of each variant and version")
    parser.add_argument("--pg", default="15,18")
    parser.add_argument("--variants", default=",".join(v.name for v in VARIANTS).replace(", ", " "))
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--without", default="", help="families, payloads, news, literals, codecs")
    parser.add_argument("--seed", type=int, help="this round alone, again and again")
    parser.add_argument("--each", action="store_true", help="each family alone")
    parser.add_argument("--shrink", action="store_true")
    args = parser.parse_args()
    wanted = args.variants.split(",")
    variants = [v for v in VARIANTS if v.name.replace(",", "") in wanted]
    without = args.without.split(",")
    families = [f for f in args.families.split(",") if f not in without and not FAMILIES[f].direct]
    sets = [[f] for f in families] if args.each else [families]
    versions = [int(v) for v in args.pg.split(",")]
    seconds = args.seconds / (len(variants) * len(sets) * len(versions))
    total = Summary()
    for version in versions:
        cluster = clusters.shared_cluster(version)
        schema.make_roles(cluster)
        for variant in variants:
            for some in sets:
                wish = Wish(seconds, args.rounds, some, without, args.seed, args.shrink)
                found = play(variant, cluster, wish)
                what = f"{variant.name}, PostgreSQL {version}" + (f", {some[0]}" if args.each else "")
                print(f"{what}: {found.rounds} rounds, {len(found.differences)} differences", flush=True)
                total += found
    clusters.close_shared()
    print(total)
    return 1 if total.differences else 0


if __name__ == "__main__":
    sys.exit(main())
