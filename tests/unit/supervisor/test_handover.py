"""Who may hand over to whom: the accounts at the two ends of an online upgrade."""

import socket
import threading

import pytest

from pgferry.supervisor import handover


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
