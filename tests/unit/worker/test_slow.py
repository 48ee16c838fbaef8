"""Slow work: in a thread that is there only while there is work."""

import threading
import time

import pytest

from pgferry.engine.io.loop import Loop
from pgferry.worker import slow

LONG = 20.0  # seconds, for what happens at once


def threads() -> int:
    return sum(t.name == "slow" for t in threading.enumerate())


def result(loop: Loop, work: slow.SlowWork, key: int) -> list[object]:
    got: list[object] = []
    work.run(key, lambda: key * 2, lambda value, error: got.append(error or value))
    end = time.monotonic() + LONG
    while not got and time.monotonic() < end:
        loop.run_once(100)
    return got


def test_the_thread_goes_and_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow, "KEPT", 0.01)
    loop = Loop()
    work = slow.SlowWork(loop)
    for key in (1, 2):
        assert result(loop, work, key) == [key * 2]
        end = time.monotonic() + LONG
        while threads() and time.monotonic() < end:
            time.sleep(0.01)
        assert threads() == 0


def test_nothing_is_lost_when_work_comes_as_the_thread_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow, "KEPT", 0.0)
    loop = Loop()
    work = slow.SlowWork(loop)
    for key in range(2000):
        assert result(loop, work, key) == [key * 2]


def test_errors_come_back() -> None:
    loop, got = Loop(), []
    work = slow.SlowWork(loop)

    def fail() -> None:
        raise ValueError("no")

    work.run("x", fail, lambda value, error: got.append((value, str(error))))
    end = time.monotonic() + LONG
    while not got and time.monotonic() < end:
        loop.run_once(100)
    assert got == [(None, "no")]


def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asked is told so, and the next one gets an answer."""
    loop = Loop()
    work = slow.SlowWork(loop)

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        assert [str(error) for error in result(loop, work, 1)] == ["can't start new thread"]
    assert result(loop, work, 1) == [2]


def test_a_callback_that_raises_costs_only_who_asked() -> None:
    loop, got, bugs = Loop(), [], []
    loop.on_bug = lambda _what, error: bugs.append(str(error))
    work = slow.SlowWork(loop)

    def bad(_value: object, _error: object) -> None:
        raise ValueError("a bug")

    work.run(1, lambda: 1, bad)
    work.run(1, lambda: 1, lambda value, _error: got.append(value))
    work.run(2, lambda: 2, lambda value, _error: got.append(value))
    end = time.monotonic() + LONG
    while len(got) < 2 and time.monotonic() < end:
        loop.run_once(100)
    assert (got, bugs) == ([1, 2], ["a bug"])
    assert result(loop, work, 3) == [6]
