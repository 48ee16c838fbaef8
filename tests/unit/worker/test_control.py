"""The control channel of a worker: every request is answered, whatever is raised; one failure costs itself only."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pgferry.engine.io.loop import Loop
from pgferry.frames import Frames, Message, packed
from pgferry.worker import control
from pgferry.worker.control import Control, Refusal


class Supervisor:
    """The other end, and what the worker's handler does."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.sock, theirs = socket.socketpair()
        self.sock.setblocking(False)
        theirs.setblocking(False)
        self.handlers: dict[str, Callable[[Message, Callable[[Message], None]], None]] = {}
        self.lost = False
        self.frames = Frames()
        self.control = Control(loop, theirs.detach(), self.handle, self.on_lost)

    def handle(self, message: Message, answer: Callable[[Message], None]) -> None:
        self.handlers[message["op"]](message, answer)

    def on_lost(self) -> None:
        self.lost = True

    def say(self, *messages: Message) -> list[Message]:
        """Send them in one piece; what comes back."""
        self.sock.send(b"".join(packed(message) for message in messages))
        return self.turns()

    def turns(self) -> list[Message]:
        for _ in range(3):
            self.loop.run_once(0)
        try:
            return list(self.frames.feed(self.sock.recv(1 << 20)))
        except BlockingIOError:
            return []


@pytest.fixture
def bugs() -> list[str]:
    return []


@pytest.fixture
def far(bugs: list[str]) -> Iterator[Supervisor]:
    loop = Loop()
    loop.on_bug = lambda _what, error: bugs.append(str(error))
    made = Supervisor(loop)
    made.handlers["ping"] = lambda _message, answer: answer({"pong": True})
    yield made
    assert made.say({"id": 99, "op": "ping"}) == [{"re": 99, "ok": True, "pong": True}]


def fail(*_: Any) -> None:
    raise ZeroDivisionError("a bug")


def test_a_handler_that_raises_is_answered(far: Supervisor, bugs: list[str]) -> None:
    far.handlers["bad"] = fail
    answers = far.say(
        {"id": 1, "op": "bad"}, {"op": "bad"}, {"id": 2, "op": "ping"}, {"id": 3, "op": "unknown"}
    )
    assert [(a["re"], a["ok"]) for a in answers] == [(1, False), (2, True), (3, False)]
    assert "ZeroDivisionError: a bug" in answers[0]["error"]
    assert bugs == ["a bug", "a bug", "'unknown'"]


def test_a_refusal_is_no_bug(far: Supervisor, bugs: list[str]) -> None:
    def refuse(*_: Any) -> None:
        raise Refusal("not now")

    far.handlers["no"] = refuse
    assert far.say({"id": 1, "op": "no"}) == [{"re": 1, "ok": False, "error": "not now"}]
    assert not bugs


def test_an_answer_that_cannot_be_sent_is_an_error(far: Supervisor, bugs: list[str]) -> None:
    far.handlers["odd"] = lambda _message, answer: answer({"value": object()})
    (answer,) = far.say({"id": 1, "op": "odd"})
    assert answer["re"] == 1 and not answer["ok"] and len(bugs) == 1


def test_a_handler_that_answers_and_then_raises_has_answered(far: Supervisor) -> None:
    def both(_message: Message, answer: Callable[[Message], None]) -> None:
        answer({"n": 1})
        raise ZeroDivisionError

    far.handlers["both"] = both
    assert far.say({"id": 1, "op": "both"}) == [{"re": 1, "ok": True, "n": 1}]


def test_an_answer_may_come_in_parts(far: Supervisor) -> None:
    def parts(_message: Message, answer: Callable[[Message], None]) -> None:
        for more in (True, True, False, False):
            answer({"rows": [1], "more": more})

    far.handlers["show"] = parts
    assert [a["more"] for a in far.say({"id": 1, "op": "show"})] == [True, True, False]


def test_who_cannot_take_an_answer_costs_nobody_else(far: Supervisor, bugs: list[str]) -> None:
    got: list[Message] = []
    far.control.request("first", fail)
    far.control.request("second", got.append)
    assert [m["op"] for m in far.turns()] == ["first", "second"]
    far.say({"re": 1, "ok": True}, {"re": 2, "ok": True})
    assert got == [{"re": 2, "ok": True}] and bugs == ["a bug"]


def test_a_request_that_is_not_answered_ends(far: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "PATIENCE", 0.0)
    got: list[Message] = []
    far.control.request("resolve", got.append)
    far.turns()
    far.control.expire()
    assert [a["ok"] for a in got] == [False] and "not answered" in got[0]["error"]
    far.say({"re": 1, "ok": True})
    assert len(got) == 1


def test_no_stream_of_messages_ends_the_worker(bugs: list[str]) -> None:
    for garbage in (b"\xff" * 8, (5).to_bytes(4, "big") + b"\xc1" * 5, packed([1])):  # type: ignore[arg-type]
        loop = Loop()
        loop.on_bug = lambda _what, error: bugs.append(str(error))
        far = Supervisor(loop)
        far.sock.send(garbage)
        far.loop.run_once(0)
        assert far.lost, garbage
