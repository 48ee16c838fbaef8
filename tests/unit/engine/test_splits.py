"""However the byte streams of a client and its server are cut, the client gets what a direct one gets.

Each script of scripts.py runs in transaction and in session mode, with the client's bytes cut in two at every
point, with the server's answer cut in two at every point, byte by byte, and in random pieces. Servers answer
at once (prompt) or only when the client has nothing more to say (lazy).
"""

import random
import struct
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.fake_backend import FakeBackend
from support.rig import Rig
from support.wire import startup
from unit.engine.scripts import LARGE, SCRIPTS

MODES = ("transaction", "session")


def direct(data: bytes) -> bytes:
    """What the backend itself answers."""
    backend = FakeBackend()
    backend.receive(startup("app", "db"))
    return backend.receive(data)


def letters(data: bytes) -> str:
    """The types of the messages, with a ! for an incomplete last one."""
    found, at = "", 0
    while at + 5 <= len(data):
        found += chr(data[at])
        at += struct.unpack_from("!I", data, at + 1)[0] + 1
    return found + ("!" if at != len(data) else "")


class Run:
    """One script through one rig; pieces of client and server bytes are given by the caller."""

    def __init__(
        self,
        mode: str,
        name: str,
        data: bytes,
        *,
        cuts: Iterable[int] = (),
        server_cuts: Iterable[int] = (),
        lazy: bool = False,
    ) -> None:
        self.rig = Rig(settings={"pool_mode": mode, "max_prepared_statements": 3}, auto=False)
        self.name = name
        self.mode = mode
        self.data = data
        self.cuts = sorted(cuts)
        self.server_cuts = sorted(server_cuts)
        self.sent = 0  # of the servers' answers
        self.lazy = lazy

    def answers(self) -> bool:
        """Let the backends answer, their bytes cut."""
        moved = False
        for server, backend in list(self.rig.backends.items()):
            port = self.rig.port(server)
            if not port.got:
                continue
            answer = backend.receive(port.read())
            moved = moved or bool(answer)
            at = 0
            for cut in [
                *(c - self.sent for c in self.server_cuts if self.sent < c < self.sent + len(answer)),
                len(answer),
            ]:
                self.rig.feed(port, answer[at:cut])
                at = cut
            self.sent += len(answer)
        return moved

    def settle(self) -> None:
        while self.answers():
            self.rig.pump()

    def go(self) -> bytes:
        """Run it; the client's bytes. Fails when the engine is not at rest as it should be."""
        try:
            return self._go(self.rig)
        finally:
            self.rig.close()

    def _go(self, rig: Rig) -> bytes:
        rig.auto = True
        client = rig.login()
        rig.auto = False
        at = 0
        for cut in [*self.cuts, len(self.data)]:
            rig.feed(client, self.data[at:cut])
            at = cut
            if not self.lazy:
                self.settle()
        self.settle()
        got = bytes(client.got)
        assert not client.to_deliver, "input was left"
        rig.check()
        if self.mode == "transaction":
            assert len(rig.pool.endpoint.idle) == rig.pool.total_servers, "the server did not come back"
        return got

    def check(self) -> None:
        want, got = direct(self.data), self.go()
        assert letters(got) == letters(want), (self.name, self.rig.log.lines)
        assert got == want, (self.name, self.rig.log.lines)


def everything(large: bool = False) -> list[object]:
    return [pytest.param(n, d, id=n) for n, d in (LARGE if large else SCRIPTS).items()]


@pytest.mark.parametrize("lazy", [False, True], ids=["prompt", "lazy"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "data"), everything() + everything(True))
def test_whole(name: str, data: bytes, mode: str, lazy: bool) -> None:
    Run(mode, name, data, lazy=lazy).check()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "data"), everything())
def test_byte_by_byte(name: str, data: bytes, mode: str) -> None:
    Run(mode, name, data, cuts=range(1, len(data))).check()
    Run(mode, name, data, server_cuts=range(1, len(direct(data)) + 2000), lazy=True).check()


@pytest.mark.parametrize(("name", "data"), everything())
def test_every_cut_of_the_client(name: str, data: bytes) -> None:
    for cut in range(1, len(data)):
        Run("transaction", name, data, cuts=[cut], lazy=cut % 2 == 0).check()


@pytest.mark.parametrize(("name", "data"), everything())
def test_every_cut_of_the_server(name: str, data: bytes) -> None:
    run = Run("transaction", name, data)
    run.check()
    for cut in range(1, run.sent):
        Run("transaction", name, data, server_cuts=[cut], lazy=cut % 2 == 0).check()


@pytest.mark.parametrize(("name", "data"), everything(True))
def test_large_messages_in_random_pieces(name: str, data: bytes) -> None:
    for seed in range(6):
        pick = random.Random(seed)
        cuts = {pick.randrange(1, len(data)) for _ in range(20)}
        size = len(direct(data))
        server_cuts = {pick.randrange(1, size) for _ in range(20)}
        Run(MODES[seed % 2], name, data, cuts=cuts, server_cuts=server_cuts, lazy=seed % 3 == 0).check()


@settings(max_examples=150, deadline=None)
@given(
    names=st.lists(st.sampled_from(sorted(SCRIPTS)), min_size=1, max_size=3),
    cuts=st.sets(st.integers(1, 1500), max_size=40),
    server_cuts=st.sets(st.integers(1, 1500), max_size=40),
    lazy=st.booleans(),
    mode=st.sampled_from(MODES),
)
def test_scripts_in_a_row_in_random_pieces(
    names: list[str], cuts: set[int], server_cuts: set[int], lazy: bool, mode: str
) -> None:
    data = b"".join(SCRIPTS[n] for n in names)
    Run(
        mode, str(names), data, cuts=[c for c in cuts if c < len(data)], server_cuts=server_cuts, lazy=lazy
    ).check()
