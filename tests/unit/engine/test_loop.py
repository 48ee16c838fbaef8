"""Streams on real sockets: back-pressure, held bytes, large messages, ends. And StreamList."""

import os
import socket
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgferry.engine.io.loop import Loop
from pgferry.engine.io.stream import Pause, Stream, StreamList
from pgferry.engine.ops import harness
from pgferry.engine.ops.harness import HookedStream
from pgferry.engine.ops.worker_loop import Watch

Feed = Callable[[HookedStream, bytes], int]


class Far:
    """A probe and the other end of its connection."""

    def __init__(self, loop: Loop, feed: Feed | None = None) -> None:
        ours, self.sock = socket.socketpair()
        ours.setblocking(False)
        self.sock.setblocking(False)
        self.fed: list[bytes] = []
        self.loop = loop
        self.feed = feed
        self.probe = HookedStream(loop, ours.detach(), self._fed)

    def _fed(self, probe: HookedStream, data: bytes) -> int:
        self.fed.append(data)
        return len(data) if self.feed is None else self.feed(probe, data)

    def turns(self, n: int = 5) -> None:
        for _ in range(n):
            self.loop.run_once(0)

    def read(self) -> bytes:
        found = bytearray()
        while True:
            try:
                data = self.sock.recv(1 << 20)
            except BlockingIOError:
                return bytes(found)
            if not data:
                return bytes(found)
            found += data


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    bugs: list[object] = []
    made.on_bug = lambda _stream, error: bugs.append(error)
    yield made
    assert not bugs, bugs


def test_bytes_come_once(loop: Loop) -> None:
    far = Far(loop)
    for part in (b"one", b"two"):
        far.sock.send(part)
        far.turns()
    assert far.fed == [b"one", b"two"]
    assert harness.facts(far.probe)["held_cap"] == 0


def test_idle_servers_come_before_others_in_a_turn(loop: Loop) -> None:
    order = []
    fars = [Far(loop, lambda _, data, n=n: order.append(n) or len(data)) for n in range(4)]
    fars[2].probe.be_first()
    for far in fars:
        far.sock.send(b"x")
    loop.run_once(0)
    assert order == [2, 0, 1, 3]


def test_newcomers_come_after_others_and_only_for_a_share_of_the_turn(loop: Loop) -> None:
    order: list[int] = []

    def feed(n: int, data: bytes) -> int:
        order.append(n)
        if n < 3:
            time.sleep(0.01)  # more than the share, on any machine
        return len(data)

    fars = [Far(loop, lambda _, data, n=n: feed(n, data)) for n in range(4)]
    for far in fars[:3]:
        far.probe.be_new()
    for turn in range(3):
        for far in fars if turn == 0 else fars[3:]:
            far.sock.send(b"x")
        loop.run_once(1000 if turn else 0)
    assert order == [3, 0, 3, 1, 3, 2]
    fars[0].sock.send(b"x")
    fars[1].sock.close()
    fars[2].sock.send(b"x")
    loop.run_once(0)
    fars[2].probe.close()
    loop.run_once(0)
    assert order[6:] == [0]
    assert fars[1].probe.events == ["eof"]
    fars[0].turns()


def test_unconsumed_bytes_are_held_and_come_again_with_the_next(loop: Loop) -> None:
    far = Far(loop, lambda _, data: len(data) // 5 * 5)
    far.sock.send(b"1234567")
    far.turns()
    far.sock.send(b"89")
    far.turns()
    far.sock.send(b"0")
    far.turns()
    assert far.fed == [b"1234567", b"6789", b"67890"]
    assert loop.memory.bytes == 0 and loop.memory.buffers == 0


@pytest.mark.parametrize("size", [200_000, 300_000, 1_000_000])
def test_a_message_larger_than_the_buffer_is_fed_when_complete(loop: Loop, size: int) -> None:
    def feed(probe: HookedStream, data: bytes) -> int:
        if len(data) < size:
            probe.want(size)
            return 0
        return size

    far = Far(loop, feed)
    data = bytes(range(256)) * (size // 256 + 1)
    sent = 0
    while sent < len(data):
        try:
            sent += far.sock.send(data[sent : sent + 50_000])
        except BlockingIOError:
            pass
        far.turns(1)
    far.turns()
    whole = [x for x in far.fed if len(x) >= size]
    assert len(whole) == 1 and data.startswith(whole[0])
    assert len(far.fed) <= 4, "not offered again and again"
    far.probe.close()
    assert loop.memory.bytes == 0


def test_a_paused_stream_is_not_read_and_goes_on_where_it_was(loop: Loop) -> None:
    far = Far(loop)
    far.probe.stop(Pause.PAUSE_WAIT)
    far.probe.stop(Pause.PAUSE_PEER)
    far.sock.send(b"later")
    far.turns()
    far.probe.go(Pause.PAUSE_WAIT)
    far.turns()
    assert far.fed == []
    far.probe.go(Pause.PAUSE_PEER)
    far.turns()
    assert far.fed == [b"later"]


def test_pausing_in_the_middle_keeps_the_rest(loop: Loop) -> None:
    def feed(probe: HookedStream, _data: bytes) -> int:
        probe.stop(Pause.PAUSE_WAIT)
        return 1

    far = Far(loop, feed)
    far.sock.send(b"abc")
    for _ in range(3):
        far.turns()
        far.probe.go(Pause.PAUSE_WAIT)
    far.turns()
    assert far.fed == [b"abc", b"bc", b"c"]


def test_what_the_kernel_refuses_is_kept_and_sent_later(loop: Loop) -> None:
    far = Far(loop)
    data = b"x" * 3_000_000
    far.probe.write(data)
    assert harness.facts(far.probe)["blocked"] and loop.memory.bytes >= 1_000_000
    far.probe.write(b"end")
    got = bytearray()
    deadline = time.monotonic() + 10
    while len(got) < len(data) + 3 and time.monotonic() < deadline:
        got += far.read()
        far.turns(1)
    assert got == data + b"end"
    assert far.probe.events == ["drained"] and loop.memory.bytes == 0


def test_the_end_comes_after_the_last_bytes(loop: Loop) -> None:
    far = Far(loop)
    far.sock.send(b"last words")
    far.sock.close()
    far.turns()
    assert far.fed == [b"last words"] and far.probe.events == ["eof"] and far.probe.closed


def test_a_paused_stream_hears_of_the_end_and_still_gets_the_bytes(loop: Loop) -> None:
    far = Far(loop)
    far.probe.stop(Pause.PAUSE_PEER)
    far.sock.send(b"unread")
    far.sock.close()
    far.turns()
    assert far.probe.events == ["hangup"] and far.fed == []
    far.probe.go(Pause.PAUSE_PEER)
    far.turns()
    assert far.fed == [b"unread"] and far.probe.events == ["hangup", "eof"]


def test_a_failed_send_ends_the_stream_in_the_same_turn(loop: Loop) -> None:
    far = Far(loop)
    far.sock.close()
    far.probe.write(b"to nobody")
    far.turns(1)
    assert far.probe.events == ["eof"] and far.probe.closed


def test_one_stream_does_not_hold_up_the_others(loop: Loop) -> None:
    loop.rounds = 1
    greedy, modest = Far(loop), Far(loop)
    for size in (4_000_000, 100_000):
        greedy.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
    try:
        while greedy.sock.send(b"g" * 65536):
            pass
    except BlockingIOError:
        pass
    modest.sock.send(b"m")
    loop.run_once(0)
    assert modest.fed == [b"m"] and len(greedy.fed) <= 2


def test_an_exception_costs_only_its_stream() -> None:
    loop = Loop()
    bugs: list[object] = []
    loop.on_bug = lambda stream, error: bugs.append((stream, error))

    def feed(_probe: HookedStream, _data: bytes) -> int:
        raise ValueError("a bug")

    bad, good = Far(loop, feed), Far(loop)
    bad.sock.send(b"x")
    good.sock.send(b"y")
    bad.turns()
    assert good.fed == [b"y"] and not good.probe.closed
    assert bad.probe.closed and [(s, str(e)) for s, e in bugs] == [(bad.probe, "a bug")]


def test_a_service_outlives_an_exception() -> None:
    """What it has not read when it raises comes up again; one that goes on raising ends the process."""
    loop = Loop()
    bugs: list[object] = []
    loop.on_bug = lambda _stream, error: bugs.append(error)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    read: list[bytes] = []
    bad = [True]

    def callback() -> None:
        if bad[0]:
            raise MemoryError
        read.append(ours.recv(100))

    watch = Watch(loop, os.dup(ours.fileno()), callback)
    theirs.send(b"x")
    for _ in range(3):
        loop.run_once(0)
    assert len(bugs) >= 3 and not watch.closed and not loop.stopping
    bad[0] = False
    loop.run_once(0)
    assert read == [b"x"]
    bad[0] = True
    theirs.send(b"y")
    for _ in range(200):
        loop.run_once(0)
    assert loop.stopping and not watch.closed


def test_a_descriptor_used_again_gets_no_event_of_its_former_owner(loop: Loop) -> None:
    first, second, spare = Far(loop), Far(loop), socket.socketpair()

    def close_other(probe: HookedStream, data: bytes) -> int:
        other = second if probe is first.probe else first
        fd = other.probe.fd
        other.probe.close()
        os.dup2(spare[0].fileno(), fd)
        os.close(fd)
        return len(data)

    first.feed = second.feed = close_other
    first.sock.send(b"1")
    second.sock.send(b"2")
    loop.run_once(0)
    assert len(first.fed) + len(second.fed) == 1


# --- StreamList

step = st.tuples(st.sampled_from(["append", "push", "remove"]), st.integers(0, 1), st.integers(0, 5))


@given(st.lists(step))
def test_stream_lists(steps: list[tuple[str, int, int]]) -> None:
    loop = Loop()
    streams = [Stream(loop) for _ in range(6)]
    lists = [StreamList(), StreamList()]
    model: list[list[Stream]] = [[], []]
    for what, where, who in steps:
        stream = streams[who]
        if what == "remove":
            if stream not in model[where]:
                with pytest.raises(AssertionError):
                    harness.list_remove(lists[where], stream)
                continue
            harness.list_remove(lists[where], stream)
            model[where].remove(stream)
            assert harness.home(stream) is None
            continue
        for group in model:
            if stream in group:
                group.remove(stream)
        (harness.list_append if what == "append" else harness.list_push)(lists[where], stream)
        model[where].insert(len(model[where]) if what == "append" else 0, stream)
        assert [group.items() for group in lists] == model
        assert [len(group) for group in lists] == [len(group) for group in model]
