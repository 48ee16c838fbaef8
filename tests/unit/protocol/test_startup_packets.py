"""Startup packets: parsing with the texts clients know, and the negotiation of versions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgferry.protocol.errors import ProtocolError
from pgferry.protocol.startup import (
    VERSION_3_0,
    CancelRequest,
    StartupMessage,
    parse,
)

LAYOUT = "invalid startup packet layout: expected terminator as last byte"
NAME = st.text(
    min_size=1, max_size=10, alphabet=st.characters(exclude_categories=("Cs",), exclude_characters="\0")
)


@given(st.integers(3 << 16, (4 << 16) - 1), st.lists(st.tuples(NAME, NAME | st.just("")), max_size=6))
def test_startup_messages_parse_back(version: int, parameters: list[tuple[str, str]]) -> None:
    message = StartupMessage(version, tuple(parameters))
    assert parse(message.payload()) == message


def test_the_last_of_equal_names_counts() -> None:
    message = StartupMessage(VERSION_3_0, (("user", "a"), ("user", "b")))
    assert message.get("user") == "b"
    assert message.get("database") is None
    assert message.get("database", "b") == "b"


@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"\0\2\0\0user\0u\0\0", "old V2 protocol not supported"),
        (b"\0\4\0\0user\0u\0\0", "bad packet header: '0000001000040000'"),
        (b"\x04\xd2\x16\x31", "bad packet header: '0000000804d21631'"),
        (b"GET ", "bad packet header: '0000000847455420'"),
        (b"", "bad packet header: '00000004'"),
        (b"\0\3", "bad packet header: '000000060003'"),
        (b"\0\3\0\0", LAYOUT),
        (b"\0\3\0\0user", LAYOUT),
        (b"\0\3\0\0user\0", LAYOUT),
        (b"\0\3\0\0user\0u\0", LAYOUT),
        (b"\0\3\0\0user\0u\0\0\0", LAYOUT),
        (b"\0\3\0\0user\0u\0\0x", LAYOUT),
    ],
)
def test_texts_for_bad_packets(payload: bytes, text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse(payload)
    assert caught.value.message == text


@pytest.mark.parametrize("extra", [b"", b"abc", b"x" * 257])
def test_cancel_keys_have_four_to_256_bytes(extra: bytes) -> None:
    with pytest.raises(ProtocolError):
        parse(b"\x04\xd2\x16\x2e\0\0\0\1" + extra)


def test_cancel_request_with_a_long_key() -> None:
    assert parse(b"\x04\xd2\x16\x2e\0\0\0\1" + b"k" * 32) == CancelRequest(1, b"k" * 32)
