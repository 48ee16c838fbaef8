"""Malformed bytes from clients and servers into the engine, without sockets: many thousand tries a minute.

Never an exception in the engine, never an endless loop, never a byte for the witness that is not its own, and
nothing left when everybody is gone. A failure prints its seed: PGFERRY_FUZZ_SEED=n repeats it.
"""

import gc
import itertools
import os
import random
import resource
import struct
import time
from collections.abc import Callable

import pytest

from fuzz.mutate import mutate, pieces
from pgferry.engine.core.model import Server
from pgferry.engine.ops import harness
from pgferry.protocol.errors import ProtocolError
from support.fake_backend import FakeBackend
from support.rig import Rig
from support.sanitizer import fits
from support.wire import CANCEL_CODE, GSS_CODE, SSL_CODE, message, password, query, special, startup
from unit.engine.scripts import SCRIPTS

SECONDS = float(os.environ.get("PGFERRY_FUZZ_SECONDS", "3"))
SEED = os.environ.get("PGFERRY_FUZZ_SEED")
WITNESS = query("SELECT witness")
ANSWER = FakeBackend()
ANSWER.receive(startup("app", "db"))
EXPECTED = ANSWER.receive(WITNESS)


class Hostile(FakeBackend):
    """A backend that damages what it says, and hangs up on what it does not understand, as PostgreSQL does."""

    pick: random.Random | None = None
    login_too = False

    def receive(self, data: bytes) -> bytes:
        greeting = not self.logged_in
        try:
            out = super().receive(data)
        except (ValueError, IndexError, struct.error, ProtocolError):
            self.closed = True
            return b""
        if self.pick is not None and out and greeting <= self.login_too:
            return mutate(self.pick, out)
        return out


class Arena(Rig):
    """A rig whose backends may be hostile until peace()."""

    pick: random.Random | None = None
    login_too = False

    def new_backend(self, pid: int) -> FakeBackend:
        backend = Hostile(pid)
        backend.pick = self.pick
        backend.login_too = self.login_too
        return backend

    def answer(self) -> bool:
        moved = super().answer()
        for server, backend in self.backends.items():
            if backend.closed and not server.closed:
                harness.end(server)
                moved = True
        return moved

    def peace(self) -> None:
        """Hostile servers are gone, new ones are honest."""
        self.pick = None
        for pool in self.engine.pools():
            pool.forget_parameters()
        for server in list(self.backends):
            harness.end(server)
        self.pump()

    def forget_closed(self) -> None:
        self.backends = {s: b for s, b in self.backends.items() if not s.closed}
        self.ports = {s: p for s, p in self.ports.items() if not s.closed}


def memory() -> int:
    """Kilobytes, now."""
    gc.collect()
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * resource.getpagesize() // 1024


def tries(one: Callable[[random.Random], None]) -> None:
    """Run one(random) until the time is up; memory must not grow in the second third and again in the last one.

    (The allocator keeps what one large message took: growth that is not repeated is no leak.)
    """
    if SEED is not None:
        one(random.Random(int(SEED)))
        return
    start = time.monotonic()
    first, count, room = random.SystemRandom().randrange(1 << 40), 0, 12_000
    held: list[int] = []
    while (passed := time.monotonic() - start) < SECONDS:
        seed = first + count
        try:
            one(random.Random(seed))
        except BaseException:
            print(f"PGFERRY_FUZZ_SEED={seed}")
            raise
        count += 1
        if passed > SECONDS / 3 * (len(held) + 1):
            held.append(memory())
    held.append(memory())
    print(f"{count} tries")
    assert count > 3
    growth = [late - early for early, late in itertools.pairwise(held)]
    assert len(held) < 3 or fits(min(growth), room), f"{growth} kB more after {count} tries"


def an_arena(pick: random.Random, **more: object) -> Arena:
    settings = {
        "pool_mode": pick.choice(("transaction", "transaction", "session", "statement")),
        "max_prepared_statements": pick.choice((0, 1, 3, 200)),
        "default_pool_size": pick.choice((1, 2)),
        "server_reset_query_always": pick.random() < 0.3,
        "server_login_retry": 0.0,
        **more,
    }
    return Arena(settings=settings)


def a_script(pick: random.Random) -> bytes:
    return b"".join(SCRIPTS[name] for name in pick.choices(sorted(SCRIPTS), k=pick.randint(1, 3)))


def everybody_leaves(rig: Arena) -> None:
    """All clients hang up."""
    for stream in list(rig.ports):
        if not isinstance(stream, Server):
            rig.port(stream).to_deliver.clear()
            harness.end(stream)
    rig.pump()


def everybody_is_served_and_nothing_is_left(rig: Arena) -> None:
    """A witness gets its answer; when all are gone nothing is held."""
    everybody_leaves(rig)
    rig.peace()
    for _ in range(3):
        if rig.engine.databases["db"].pools:
            rig.pool.endpoint.retry_at = 0
        witness = rig.login()
        rig.feed(witness, WITNESS)
        answer = witness.read()
        if b"server_login_retry" not in answer:
            break
    assert answer == EXPECTED, (answer, rig.log.lines)
    rig.check()
    everybody_leaves(rig)
    rig.peace()
    assert rig.pool.total_servers == 0 and rig.counts(rig.pool) == (0, 0)
    assert len(rig.engine.table) == 0, "statements that nobody holds"
    assert rig.loop.memory.bytes == 0 and rig.loop.memory.buffers == 0
    assert not rig.bugs, rig.bugs


def checked(rig: Arena, body: Callable[[], None]) -> None:
    try:
        body()
        everybody_is_served_and_nothing_is_left(rig)
    finally:
        rig.close()


@pytest.mark.fuzz
def test_clients() -> None:
    def one(pick: random.Random) -> None:
        rig = an_arena(pick)

        def body() -> None:
            bystander = rig.login()
            for _ in range(3):
                client = rig.login()
                for piece in pieces(pick, mutate(pick, a_script(pick))):
                    rig.feed(client, piece)
                assert bystander.read() == b""

        checked(rig, body)

    tries(one)


@pytest.mark.fuzz
def test_servers() -> None:
    def one(pick: random.Random) -> None:
        rig = an_arena(pick)

        def body() -> None:
            rig.pick = pick
            bystander = rig.login()
            for _ in range(3):
                client = rig.login()
                for piece in pieces(pick, a_script(pick)):
                    rig.feed(client, piece)
                if pick.random() < 0.3:
                    harness.end(client.stream)
                rig.pump()
            assert bystander.read() == b""

        checked(rig, body)

    tries(one)


@pytest.mark.fuzz
def test_servers_from_their_first_byte() -> None:
    def one(pick: random.Random) -> None:
        rig = an_arena(pick)

        def body() -> None:
            rig.pick = pick
            rig.login_too = True
            for _ in range(3):
                client = rig.connect()
                rig.feed(client, a_script(pick))
                if rig.engine.databases["db"].pools:
                    rig.pool.endpoint.retry_at = 0
                rig.tick()

        checked(rig, body)

    tries(one)


GREETINGS = (
    startup("app", "db"),
    startup("app", "db", application_name="x", client_encoding="UTF8"),
    startup("app", "db", options="-c TimeZone=UTC --DateStyle=ISO"),
    startup("app", "db", version=3 << 16 | 2, **{"_pq_.strange": "1"}),
    startup("app", "nowhere"),
    startup("nobody", "db"),
    special(SSL_CODE),
    special(GSS_CODE),
    special(CANCEL_CODE, struct.pack("!ii", 1, 2)),
    special(SSL_CODE) + startup("app", "db"),
)
SECRETS = (
    password("secret"),
    password(""),
    message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", 32) + b"n,,n=,r=rOprNGfwEbeRWgbNEkqO1234"),
    message(b"p", b"SCRAM-SHA-256\0" + struct.pack("!i", -1)),
    message(b"p", b"c=biws,r=rOprNGfwEbeRWgbNEkqO1234,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="),
    query("SELECT too soon"),
)


@pytest.mark.fuzz
def test_logins_of_clients() -> None:
    def one(pick: random.Random) -> None:
        auth_type = pick.choice(("any", "trust", "plain", "md5", "scram-sha-256"))
        rig = an_arena(pick, auth_type=auth_type, scram_iterations=1)

        def body() -> None:
            for _ in range(4):
                greeting = pick.choice(GREETINGS)
                if pick.random() < 0.7:
                    damaged = mutate(pick, b"\0" + greeting)[1:]  # as if it had a type, so that it is found
                    greeting = (
                        damaged if pick.random() < 0.7 else greeting[:4] + pick.randbytes(len(greeting) - 4)
                    )
                told = greeting + b"".join(pick.choices(SECRETS, k=pick.randint(0, 3)))
                client = rig.connect(b"")
                for piece in pieces(pick, mutate(pick, told) if pick.random() < 0.3 else told):
                    rig.feed(client, piece)
                rig.tick()
                harness.end(client.stream)
            assert not rig.bugs, rig.bugs
            assert len(rig.engine.connecting.logins) == 0 and not rig.engine.cancel_keys.by_key
            rig.set_auth_type("any")
            rig.login()

        checked(rig, body)

    tries(one)
