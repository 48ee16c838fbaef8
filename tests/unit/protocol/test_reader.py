"""MessageReader: every split of a stream gives the same messages; impossible lengths are refused at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgferry.protocol import backend, startup
from pgferry.protocol.errors import ProtocolError
from pgferry.protocol.reader import MessageReader

STREAM = st.lists(st.tuples(st.binary(min_size=1, max_size=1), st.binary(max_size=40)), max_size=8)


def wire(messages: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(kind + (len(payload) + 4).to_bytes(4, "big") + payload for kind, payload in messages)


@given(STREAM, st.data())
def test_any_split_gives_the_same_messages(messages: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    stream = wire(messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=10)))
    reader = MessageReader()
    found = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.feed(stream[start:end])
        found += list(reader)
    assert found == messages
    assert reader.pending == 0


def test_every_single_split_of_a_login() -> None:
    stream = backend.build_all(
        [backend.AuthenticationOk(), backend.ParameterStatus("a", "b"), backend.ReadyForQuery()]
    )
    for place in range(len(stream) + 1):
        reader = MessageReader()
        reader.feed(stream[:place])
        found = list(reader)
        reader.feed(memoryview(stream)[place:])
        found += list(reader)
        assert [kind for kind, _ in found] == [b"R", b"S", b"Z"]


def test_startup_phase_then_typed_messages() -> None:
    reader = MessageReader(typed=False, max_size=startup.MAX_STARTUP)
    reader.feed(startup.SSLRequest().build())
    assert reader.take() == (b"", startup.SSLRequest().payload())
    assert reader.pending == 0
    hello = startup.startup(user="u")
    reader.feed(hello.build() + b"Q\0\0\0\5\0")
    assert reader.take() == (b"", hello.payload())
    assert reader.pending == 6
    reader.typed = True
    assert reader.take() == (b"Q", b"\0")
    assert reader.take() is None


def test_bytes_that_are_no_message() -> None:
    reader = MessageReader()
    reader.feed(b"S" + backend.ReadyForQuery().build())
    assert reader.take_bytes(1) == b"S"
    assert reader.take() == (b"Z", b"I")
    assert reader.take_bytes(5) == b""


@pytest.mark.parametrize("length", [0, 1, 3, 105, 2**31, 2**32 - 1])
def test_impossible_lengths_are_refused_before_the_payload_comes(length: int) -> None:
    reader = MessageReader(max_size=100)
    reader.feed(b"Q" + length.to_bytes(4, "big"))
    with pytest.raises(ProtocolError):
        reader.take()
    untyped = MessageReader(typed=False, max_size=100)
    untyped.feed(length.to_bytes(4, "big"))
    with pytest.raises(ProtocolError):
        untyped.take()


def test_longest_allowed_message() -> None:
    reader = MessageReader(max_size=100)
    reader.feed(wire([(b"Q", b"x" * 100)]))
    assert reader.take() == (b"Q", b"x" * 100)


def test_the_buffer_does_not_keep_what_was_taken() -> None:
    reader = MessageReader()
    piece = wire([(b"d", b"x" * 1000)] * 10)
    for _ in range(200):
        reader.feed(piece + piece[:7])  # never quite empty, so only compacting can free
        while reader.take():
            pass
        reader.feed(piece[7:1005])
        assert reader.take() == (b"d", b"x" * 1000)
        assert reader.pending == 0


@given(st.binary(max_size=200))
def test_garbage_raises_only_protocol_errors(data: bytes) -> None:
    reader = MessageReader(max_size=1000)
    reader.feed(data)
    try:
        for _ in reader:
            pass
    except ProtocolError:
        pass
