"""Who may hand over to whom: the accounts at the two ends of an online upgrade. What one does that cannot."""

import asyncio
import socket
import threading
from types import SimpleNamespace

import msgspec
import pytest

from pgferry.supervisor import handover
from pgferry.supervisor.errors import WorkerRefused


def test_strangers_are_sent_away_and_the_right_one_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = handover._abstract_listener()
    name = listener.getsockname()
    opened = [socket.socket(socket.AF_UNIX) for _ in range(4)]
    for sock in opened:
        sock.connect(name)
        sock.settimeout(10)
    verdicts = iter([False, False, True])
    monkeypatch.setattr(handover, "_is_own", lambda _sock: next(verdicts))
    found = handover.accept_own(listener, threading.Event())
    assert found is not None
    found.sendall(b"hello")
    assert [sock.recv(10) for sock in opened[:3]] == [b"", b"", b"hello"]
    for sock in (*opened, found, listener):
        sock.close()


def test_the_wait_has_an_end() -> None:
    with handover._abstract_listener() as listener:
        assert handover.accept_own(listener, threading.Event(), seconds=0.2) is None
        ended = threading.Event()
        ended.set()
        assert handover.accept_own(listener, ended) is None


class OldFleet:
    """Two workers; the first one cannot hand over."""

    def __init__(self) -> None:
        self.draining = False
        self.asked: list[tuple[int, str]] = []

    async def ask(self, index: int, op: str, _timeout: float | None, **_fields: object) -> dict[str, int]:
        self.asked.append((index, op))
        if (index, op) == (0, "hand_over"):
            raise WorkerRefused("the new process cannot be reached")
        return {"clients": 3, "servers": 1}


def test_clients_of_a_worker_that_cannot_hand_over_stay_until_they_leave() -> None:
    ours, theirs = socket.socketpair()
    fleet = OldFleet()
    order: list[object] = []
    pooler = SimpleNamespace(
        log=SimpleNamespace(log=order.append, error=order.append, warning=order.append),
        state=SimpleNamespace(shutdown=None),
        fleet=fleet,
        listeners=SimpleNamespace(leave=lambda: None),
        end=lambda seconds: order.append((seconds, list(fleet.asked))),
    )

    async def stop_web() -> None:
        return None

    theirs.send(msgspec.msgpack.encode({"go": ["a", "b"]}))
    hand_over = handover.Handover(pooler, [], stop_web)  # type: ignore[arg-type]
    asyncio.run(hand_over._wait_for_go(ours))
    theirs.close()
    assert order[-1] == (5.0, [(0, "hand_over"), (1, "hand_over"), (0, "shutdown")])
    assert "worker 0 could not hand over: the new process cannot be reached" in order
