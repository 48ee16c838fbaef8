"""Several clients share fewer servers, and each sees exactly what it would see alone.

A state machine over the rig: clients send messages in pieces, servers answer in pieces, sockets fill up,
clients and servers go away. Each client has an oracle, a backend of its own that gets the same bytes: what
the client receives is a beginning of what the oracle says, always, and all of it in the end.
"""

import os
from dataclasses import dataclass, field

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pgferry.engine.core.model import Server
from pgferry.engine.ops import harness
from support.fake_backend import FakeBackend
from support.rig import Port, Rig
from support.wire import (
    bind,
    close,
    copy_data,
    copy_done,
    copy_fail,
    describe,
    execute,
    flush,
    function_call,
    parse,
    query,
    startup,
    sync,
)

NAMES = ["", "a", "b", "c"]
name = st.sampled_from(NAMES)
SIMPLE = ["BEGIN", "COMMIT", "ROLLBACK", "FAIL", "ROWS 3 20", "", "COPY IN", "COPY OUT 2", "NOTICE n",
          "ALTER TABLE", "DEALLOCATE ALL", "SELECT 1; FAIL", "SELECT 1; COPY IN; SELECT 2"]  # fmt: skip
EXTENDED = ["BEGIN", "FAIL", "SYNTAX", "ROWS 3 20", "SELECT $1", "COPY IN", "SELECT same"]
outside_copy = st.one_of(
    st.sampled_from(SIMPLE).map(query),
    st.builds(lambda n: query(f"SELECT own{n}"), st.integers(0, 9)),
    st.builds(parse, st.sampled_from(EXTENDED), name),
    # Without a name: PostgreSQL says 42P05 for one that is there, even in a failed transaction, but only if it is
    # on this server, where it cannot be brought any more (25P02). No driver prepares COMMIT twice.
    st.just(parse("COMMIT", "")),
    st.builds(lambda n, k: parse(f"SELECT own{k}", n), name, st.integers(0, 3)),
    st.builds(lambda n, v: bind([v], n), name, st.sampled_from(["x", "y"])),
    st.builds(describe, name),
    st.builds(lambda n: execute("", n), st.sampled_from([0, 2])),
    st.builds(close, name),
    st.just(sync()),
    st.just(sync()),
    st.just(flush()),
    st.just(function_call(1)),
    st.just(copy_done()),
    st.builds(lambda n: parse("SELECT both", n) + bind((), n) + execute() + sync(), name),
    st.builds(lambda n: bind(["v"], n) + describe(kind="P") + execute() + sync(), name),
    st.builds(lambda v: query(f"SET \"application_name\"='{v}'"), st.sampled_from(["p", "q"])),
)
# The rows of a COPY, until CopyDone or CopyFail. Sync only before a row that fails: nobody can tell whether a
# later one was read in copy mode, and no driver sends one there.
BAD_ROW = copy_data("x")
ROWS = [copy_data("line\n"), copy_done(), copy_done(), copy_fail("f"), flush()]
in_copy = st.sampled_from([*ROWS, BAD_ROW, sync()])
after_bad_row = st.sampled_from(ROWS)


@dataclass
class Alone:
    """A client, its oracle, and what the oracle has said."""

    port: Port
    oracle: FakeBackend
    want: bytearray = field(default_factory=bytearray)
    copying: bool = False  # as far as it knows
    bad: bool = False

    def say(self, data: bytes) -> None:
        self.want += self.oracle.receive(data)
        if data[:1] in b"cf" or not (self.copying or self.oracle.copying):
            self.copying = self.oracle.copying
            self.bad = False
        else:
            self.copying = True
            self.bad |= data == BAD_ROW

    def next(self) -> "st.SearchStrategy[bytes]":
        """What it may say now."""
        return outside_copy if not self.copying else after_bad_row if self.bad else in_copy


class Pool(RuleBasedStateMachine):
    """The engine under test with two servers at most."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig()
        self.clients: list[Alone] = []
        self.wires: dict[Server, bytearray] = {}

    @initialize(
        prepared=st.sampled_from([1, 2, 50]),
        always=st.booleans(),
        robin=st.booleans(),
        size=st.integers(1, 2),
        clients=st.lists(st.sampled_from(["", "one"]), min_size=1, max_size=4),
    )
    def make(self, prepared: int, always: bool, robin: bool, size: int, clients: list[str]) -> None:
        self.rig.close()
        self.rig = Rig(
            settings={
                "max_prepared_statements": prepared,
                "server_reset_query_always": always,
                "server_round_robin": robin,
                "default_pool_size": size,
            }
        )
        self.rig.auto = False
        for application in clients:
            self.join(application)

    # --- helpers

    def join(self, application: str) -> None:
        """A client logs in, beside its oracle."""
        given = {"application_name": application} if application else {}
        client = Alone(self.rig.connect(startup("app", "db", **given)), FakeBackend())
        client.oracle.receive(startup("app", "db", **given))
        while not client.port.got.endswith(b"Z\0\0\0\5I"):
            self.rig.pump()
            self.answers()
            assert self.flow(), self.rig.log.lines
        client.port.read()
        self.clients.append(client)

    def answers(self) -> None:
        """Let the backends answer; their bytes lie on the wire."""
        for server, backend in self.rig.backends.items():
            port = self.rig.port(server)
            if port.got:
                self.wires.setdefault(server, bytearray()).extend(backend.receive(port.read()))

    def flow(self, limit: int | None = None) -> bool:
        """Bring bytes from the wires to the engine; whether there were any."""
        moved = False
        for server, wire in list(self.wires.items()):
            if wire:
                n = len(wire) if limit is None else min(limit, len(wire))
                port = self.rig.port(server)
                if not server.closed:
                    self.rig.feed(port, bytes(wire[:n]))
                del wire[:n]
                moved = True
        return moved

    def settle(self) -> None:
        """Everything goes on until nothing moves."""
        for client in self.clients:
            self.unblock(client)
        while True:
            self.rig.pump()
            self.answers()
            if not self.flow():
                return

    def unblock(self, client: Alone) -> None:
        if client.port.room is not None:
            client.port.room = None
            if not client.port.stream.closed:
                harness.writable(client.port.stream)

    def pick(self, i: int) -> Alone:
        return self.clients[i % len(self.clients)]

    # --- rules

    @precondition(lambda self: len(self.clients) < 4)
    @rule(application=st.sampled_from(["", "one", "two"]))
    def connect(self, application: str) -> None:
        self.join(application)

    @precondition(lambda self: self.clients)
    @rule(i=st.integers(0, 3), data=st.data(), count=st.integers(1, 4), piece=st.sampled_from([7, 1000]))
    def say_more(self, i: int, data: st.DataObject, count: int, piece: int) -> None:
        self._say(i, data, count, piece)

    @precondition(lambda self: self.clients)
    @rule(i=st.integers(0, 3), data=st.data(), count=st.integers(1, 4), piece=st.integers(1, 60))
    def say(self, i: int, data: st.DataObject, count: int, piece: int) -> None:
        self._say(i, data, count, piece)

    def _say(self, i: int, data: st.DataObject, count: int, piece: int) -> None:
        """Some messages, in pieces."""
        client = self.pick(i)
        told = b""
        for _ in range(count):
            message = data.draw(client.next())
            client.say(message)
            told += message
        for at in range(0, len(told), piece):
            self.rig.feed(client.port, told[at : at + piece])

    @rule(piece=st.integers(1, 60), flows=st.integers(1, 4))
    def answer(self, piece: int, flows: int) -> None:
        self.answers()
        for _ in range(flows):
            self.flow(piece)

    @rule()
    def everything(self) -> None:
        self.settle()

    @precondition(lambda self: self.clients)
    @rule(i=st.integers(0, 3), room=st.integers(0, 30))
    def block(self, i: int, room: int) -> None:
        self.pick(i).port.room = room

    @precondition(lambda self: self.clients)
    @rule(i=st.integers(0, 3))
    def leave(self, i: int) -> None:
        client = self.pick(i)
        self.clients.remove(client)
        client.port.to_deliver.clear()
        harness.end(client.port.stream)
        self.unblock(client)  # the kernel calls the socket of a peer that is gone writable
        self.rig.pump()

    @precondition(lambda self: self.clients)
    @rule(i=st.integers(0, 3))
    def goodbye(self, i: int) -> None:
        client = self.pick(i)
        self.clients.remove(client)
        self.unblock(client)
        self.rig.feed(client.port, b"X\0\0\0\4")

    @precondition(lambda self: any(not s.closed and s.login is None for s in self.rig.backends))
    @rule(i=st.integers(0, 9))
    def server_dies(self, i: int) -> None:
        alive = [s for s in self.rig.backends if not s.closed and s.login is None]
        server = alive[i % len(alive)]
        linked = [c for c in self.clients if c.port.stream.server is server]
        self.wires.pop(server, None)
        self.rig.port(server).to_deliver.clear()
        for client in linked:
            self.unblock(client)
        harness.end(server)
        self.rig.pump()
        for client in linked:
            self.clients.remove(client)
            assert said_before_the_end(bytes(client.port.got), bytes(client.want)), (
                client.port.got,
                client.want,
            )

    @rule()
    def tick(self) -> None:
        self.rig.tick()

    # --- what always holds

    @invariant()
    def healthy(self) -> None:
        self.rig.check()
        for client in self.clients:
            assert client.want.startswith(client.port.got), (
                bytes(client.port.got),
                bytes(client.want),
                self.rig.log.lines,
            )
        if "db" in self.rig.engine.databases and self.rig.engine.databases["db"].pools:
            assert self.rig.pool.total_servers <= self.rig.pool.settings.size

    def teardown(self) -> None:
        try:
            self.finish()
        finally:
            self.rig.close()

    def finish(self) -> None:
        """Every client ends what it has begun; then all answers are there and all servers are free."""
        for client in self.clients:
            for _ in range(2):
                if client.copying:
                    self.rig.feed(client.port, copy_fail())
                    client.say(copy_fail())
                for end in (sync(), query("ROLLBACK")):
                    self.rig.feed(client.port, end)
                    client.say(end)
        self.settle()
        for client in self.clients:
            got, want = bytes(client.port.got), bytes(client.want)
            assert got == want, (got, want, self.rig.log.lines)
            assert client.port.stream.server is None
            assert not harness.client_facts(client.port.stream)["pending"]
        self.rig.check()


def said_before_the_end(got: bytes, want: bytes) -> bool:
    """Whether `got` is a beginning of `want`, perhaps with a FATAL error behind it."""
    at = got.rfind(b"E\0\0\0")
    return want.startswith(got) or (at >= 0 and b"FATAL" in got[at:] and want.startswith(got[:at]))


TestPool = Pool.TestCase
EXAMPLES = 150 if os.environ.get("PGFERRY_TEST_MATRIX") == "one" else 400
TestPool.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
