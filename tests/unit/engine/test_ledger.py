"""Counts over several processes: limits are never passed, a dead worker's part is given back."""

import os
from collections.abc import Callable, Iterator
from multiprocessing import get_context

import pytest

from pgferry.engine.ops import harness
from pgferry.engine.shared.ledger import Counter, Ledger, LedgerFull, create

fork = get_context("fork")


@pytest.fixture
def ledger() -> Iterator[Callable[[int, int], Ledger]]:
    """ledger(workers, index): all on one descriptor for each number of workers."""
    fds: dict[int, int] = {}

    def attach(workers: int, index: int) -> Ledger:
        if workers not in fds:
            fds[workers] = create(workers)
        return Ledger(fds[workers], workers, index)

    yield attach
    for fd in fds.values():
        os.close(fd)


def test_counts_of_all_workers_and_own(ledger: Callable[[int, int], Ledger]) -> None:
    counters = [ledger(3, i).counter("pool", "db", "user") for i in range(3)]
    assert counters[0].taken(2) and counters[2].taken(2)
    assert not counters[1].taken(2)
    assert [harness.own(c) for c in counters] == [1, 0, 1]
    assert {c.value() for c in counters} == {2}
    counters[0].given()
    assert counters[1].taken(2)
    assert counters[1].taken(0), "0 is no limit"


def test_keys_do_not_share_a_count(ledger: Callable[[int, int], Ledger]) -> None:
    one = ledger(1, 0)
    counters = [one.counter("pool", f"db{i}", user) for i in range(300) for user in ("a", "b")]
    for i, counter in enumerate(counters):
        for _ in range(i % 5):
            counter.taken(0)
    assert [c.value() for c in counters] == [i % 5 for i in range(len(counters))]
    # names that run together are different keys all the same
    assert one.counter("pool", "ab", "c").taken(1) and one.counter("pool", "a", "bc").taken(1)


def test_what_a_dead_worker_held_is_free(ledger: Callable[[int, int], Ledger]) -> None:
    counters = [ledger(2, i).counter("clients") for i in range(2)]
    for _ in range(3):
        counters[0].taken(0)
        counters[1].taken(0)
    ledger(2, 0).clear_worker(1)
    assert counters[0].value() == 3


def test_the_secret_is_everybodys(ledger: Callable[[int, int], Ledger]) -> None:
    assert ledger(2, 0).secret == ledger(2, 1).secret != bytes(32)


def test_processes_never_pass_the_limit(ledger: Callable[[int, int], Ledger]) -> None:
    workers, limit, rounds = 4, 5, 3000
    ledger(workers, 0)
    start = fork.Event()
    results = fork.SimpleQueue()

    kept: list[Counter] = []

    def work(index: int) -> None:
        counter = ledger(workers, index).counter("pool", "db")
        kept.append(counter)  # as of a worker that dies: nothing is given back
        start.wait()
        worst = held = taken = 0
        for i in range(rounds):
            if counter.taken(limit):
                held += 1
                taken += 1
                worst = max(worst, harness.own(counter))
            if held and (i * (index + 3)) % 4 < 2:
                counter.given()
                held -= 1
        results.put((worst, held, taken))

    processes = [fork.Process(target=work, args=(i,)) for i in range(workers)]
    for process in processes:
        process.start()
    start.set()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join()
    assert sum(held for _, held, _ in found) == ledger(workers, 0).counter("pool", "db").value() <= limit
    assert all(worst <= limit for worst, _, _ in found)
    assert sum(taken for _, _, taken in found) > 0


def test_names_come_and_go(ledger: Callable[[int, int], Ledger]) -> None:
    """Far more of them than there are slots, one after the other; some stay, and keep what they count."""
    ours, others = ledger(2, 0), ledger(2, 1)
    kept = {i: ours.counter("pool", f"kept {i}") for i in range(500)}
    for i, counter in kept.items():
        for _ in range(i % 3):
            counter.taken(0)
    for n in range(200_000):
        counter = (ours, others)[n % 2].counter("pool", str(n))
        assert counter.value() == 0
        counter.taken(0)
        del counter
    assert ours.used() == 500
    assert [others.counter("pool", f"kept {i}").value() for i in kept] == [i % 3 for i in kept]


def test_a_slot_is_held_by_every_worker_that_counts(ledger: Callable[[int, int], Ledger]) -> None:
    one, two = (ledger(2, i).counter("pool", "db") for i in range(2))
    again = ledger(2, 0).counter("pool", "db")
    one.taken(0)
    two.taken(0)
    del one
    assert again.value() == 2
    del again
    assert two.value() == 2, "the sum of what only grows does not go back"
    ledger(2, 0).clear_worker(0)
    assert two.value() == 1
    ledger(2, 0).clear_worker(1)
    assert ledger(2, 0).used() == 0


def test_full(ledger: Callable[[int, int], Ledger]) -> None:
    """Full is an error; what is let go makes room."""
    one = ledger(1, 0)
    counters = [one.counter("pool", str(n)) for n in range(1 << 16)]
    with pytest.raises(LedgerFull, match="too many databases, users and pools"):
        one.counter("pool", "more")
    del counters[100]
    one.counter("pool", "more").taken(0)
    assert one.used() == len(counters)
