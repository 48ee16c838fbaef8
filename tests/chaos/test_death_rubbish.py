"""Servers that say what no PostgreSQL says: their connection is closed, their client told, nobody misled."""

import struct
import threading
import time
from collections.abc import Callable

import pytest

from chaos.health import Health
from pgferry.embedded import Cluster
from support.fake_server import GREETING, READY, Conversation, FakeServer, result
from support.pooler import Pooler, eventually
from support.wire import Message, Wire, last_words, message, query, said, startup

MakePooler = Callable[..., Pooler]
MakeHealth = Callable[[Pooler], Health]
CRASHED = ("FATAL", "08P01", "server conn crashed?")
TIMEOUT = ("FATAL", "08P01", "query timeout")
SETTINGS = {
    "server_login_retry": 0.1,
    "server_connect_timeout": 1,
    "query_timeout": 1,
    "query_wait_timeout": 3,
    "client_login_timeout": 2,
    "session_state": "ignore",  # nothing is asked but what the client asks
}


def ask(pooler: Pooler) -> list[Message]:
    """A query to the fake server, and everything that comes of it."""
    wire = Wire.login((pooler.host, pooler.port), database="fake")
    wire.send(query("SELECT 1"))
    return last_words(wire)


@pytest.fixture
def fake(make_pooler: MakePooler, cluster: Cluster) -> tuple[Pooler, FakeServer]:
    """A pooler with the databases `postgres` (real) and `fake`."""
    server = FakeServer(Conversation.login)
    line = f"host=127.0.0.1 port={cluster.port}"
    pooler = make_pooler(cluster, databases={"postgres": line, "fake": server.line}, settings=SETTINGS)
    return pooler, server


ROW = message(b"D", struct.pack("!hi", 1, 1) + b"x")
ANSWERS = {
    "no message type": b"\xff" * 100,
    "length below four": b"T\0\0\0\3" + b"x" * 50,
    "negative length": b"D\xff\xff\xff\xff" + b"x" * 50,
    "zero bytes": bytes(1000),
    "status of no kind": message(b"Z", b"X"),
    "ReadyForQuery too short": message(b"Z"),
    "ReadyForQuery too long": message(b"Z", b"II"),
    "ParseComplete": message(b"1"),
    "BindComplete": message(b"2"),
    "CloseComplete": message(b"3"),
    "NoData": message(b"n"),
    "ParameterDescription": message(b"t", b"\0\0"),
    "PortalSuspended": message(b"s"),
    "authentication": GREETING,
    "cancel key": message(b"K", b"12345678"),
    "broken ParameterStatus": message(b"S", b"TimeZone"),
    "ParameterStatus without value": message(b"S", b"TimeZone\0UTC"),
    "an http server": b"HTTP/1.1 400 Bad Request\r\nServer: none\r\nConnection: close\r\n\r\n",
    "an ssh server": b"SSH-2.0-OpenSSH_9.2p1\r\n",
}


def test_answers(fake: tuple[Pooler, FakeServer], health: MakeHealth) -> None:
    """Rubbish as the answer to a query."""
    pooler, server = fake
    well = health(pooler)
    now = [b""]

    def script(to: Conversation) -> None:
        to.login()
        while True:
            to.recv()
            to.send(now[0])

    server.script = script
    for name, answer in ANSWERS.items():
        now[0] = answer
        heard = said(ask(pooler))
        assert heard == [CRASHED], f"{name}: {heard}"
    server.close()
    well.recovered()


HALVES = {
    "silence": b"",
    "half a head": b"Z\0\0",
    "half a ReadyForQuery": b"Z\0\0\0\5",
    "half a row": ROW[:-1],
    "half an error": message(b"E", b"SERROR\0")[:9],
    "an endless row": b"D\x7f\xff\xff\xff" + b"x" * 5000,
    "an endless error": b"E\x7f\xff\xff\xff" + b"x" * 5000,
    "rows without an end": ROW * 1000,
}
TORN = [HALVES[name] for name in ("half a row", "an endless row", "an endless error")]


def test_half_messages(fake: tuple[Pooler, FakeServer], health: MakeHealth) -> None:
    """Half an answer and then nothing: query_timeout; or then the end: a crash. All at the same time."""
    pooler, server = fake
    well = health(pooler)
    wires: dict[str, Wire] = {}

    def script(to: Conversation) -> None:
        to.login()
        _, body = to.recv()
        name = body.decode().split("'")[1]
        to.send(HALVES[name.removeprefix("end after ")])
        if not name.startswith("end after "):
            to.wait_for_end()

    server.script = script
    for name in (*HALVES, *(f"end after {name}" for name in HALVES)):
        wires[name] = Wire.login((pooler.host, pooler.port), database="fake")
        wires[name].send(query(f"SELECT '{name}'"))
    for name, wire in wires.items():
        wanted = CRASHED if name.startswith("end") else TIMEOUT
        # Nothing can be said to a client that has had half a message already.
        raw = b""
        try:
            while data := wire.sock.recv(65536):
                raw += data
        except ConnectionResetError:
            pass
        torn = HALVES[name.removeprefix("end after ")] in TORN
        assert (wanted[2].encode() in raw[-120:]) is not torn, f"{name}: {raw[-200:]!r}"
        wire.close()
    server.close()
    well.recovered()


def test_error_without_fields(fake: tuple[Pooler, FakeServer], health: MakeHealth) -> None:
    """Missing fields are legal (CVE-2026-6666 was a crash over one)."""
    pooler, server = fake
    well = health(pooler)
    bodies = [b"", b"\0", b"SERROR\0\0", b"Mtext", b"\xff\xff\xff\0\0", b"C\0M\0\0"]

    def script(to: Conversation) -> None:
        to.login()
        for body in bodies:
            to.recv()
            to.send(message(b"E", body), READY)
        to.wait_for_end()

    server.script = script
    with Wire.login((pooler.host, pooler.port), database="fake") as wire:
        for body in bodies:
            wire.send(query("SELECT 1"))
            answer = wire.until()
            assert [(m.type, m.body) for m in answer] == [("E", body), ("Z", b"I")]
    server.close()
    well.recovered()


UNASKED = {
    "a row": ROW,
    "a whole answer": result("stolen"),
    "ReadyForQuery": READY,
    "an error": message(b"E", b"SERROR\0C12345\0Mlate\0\0"),
    "a notice": message(b"N", b"SNOTICE\0C00000\0Mlate\0\0"),
    "a parameter": message(b"S", b"TimeZone\0Mars\0"),
    "half a message": b"D\0\0",
}


@pytest.mark.parametrize("later", [False, True])
def test_unasked(fake: tuple[Pooler, FakeServer], health: MakeHealth, later: bool) -> None:
    """More than was asked for, with the answer or a moment later: never given to the next client."""
    pooler, server = fake
    well = health(pooler)
    now = [b""]

    def script(to: Conversation) -> None:
        to.login()
        while True:
            _, body = to.recv()
            answer = result(body.rstrip(b"\0").decode())
            if b"first" not in body:
                to.send(answer)
            elif later:
                to.send(answer)
                time.sleep(0.05)
                to.send(now[0])
            else:
                to.send(answer + now[0])

    server.script = script
    for name, extra in UNASKED.items():
        now[0] = extra
        wires = [Wire.login((pooler.host, pooler.port), database="fake") for _ in range(3)]
        wires[0].send(query(f"first {name}"))
        rows = [m.row for m in wires[0].until() if m.type == "D"]
        assert rows == [[f"first {name}".encode()]]
        if later:
            time.sleep(0.1)
        for number, wire in enumerate(wires[1:]):
            wire.send(query(f"{name} {number}"))
            answer = last_words_of_one(wire)
            assert [m.row for m in answer if m.type == "D"] == [[f"{name} {number}".encode()]], name
        for wire in wires:
            wire.close()
    server.close()
    well.recovered()


def last_words_of_one(wire: Wire) -> list[Message]:
    """One answer, or what there is of it."""
    seen: list[Message] = []
    try:
        while not seen or seen[-1].type != "Z":
            seen.append(wire.recv())
    except (EOFError, ConnectionResetError):
        pass
    return seen


def _scram(*rest: bytes) -> bytes:
    return message(b"R", struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0") + b"".join(rest)


LOGINS = {
    "no message type": b"\xff" * 100,
    "zero bytes": bytes(100),
    "length below four": b"R\0\0\0\3",
    "an endless message": b"R\x7f\xff\xff\xff" + b"x" * 5000,
    "no code": message(b"R"),
    "unknown code": message(b"R", struct.pack("!i", 99)),
    "md5 without salt": message(b"R", struct.pack("!i", 5)),
    "SASL without a mechanism": message(b"R", struct.pack("!i", 10) + b"\0"),
    "SASL broken list": message(b"R", struct.pack("!i", 10) + b"SCRAM"),
    "SASL challenge first": message(b"R", struct.pack("!i", 11) + b"r=x,s=eA==,i=1"),
    "SASL end first": message(b"R", struct.pack("!i", 12) + b"v=eA=="),
    "SASL rubbish challenge": _scram(message(b"R", struct.pack("!i", 11) + b"\xff\xfe")),
    "SASL absurd iterations": _scram(message(b"R", struct.pack("!i", 11) + b"r=x,s=eA==,i=999999999999")),
    "a row": ROW,
    "error without fields": message(b"E"),
    "error with rubbish": message(b"E", b"\xff\xff"),
    "an http server": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "an ssh server": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "the end": b"",
}


def test_logins(fake: tuple[Pooler, FakeServer], health: MakeHealth) -> None:
    """Rubbish instead of a login: the attempt is over at once, the client learns it or waits its time out."""
    pooler, server = fake
    well = health(pooler)
    for name, answer in LOGINS.items():

        def script(to: Conversation, answer: bytes = answer) -> None:
            to.startup()
            to.send(answer)
            time.sleep(0.05)

        server.script = script
        before = server.accepted

        def tried(before: int = before) -> bool:
            with Wire((pooler.host, pooler.port)) as wire:  # refused for 0.1 s after a failed login
                wire.send(startup("postgres", "fake"))
                wire.silent(0.05)
            return server.accepted > before

        eventually(tried)
        eventually(lambda: not pooler.show("SERVERS", database="fake"), message=f"{name}: still a server")
    server.close()
    well.recovered()


def test_login_that_stops(fake: tuple[Pooler, FakeServer], health: MakeHealth) -> None:
    """A login that stops at any of its messages is ended by server_connect_timeout."""
    pooler, server = fake
    well = health(pooler)
    ends = [0, 1, 5, 9, 20, len(GREETING) - 6, len(GREETING) - 1]
    turn = iter(ends * 20)
    lock = threading.Lock()

    def script(to: Conversation) -> None:
        to.startup()
        with lock:
            end = next(turn)
        to.send(GREETING[:end])
        to.wait_for_end()

    server.script = script
    began = time.monotonic()
    with pytest.raises(ConnectionError, match=r"client_login_timeout \(server down\)"):
        Wire.login((pooler.host, pooler.port), database="fake")
    assert time.monotonic() - began < 4
    pooler.wait_log("closing because: connect timeout")
    server.script = Conversation.login
    Wire.login((pooler.host, pooler.port), database="fake").close()
    server.close()
    well.recovered()
