"""Random scripts by many clients, directly and through pgferry: every message must be the same,.

A failure prints its seed; PGFERRY_DIFF_SEED=<seed> runs that round alone, PGFERRY_DIFF_SHRINK=1 then also
looks for the shortest script that still differs. `make soak` runs for PGFERRY_SOAK_SECONDS.
"""

import copy
import os
import time
from collections.abc import Callable

import pytest

from pgferry.embedded import Cluster
from support.differential import (
    Difference,
    Hang,
    Transcript,
    compare,
    fixed_seed,
    make_scripts,
    own_only,
    plain_noise,
    play,
)
from support.pooler import Pooler
from support.scripts import TABLES, Script
from support.wire import Message

MODES = ["session", "transaction", "statement"]
SECONDS = 8.0  # of each combination in `make test`
CLIENTS = 16


def settings(mode: str) -> dict[str, object]:
    """Few servers in turn, and few statements on each, so that luck cannot hide a mistake."""
    return {
        "pool_mode": mode,
        "default_pool_size": 3,
        "server_round_robin": 1,
        "max_prepared_statements": 4,
        "query_wait_notify": 0,
        "track_extra_parameters": "IntervalStyle",
    }


def clean(cluster: Cluster, database: str) -> None:
    """As before the first run."""
    cluster.sql("TRUNCATE diff_rows, diff_late", database)
    for (name,) in cluster.sql("SELECT tablename FROM pg_tables WHERE tablename LIKE 'own\\_%'", database):
        cluster.sql(f"DROP TABLE {name}", database)


def both(
    scripts: list[Script], mode: str, cluster: Cluster, pooler: Pooler, database: str, seed: int
) -> tuple[list[Transcript], list[Transcript]]:
    """The transcripts of the direct and of the pooled run."""
    direct = play(scripts, ("127.0.0.1", cluster.port), database, seed)
    clean(cluster, database)
    noise = [plain_noise(n) for n in range(2)] if mode != "session" else []  # there it would keep its servers
    try:
        pooled = play(scripts, (pooler.host, pooler.port), database, seed + 1, noise=noise)
    except Hang as e:
        for script, heard in zip(scripts, direct, strict=True):
            if script.tag in e.heard:
                compare(script, heard, e.heard[script.tag])
        raise
    finally:
        clean(cluster, database)
    return direct, pooled


def one_round(seed: int, mode: str, cluster: Cluster, pooler: Pooler, database: str) -> None:
    """Difference or Hang, with the seed, when the runs are not alike."""
    scripts = make_scripts(seed, mode, CLIENTS)
    script = scripts[0]
    try:
        direct, pooled = both(scripts, mode, cluster, pooler, database, seed)
        for script, a, b in zip(scripts, direct, pooled, strict=True):
            compare(script, a, b)
    except (Difference, Hang) as e:
        text = f"seed {seed}, {mode} mode: {e}"
        if os.environ.get("PGFERRY_DIFF_SHRINK"):
            text += "\nshrunk to:\n" + shrunk(script, mode, cluster, pooler, database, seed)
        raise type(e)(text) from None


def shrunk(script: Script, mode: str, cluster: Cluster, pooler: Pooler, database: str, seed: int) -> str:
    """The script without the steps that the difference does not need (when it differs on its own)."""
    best, last = script, "does not differ alone"
    size = len(best.steps) // 2
    while size:
        at = 0
        while at < len(best.steps) - 1:
            shorter = copy.copy(best)
            shorter.steps = best.steps[:at] + best.steps[min(at + size, len(best.steps) - 1) :]
            try:
                direct, pooled = both([shorter], mode, cluster, pooler, database, seed)
                compare(shorter, direct[0], pooled[0])
                at += size
            except (Difference, Hang) as e:
                best, last = shorter, str(e)
        size //= 2
    return "\n".join(f"  {s.what}: {s.data[:400]!r}" for s in best.steps) + "\n" + last


def run(mode: str, seconds: float, cluster: Cluster, pooler: Pooler, database: str) -> None:
    """Rounds until the time is over."""
    cluster.sql(TABLES, database)
    if (seed := fixed_seed()) is not None:
        return one_round(seed, mode, cluster, pooler, database)
    end = time.monotonic() + seconds
    seed = time.time_ns() // 1000 % 10**9
    while time.monotonic() < end:
        one_round(seed, mode, cluster, pooler, database)
        seed += 1
    return None


@pytest.mark.parametrize("mode", MODES)
def test_same_answers(cluster: Cluster, database: str, make_pooler: Callable[..., Pooler], mode: str) -> None:
    pooler = make_pooler(settings=settings(mode))
    run(mode, SECONDS, cluster, pooler, database)


@pytest.mark.soak
@pytest.mark.skipif("PGFERRY_SOAK_SECONDS" not in os.environ, reason="make soak")
@pytest.mark.parametrize("mode", MODES)
def test_soak(cluster: Cluster, database: str, make_pooler: Callable[..., Pooler], mode: str) -> None:
    pooler = make_pooler(settings=settings(mode))
    seconds = float(os.environ["PGFERRY_SOAK_SECONDS"]) / (2 * len(MODES))
    run(mode, seconds, cluster, pooler, database)


# --- the checker notices


def test_swapped_answers_are_noticed(cluster: Cluster, database: str) -> None:
    """One client's answer in place of another's, in the middle of two good transcripts."""
    cluster.sql(TABLES, database)
    scripts = make_scripts(7, "transaction", 4)
    heard = play(scripts, ("127.0.0.1", cluster.port), database, 7)
    for script, transcript in zip(scripts, heard, strict=True):
        own_only(script, transcript)
        compare(script, transcript, transcript)
    one, other = copy.deepcopy(heard[0]), copy.deepcopy(heard[1])
    i = next(i for i, m in enumerate(one.messages) if scripts[0].tag.encode() in m.body)
    j = next(j for j, m in enumerate(other.messages) if scripts[1].tag.encode() in m.body)
    one.messages[i], other.messages[j] = other.messages[j], one.messages[i]
    for script, good, bad in ((scripts[0], heard[0], one), (scripts[1], heard[1], other)):
        with pytest.raises(Difference, match="received"):
            own_only(script, bad)
        with pytest.raises(Difference, match="direct:"):
            compare(script, good, bad)


@pytest.mark.parametrize("change", ["lost", "doubled", "one byte", "order"])
def test_small_changes_are_noticed(cluster: Cluster, database: str, change: str) -> None:
    cluster.sql(TABLES, database)
    (script,) = make_scripts(11, "session", 1)
    (good,) = play([script], ("127.0.0.1", cluster.port), database, 11)
    bad = copy.deepcopy(good)
    i = next(i for i, m in enumerate(bad.messages) if m.type == "C" and bad.messages[i + 1].type == "Z")
    if change == "lost":
        del bad.messages[i]
        bad.settled -= 1
    elif change == "doubled":
        bad.messages.insert(i, bad.messages[i])
        bad.settled += 1
    elif change == "one byte":
        bad.messages[i] = Message("C", bad.messages[i].body[:-2] + b"~\0")
    else:
        bad.messages[i : i + 2] = bad.messages[i + 1], bad.messages[i]
    with pytest.raises(Difference):
        compare(script, good, bad)
