"""TLS between a socket and a stream: any split of the records, pauses with bytes in every place, both ends of it."""

import contextlib
import random
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgferry.engine.io.loop import Loop
from pgferry.engine.ops.harness import HookedStream
from support.certificates import pair

PAUSE = 2


class Far:
    """The other end: OpenSSL over memory, its records moved by hand."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, server_side: bool) -> None:
        self.sock = sock
        sock.setblocking(False)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl = context.wrap_bio(self.incoming, self.outgoing, server_side)
        self.got = bytearray()

    def take(self) -> None:
        """Receive and decrypt what there is."""
        with contextlib.suppress(BlockingIOError):
            while data := self.sock.recv(65536):
                self.incoming.write(data)
        with contextlib.suppress(ssl.SSLWantReadError):
            while data := self.ssl.read(65536):
                self.got += data

    def send(self) -> None:
        self.sock.sendall(self.outgoing.read())


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """(server's, client's)"""
    directory: Path = tmp_path_factory.mktemp("tls")
    made = pair()
    (directory / "cert").write_bytes(made.cert)
    (directory / "key").write_bytes(made.key)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(directory / "cert", directory / "key")
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_mode = ssl.CERT_NONE
    return server, client


Made = tuple[Loop, HookedStream, Far, bytearray]


@pytest.fixture(params=[True, False], ids=["accepting", "connecting"])
def made(request: pytest.FixtureRequest, contexts: tuple[ssl.SSLContext, ssl.SSLContext]) -> Iterator[Made]:
    """A stream and its far end behind the handshake; what the stream was fed."""
    loop = Loop()
    bugs: list[BaseException] = []
    loop.on_bug = lambda _stream, error: bugs.append(error)
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    fed = bytearray()

    def feed(_stream: HookedStream, data: bytes) -> int:
        fed.extend(data)
        return len(data)

    accepting = bool(request.param)
    probe = HookedStream(loop, ours.detach(), feed)
    far = Far(theirs, contexts[0 if not accepting else 1], server_side=not accepting)
    probe.secure(contexts[0] if accepting else contexts[1], accepting)
    for _ in range(20):
        with contextlib.suppress(ssl.SSLWantReadError):
            far.ssl.do_handshake()
        far.send()
        loop.run_once(0)
        with contextlib.suppress(BlockingIOError):
            far.incoming.write(far.sock.recv(65536))
        if probe.events == ["secure"]:
            break
    with contextlib.suppress(ssl.SSLWantReadError):
        far.ssl.do_handshake()
    assert probe.events == ["secure"]
    yield loop, probe, far, fed
    assert not bugs
    theirs.close()
    if not probe.closed:
        probe.close()


def turns(loop: Loop, count: int = 30) -> None:
    for _ in range(count):
        loop.run_once(0)


@pytest.mark.parametrize("seed", range(12))
def test_any_split(made: Made, seed: int) -> None:
    loop, probe, far, fed = made
    chance = random.Random(seed)
    wanted = bytearray()
    for _ in range(30):
        data = chance.randbytes(chance.choice((1, 5, 300, 16384, 16385, 70000)))
        wanted += data
        while data:
            data = data[far.ssl.write(data) :]
        records = far.outgoing.read()
        while records:
            size = min(len(records), chance.choice((1, 3, 5, 100, 5000, 100000)))
            if size < 5 and len(records) > 200:
                size = len(records) - 100
            far.sock.setblocking(True)
            far.sock.sendall(records[:size])
            far.sock.setblocking(False)
            records = records[size:]
            if chance.random() < 0.3:
                probe.stop(PAUSE)
            turns(loop, chance.randrange(3))
            if chance.random() < 0.7:
                probe.go(PAUSE)
                turns(loop, 2)
    probe.go(PAUSE)
    turns(loop)
    assert bytes(fed) == bytes(wanted)


def test_a_paused_stream_is_not_read(made: Made) -> None:
    loop, probe, far, fed = made
    probe.stop(PAUSE)
    for _ in range(4):
        far.ssl.write(b"x" * 16384)
    far.send()
    turns(loop)
    assert not fed
    probe.go(PAUSE)
    turns(loop)
    assert len(fed) == 4 * 16384


def test_written_bytes_arrive_in_order(made: Made) -> None:
    loop, probe, far, _ = made
    chance = random.Random(5)
    wanted = b"".join(chance.randbytes(chance.choice((1, 40, 20000, 300000))) for _ in range(40))
    at = 0
    while at < len(wanted):
        size = chance.choice((1, 40, 20000, 300000))
        probe.write(wanted[at : at + size])
        at += size
        if chance.random() < 0.5:
            far.take()
            turns(loop, 2)
    for _ in range(200):
        far.take()
        turns(loop, 2)
    assert bytes(far.got) == wanted
    assert loop.memory.bytes == 0


def test_the_end_with_close_notify(made: Made) -> None:
    loop, probe, far, fed = made
    far.ssl.write(b"last")
    with contextlib.suppress(ssl.SSLWantReadError):
        far.ssl.unwrap()
    far.send()
    turns(loop)
    assert bytes(fed) == b"last"
    assert probe.events == ["secure", "eof"]
    far.incoming.write(far.sock.recv(65536))
    far.ssl.unwrap()  # our own has come


def test_the_end_without_it(made: Made) -> None:
    loop, probe, far, fed = made
    far.ssl.write(b"last")
    far.send()
    far.sock.shutdown(socket.SHUT_WR)
    turns(loop)
    assert bytes(fed) == b"last"
    assert probe.events == ["secure", "eof"]


def test_half_closed_and_paused(made: Made) -> None:
    """Everything before the end is read when the stream goes on."""
    loop, probe, far, fed = made
    probe.stop(PAUSE)
    far.ssl.write(b"z" * 16000)
    far.send()
    far.sock.shutdown(socket.SHUT_WR)
    turns(loop)
    assert "eof" not in probe.events
    probe.go(PAUSE)
    turns(loop)
    assert len(fed) == 16000
    assert probe.events[-1] == "eof"


def test_a_changed_byte_ends_it(made: Made) -> None:
    loop, probe, far, fed = made
    far.ssl.write(b"good")
    far.ssl.write(b"evil" * 100)
    records = bytearray(far.outgoing.read())
    records[-3] ^= 1
    far.sock.sendall(records)
    turns(loop)
    assert bytes(fed) == b"good"
    assert probe.events == ["secure", "eof"]
