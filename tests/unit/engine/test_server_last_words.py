"""A server that says its last words: only a client that was owed something, or holds something there, hears them."""

import struct
from collections.abc import Iterator

import pytest

from pgferry.engine.ops import harness
from support.rig import Rig
from support.wire import flush, parse, query

READY = b"Z\0\0\0\5I"
DONE = b"C" + struct.pack("!I", 13) + b"SELECT 1\0" + READY
FIELDS = b"SFATAL\0C57P01\0Mterminating connection\0\0"
FATAL = b"E" + struct.pack("!I", len(FIELDS) + 4) + FIELDS


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    assert not made.bugs, made.bugs
    made.close()


def test_behind_the_answer(rig: Rig) -> None:
    """In the same bytes as the answer: the client gets the answer, and another server next time."""
    client = rig.login()
    client.to_deliver += query("SELECT 1")
    rig.auto = False
    rig.pump()
    server = rig.servers[0]
    rig.port(server).read()
    rig.feed(rig.port(server), DONE + FATAL)
    assert client.read() == DONE
    assert server.closed
    rig.auto = True
    rig.feed(client, query("SELECT 2"))
    assert client.read().endswith(READY) and not client.stream.closed


@pytest.mark.parametrize("begun", [query("BEGIN"), parse("SELECT 1") + flush()], ids=["transaction", "batch"])
def test_within_something(rig: Rig, begun: bytes) -> None:
    """A client in a transaction, or in a batch, hears why that ends."""
    client = rig.login()
    rig.feed(client, begun)
    client.read()
    server = rig.servers[0]
    rig.feed(rig.port(server), FATAL)
    assert client.read() == FATAL
    harness.end(server)
    rig.pump()
    assert b"server conn crashed?" in client.read()
    assert client.stream.closed


def test_nobody_is_given_a_server_whose_end_is_known(rig: Rig) -> None:
    """The kernel has told of the end with the answer: the client that waits gets another server."""
    first, second = rig.login(), rig.login()
    rig.auto = False
    rig.feed(first, query("SELECT 1"))
    rig.feed(second, query("SELECT 2"))
    server = rig.servers[0]
    rig.port(server).read()
    rig.port(server).to_deliver += DONE
    harness.ends_behind(server)
    rig.auto = True
    rig.pump()
    assert first.read() == DONE
    assert server.closed and rig.servers[0] is not server
    assert second.read().endswith(READY) and not second.stream.closed
