"""Malformed bytes over real sockets: a running pgferry between hostile clients and a hostile server.

The login phase is part of it. At the end an honest client is served as if nothing had been, the worker has not
grown, and the log tells of no internal error.
"""

import contextlib
import os
import random
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fuzz.mutate import mutate, pieces
from pgferry.protocol.errors import ProtocolError
from support.fake_backend import FakeBackend
from support.pooler import Pooler, eventually
from support.sanitizer import fits
from support.wire import CANCEL_CODE, GSS_CODE, SSL_CODE, Wire, message, password, query, special, startup
from unit.engine.scripts import SCRIPTS

SECONDS = float(os.environ.get("PGFERRY_FUZZ_SECONDS", "4"))
ROOM_KB = 30_000


class FarServer:
    """Listens on a port; each connection is a fake backend, damaged while `hostile`."""

    def __init__(self) -> None:
        self.hostile = True
        self.seed = random.SystemRandom().randrange(1 << 40)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        number = 0
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            number += 1
            threading.Thread(target=self._serve, args=(sock, number), daemon=True).start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        pick = random.Random(self.seed + number)
        backend = FakeBackend(number)
        hostile = self.hostile
        login_too = pick.random() < 0.5
        with sock, contextlib.suppress(OSError, ValueError, IndexError, struct.error, ProtocolError):
            while data := sock.recv(65536):
                greeting = not backend.logged_in
                answer = backend.receive(data)
                if hostile and answer and (login_too or not greeting):
                    if pick.random() < 0.05:
                        return
                    answer = mutate(pick, answer)
                sock.sendall(answer)
                if backend.closed:
                    return


@pytest.fixture
def far() -> Iterator[FarServer]:
    server = FarServer()
    yield server
    server.close()


def greeting(pick: random.Random) -> bytes:
    """A startup packet, damaged more often than not."""
    user, database = (
        pick.choice(("postgres", "app", "nobody", "admin")),
        pick.choice(("db", "db", "pgbouncer", "")),
    )
    packet = startup(
        user, database, **{pick.choice(("application_name", "options", "_pq_.x", "DateStyle")): "x"}
    )
    if pick.random() < 0.2:
        packet = special(pick.choice((SSL_CODE, GSS_CODE))) + packet
    if pick.random() < 0.1:
        packet = special(CANCEL_CODE, pick.randbytes(8))
    return mutate(pick, b"\0" + packet)[1:] if pick.random() < 0.6 else packet


def password_messages(pick: random.Random) -> bytes:
    first = b"SCRAM-SHA-256\0" + struct.pack("!i", 32) + b"n,,n=,r=rOprNGfwEbeRWgbNEkqO1234"
    final = b"c=biws,r=rOprNGfwEbeRWgbNEkqO1234,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
    whole = pick.choice((password("secret"), message(b"p", first) + message(b"p", final)))
    return mutate(pick, whole) if pick.random() < 0.7 else whole


def hostile_client(pooler: Pooler, pick: random.Random) -> None:
    """One connection that does anything but what it should."""
    try:
        if pick.random() < 0.5:
            wire = Wire.login((pooler.host, pooler.port), "app", "db", "secret", timeout=2)
            sock = wire.sock
        else:
            sock = socket.create_connection((pooler.host, pooler.port), timeout=2)
            for piece in pieces(pick, greeting(pick)):
                sock.sendall(piece)
            if pick.random() < 0.7:
                sock.sendall(password_messages(pick))
    except (OSError, EOFError, ValueError, ProtocolError):
        return
    with sock, contextlib.suppress(OSError):
        told = b"".join(SCRIPTS[name] for name in pick.choices(sorted(SCRIPTS), k=2))
        for piece in pieces(pick, mutate(pick, told)):
            sock.sendall(piece)
        sock.settimeout(pick.choice((0.0, 0.001, 0.02)))
        while sock.recv(65536):
            pass


def resident(pid: int) -> int:
    """Kilobytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4


@pytest.mark.fuzz
@pytest.mark.parametrize("auth_type", ["trust", "scram-sha-256", "md5"])
def test_clients_and_servers(far: FarServer, auth_type: str) -> None:
    pooler = Pooler(
        settings={
            "server_tls_sslmode": "disable",  # the far server answers whatever comes
            "auth_type": auth_type,
            "default_pool_size": 3,
            "server_login_retry": 0.1,
            "query_wait_timeout": 1,
            "client_login_timeout": 2,
            "server_connect_timeout": 2,
            "max_prepared_statements": 5,
            "log_connections": 0,
            "log_disconnections": 0,
            "log_pooler_errors": 0,
        },
        databases={"db": f"host=127.0.0.1 port={far.port} user=app password=secret"},
        userlist={"postgres": "secret", "admin": "secret", "app": "secret"},
    )
    try:
        pooler.start()
        (worker,) = pooler.worker_pids
        start, count, base = time.monotonic(), 0, 0
        while time.monotonic() - start < SECONDS / 3 or count < 4:
            hostile_client(pooler, random.Random(far.seed + count))
            count += 1
            if not base and time.monotonic() - start > SECONDS / 9:
                base = resident(worker)
        far.hostile = False
        with Wire.login((pooler.host, pooler.port), "admin", "pgbouncer", "secret") as console:
            console.query("RECONNECT")  # what hostile servers said of their parameters is forgotten
        print(f"{count} clients, seed {far.seed}")
        eventually(lambda: served(pooler), 15, "an honest client is not served")
        assert pooler.worker_pids == [worker], "the worker has been restarted"
        assert fits(resident(worker) - base, ROOM_KB), (
            f"{resident(worker) - base} kB more after {count} clients"
        )
        assert "internal error" not in pooler.log(), pooler.log()[-6000:]
    except BaseException:
        print(pooler.log()[-4000:])
        with contextlib.suppress(Exception):
            print(pooler.show("POOLS"), pooler.show("SERVERS"), pooler.show("CLIENTS"))
        pooler.close()
        raise
    pooler.finish()


def served(pooler: Pooler) -> bool:
    """Whether a client gets its row; servers from before the peace may have to be used up first."""
    try:
        with Wire.login((pooler.host, pooler.port), "app", "db", "secret", timeout=3) as wire:
            wire.send(query("SELECT honest"))
            return any(m.type == "D" and m.row == [b"honest"] for m in wire.until())
    except (OSError, EOFError, ValueError, ProtocolError) as e:
        print(f"not served: {e!r}")
        return False
