"""What may come before a password: startup packets good and bad, requests for encryption, the greeting."""

import struct
from collections.abc import Iterator
from signal import SIGHUP

import pytest

from pgferry.embedded import Cluster
from support.clients import fatal, raw, refusal
from support.cluster import shared_cluster
from support.pooler import Pooler, eventually
from support.wire import GSS_CODE, SSL_CODE, Wire, message, password, query, special, startup, types

PGBOUNCERS = {"session_state": "ignore"}  # otherwise any setting may stand in a startup packet


@pytest.fixture(scope="module")
def shared(pg_version: int, workers: int) -> Iterator[Pooler]:
    cluster: Cluster = shared_cluster(pg_version)
    pooler = Pooler(
        cluster,
        workers=workers,
        userlist={"postgres": "", "admin": "", "plain": "secret"},
        settings=PGBOUNCERS,
    )
    yield pooler.start()
    pooler.finish()


def connection(pooler: Pooler) -> Wire:
    return Wire((pooler.host, pooler.port))


def packet(version: int, body: bytes) -> bytes:
    return struct.pack("!ii", len(body) + 8, version) + body


V3 = 3 << 16
PACKETS = {
    "version 2": (packet(2 << 16, b"\0" * 288), "old V2 protocol not supported"),
    "version 4": (packet(4 << 16, b"user\0postgres\0\0"), "bad packet header: '"),
    "version 1": (packet(1 << 16, b"user\0postgres\0\0"), "bad packet header: '"),
    "http": (b"GET / HTTP/1.0\r\n\r\n", "bad packet header: '474554202f204854'"),
    "tls": (b"\x16\x03\x01\x02\x00\x01\x00\x01", "bad packet header: '1603010200010001'"),
    "too short": (struct.pack("!ii", 4, V3), "bad packet header: '0000000400030000'"),
    "too long": (struct.pack("!ii", 10_001, V3), "bad packet header: '0000271100030000'"),
    "negative": (struct.pack("!ii", -1, V3), "bad packet header: 'ffffffff00030000'"),
    "no user": (packet(V3, b"database\0postgres\0\0"), "no username supplied"),
    "empty user": (packet(V3, b"user\0\0database\0postgres\0\0"), "no username supplied"),
    "no end": (
        packet(V3, b"user\0postgres\0"),
        "invalid startup packet layout: expected terminator as last byte",
    ),
    "no value": (packet(V3, b"user\0\0"), "invalid startup packet layout: expected terminator as last byte"),
    "behind the end": (
        packet(V3, b"user\0postgres\0\0x"),
        "invalid startup packet layout: expected terminator as last byte",
    ),
    "long name": (packet(V3, b"user\0" + b"u" * 128 + b"\0\0"), "username too long"),
    "parameter": (packet(V3, b"user\0postgres\0wings\x002\0\0"), "unsupported startup parameter: wings"),
    "behind ssl": (
        special(SSL_CODE) + startup("postgres", "postgres"),
        "received unencrypted data after SSL request",
    ),
    "behind gss": (special(GSS_CODE) + b"x", "received unencrypted data after GSSAPI encryption request"),
    "long ssl": (special(SSL_CODE, b"more"), "bad packet header: '0000000c04d2162f'"),
}


@pytest.mark.parametrize("name", PACKETS)
def test_bad_packets(shared: Pooler, name: str) -> None:
    data, text = PACKETS[name]
    with connection(shared) as wire:
        wire.send(data)
        said = fatal(wire)
    assert said == text or (text.endswith("'") and said.startswith(text)), said
    with raw(shared) as wire:
        assert types(wire.query("SELECT 1")) == "TDCZ"


def test_in_single_bytes(shared: Pooler) -> None:
    with connection(shared) as wire:
        for byte in special(SSL_CODE):
            wire.send(bytes([byte]))
        assert wire.recv_bytes(1) == b"N"
        for byte in startup("postgres", "postgres"):
            wire.send(bytes([byte]))
        assert types(wire.until())[-1] == "Z"


def test_encryption_is_declined(shared: Pooler) -> None:
    for codes in ((SSL_CODE,), (GSS_CODE,), (GSS_CODE, SSL_CODE), (SSL_CODE, GSS_CODE)):
        with connection(shared) as wire:
            for code in codes:
                wire.send(special(code))
                assert wire.recv_bytes(1) == b"N"
            wire.send(startup("postgres", "postgres"))
            wire.until()
            assert types(wire.query("SELECT 1")) == "TDCZ"
    for mode in ("prefer", "allow", "disable"):
        shared.connect(sslmode=mode).close()


def test_the_database_is_the_user_by_default(shared: Pooler) -> None:
    with connection(shared) as wire:
        wire.send(packet(V3, b"user\0postgres\0\0"))
        wire.until()
        assert wire.rows("SELECT current_database()") == [[b"postgres"]]


def test_pipelined_query_behind_the_startup_packet(shared: Pooler) -> None:
    """Legal, though no driver does it: what follows the startup packet is the first query."""
    with connection(shared) as wire:
        wire.send(startup("postgres", "postgres"), query("SELECT 42"))
        wire.until()
        assert wire.until()[1].row == [b"42"]


def test_order_of_greeting(shared: Pooler) -> None:
    with connection(shared) as wire:
        wire.send(startup("postgres", "postgres", application_name="order"))
        kinds = types(wire.until())
        assert kinds.startswith("R")
        assert kinds.endswith("KZ")
        assert set(kinds[1:-2]) == {"S"}
        assert wire.parameters["application_name"] == "order"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (query("SELECT 1"), "unknown pkt"),
        (startup("plain", "postgres"), "client re-sent startup pkt"),
        (message(b"p"), "broken password packet"),
        (message(b"p", b"no end"), "broken password packet"),
        (password(""), "empty password returned by client"),
        (b"p\0\0\0\0", "bad packet header: '7000000000'"),
    ],
)
def test_instead_of_a_password(shared: Pooler, data: bytes, text: str) -> None:
    shared.set({"auth_type": "plain"})
    try:
        with connection(shared) as wire:
            wire.send(startup("plain", "postgres"))
            assert wire.recv().body == b"\0\0\0\x03"
            wire.send(data)
            assert fatal(wire) == text
    finally:
        _trust(shared)


def _trust(pooler: Pooler) -> None:
    pooler.set({"auth_type": "trust"}, reload=False)
    pooler.signal(SIGHUP)
    eventually(lambda: refusal(pooler) == "logged in")


def test_clients_that_leave_in_every_step(shared: Pooler) -> None:
    data = startup("postgres", "postgres")
    for size in (0, 1, 4, 7, 8, 20, len(data) - 1):
        wire = connection(shared)
        wire.send(data[:size])
        wire.reset() if size % 2 else wire.close()
    wire = connection(shared)
    wire.send(data)
    wire.reset()
    eventually(lambda: _counts(shared) == (0, 0))
    with raw(shared) as wire:
        assert types(wire.query("SELECT 1")) == "TDCZ"


def _counts(pooler: Pooler) -> tuple[int, int]:
    lists = {r["list"]: r["items"] for r in pooler.show("LISTS")}
    return lists["login_clients"], pooler.show("DATABASES", name="postgres")[0]["current_client_connections"]
