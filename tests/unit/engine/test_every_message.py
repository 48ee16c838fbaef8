"""Every backend message at every front of the plan, every frontend message in every state of a client.

Each pair has one of few outcomes: it passes, it is kept back, or the connection ends with the right error.
Never an exception, and never a server that goes back to its pool in an unknown state.
"""

import string
import struct
from collections.abc import Callable

import pytest

from pgferry.engine.core.enums import ClientState
from pgferry.engine.ops import harness
from support.rig import Port, Rig
from support.wire import bind, close, copy_data, copy_done, describe, execute, message, parse, query, sync

# What makes each kind of entry the plan's front.
FRONTS: dict[str, bytes] = {
    "nothing": b"",
    "Query": query("SELECT 1"),
    "Sync": sync(),
    "Parse": parse("SELECT 1", "s"),
    "unnamed Parse": parse("SELECT 1"),
    "Bind": bind((), "nope"),
    "Describe statement": describe("nope"),
    "Describe portal": describe("p", "P"),
    "Execute": execute(),
    "Close portal": close("p", "P"),
    "unnamed Close": close(),
}
# What PostgreSQL may answer there, asynchronous messages left out: all else means that we are out of step.
ANSWERS: dict[str, str] = {
    "nothing": "",
    "Query": "TDCIGHWdcVZ",
    "Sync": "Z",
    "Parse": "1",
    "unnamed Parse": "1",
    "Bind": "2",
    "Describe statement": "tTn",
    "Describe portal": "Tn",
    "Execute": "DCIsGHWdc",
    "Close portal": "3",
    "unnamed Close": "3",
}
ASYNC = "SNA"
ERROR = b"SERROR\0VERROR\0C22012\0Mdivision by zero\0\0"
BODIES: dict[str, bytes] = {
    "Z": b"I",
    "E": ERROR,
    "N": ERROR,
    "S": b"TimeZone\0UTC\0",
    "A": struct.pack("!I", 7) + b"channel\0payload\0",
    "C": b"SELECT 1\0",
    "T": struct.pack("!h", 0),
    "t": struct.pack("!h", 0),
    "D": struct.pack("!h", 0),
    "G": b"\0\0\0",
    "H": b"\0\0\0",
    "W": b"\0\0\0",
    "V": struct.pack("!i", -1),
    "d": b"data",
}


def of_server(kind: str) -> bytes:
    return message(kind.encode("latin-1"), BODIES.get(kind, b""))


@pytest.fixture
def linked(make_rig: Callable[..., Rig]) -> Callable[[str, bytes], tuple[Rig, Port, Port]]:
    """A client that has sent something to its server, which has not answered."""

    def make(mode: str, sent: bytes) -> tuple[Rig, Port, Port]:
        rig = make_rig(settings={"pool_mode": mode, "default_pool_size": 1})
        client = rig.login()
        rig.auto = False
        rig.feed(client, sent)
        return rig, client, rig.port(rig.servers[0])

    return make


@pytest.mark.parametrize("mode", ["transaction", "session", "statement"])
@pytest.mark.parametrize("front", FRONTS)
def test_backend_messages(
    linked: Callable[[str, bytes], tuple[Rig, Port, Port]], front: str, mode: str
) -> None:
    for kind in [chr(i) for i in range(256)]:
        rig, client, server = linked(mode, FRONTS[front])
        got = of_server(kind)
        rig.feed(server, got)
        out = client.read()
        idle = client.stream.server is None and not server.stream.closed
        if kind in ANSWERS[front]:
            assert out == got, (front, kind, rig.log.lines)
            assert not server.stream.closed
            assert idle == (kind == "Z" and mode != "session")
        elif kind == "E" and front != "nothing":
            assert out == got and not server.stream.closed, (front, kind, rig.log.lines)
        elif kind in ASYNC and not idle and client.stream.server is not None:
            assert out == (got if kind != "A" or mode == "session" else b""), (front, kind)
            assert not server.stream.closed
        elif kind == "A":
            assert out == b"" and not server.stream.closed
        else:
            assert server.stream.closed, (front, kind, out)
            if front == "nothing":
                assert out == b"" and not client.stream.closed  # nobody's business
            elif kind == "E":
                assert out == got
            else:
                assert out.startswith(b"E") and b"FATAL" in out and out.count(b"server conn crashed?") == 1, (
                    front,
                    kind,
                    out,
                )
                assert client.stream.closed


@pytest.mark.parametrize("length", [0, 3, 0x80000000, 0xFFFFFFFF])
@pytest.mark.parametrize("kind", string.ascii_letters)
def test_backend_lengths_that_cannot_be(
    linked: Callable[[str, bytes], tuple[Rig, Port, Port]], kind: str, length: int
) -> None:
    rig, client, server = linked("transaction", query("SELECT 1"))
    rig.feed(server, kind.encode() + struct.pack("!I", length))
    assert server.stream.closed and b"FATAL" in client.read()
    assert "bad packet header" in " ".join(rig.log.lines)


# States of a client, each with what brings it there.
STATES: dict[str, Callable[[Rig, Port], None]] = {
    "idle": lambda _rig, _client: None,
    "in a transaction": lambda rig, c: rig.feed(c, query("BEGIN")),
    "in a failed transaction": lambda rig, c: rig.feed(c, query("BEGIN") + query("FAIL")),
    "in a batch": lambda rig, c: rig.feed(c, parse("SELECT 1")),
    "after an error in a batch": lambda rig, c: rig.feed(c, execute("nope")),
    "in copy mode": lambda rig, c: rig.feed(c, query("COPY IN")),
    "in copy mode, extended": lambda rig, c: rig.feed(c, parse("COPY IN") + bind() + execute()),
    "in a failed COPY": lambda rig, c: rig.feed(c, query("COPY IN") + copy_data("x")),
}
FRONTEND: dict[str, bytes] = {
    "Q": query("SELECT 2"),
    "P": parse("SELECT 2", "f"),
    "B": bind((), "nope"),
    "D": describe("nope"),
    "E": execute("nope"),
    "C": close("nope"),
    "S": sync(),
    "H": message(b"H"),
    "F": message(b"F", struct.pack("!Ihhh", 1, 0, 0, 0)),
    "d": copy_data("line"),
    "c": copy_done(),
    "f": message(b"f", b"reason\0"),
    "X": message(b"X"),
}


@pytest.mark.parametrize("mode", ["transaction", "session"])
@pytest.mark.parametrize("state", STATES)
def test_frontend_messages(make_rig: Callable[..., Rig], state: str, mode: str) -> None:
    for kind in [chr(i) for i in range(256)]:
        rig = make_rig(settings={"pool_mode": mode})
        client, witness = rig.login(), rig.login()
        STATES[state](rig, client)
        client.read()
        rig.feed(client, FRONTEND.get(kind, message(kind.encode("latin-1"), b"what")))
        out = client.read()
        if kind == "X":
            assert out == b"" and client.stream.closed
        elif kind in FRONTEND:
            # PostgreSQL calls some of these out of place in copy mode; we and it must only stay in step.
            assert not client.stream.closed or "copy mode" in state, (state, kind, rig.log.lines)
        else:
            assert client.stream.closed and b"unknown pkt" in out and b"08P01" in out
        rig.check()
        if client.stream.closed:
            rig.feed(witness, query("SELECT alive"))
            assert b"alive" in witness.read()
            assert len(rig.pool.endpoint.active) == (1 if mode == "session" else 0)


@pytest.mark.parametrize("kind", string.ascii_letters)
@pytest.mark.parametrize("length", [0, 3, 0xFFFFFFFF])
def test_frontend_lengths_that_cannot_be(make_rig: Callable[..., Rig], kind: str, length: int) -> None:
    rig = make_rig()
    client = rig.login()
    rig.feed(client, kind.encode() + struct.pack("!I", length))
    assert client.stream.closed and b"bad packet header" in client.read()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("P", b"no end of the name"),
        ("B", b""),
        ("B", b"portal without an end"),
        ("B", b"portal\0statement without an end"),
        ("D", b""),
        ("D", b"S"),
        ("D", b"Xname\0"),
        ("D", b"Sname without an end"),
        ("C", b""),
        ("C", b"Xname\0"),
        ("C", b"Sname without an end"),
        ("C", b"S" + b"x" * 10_000 + b"\0"),
        ("D", b"S" + b"x" * 10_000 + b"\0"),
    ],
)
def test_broken_bodies(make_rig: Callable[..., Rig], kind: str, body: bytes) -> None:
    rig = make_rig()
    client = rig.login()
    rig.feed(client, message(kind.encode(), body))
    assert client.stream.closed and b"broken" in client.read()
    assert rig.pool.total_servers == 0 or len(rig.pool.endpoint.idle) == 1


def test_a_length_alone_costs_no_memory(make_rig: Callable[..., Rig]) -> None:
    rig = make_rig()
    client = rig.login()
    rig.feed(client, b"P" + struct.pack("!I", 0x7FFFFFFE) + b"name\0SELECT")
    rig.feed(client, b" " * 300_000)
    assert harness.facts(client.stream)["held_cap"] < 1_000_000
    assert client.stream.state in (ClientState.CL_ACTIVE, ClientState.CL_IDLE)
