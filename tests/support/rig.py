"""An engine without sockets, its clients and its fake backends, driven step by step (see engine.harness)."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from pgferry.auth.scram import SaltSource
from pgferry.config.global_settings import Settings
from pgferry.config.model import Config, Database, User
from pgferry.engine.core.model import Client, Pool, Server
from pgferry.engine.io.log import Log
from pgferry.engine.io.loop import Loop
from pgferry.engine.io.stream import Stream
from pgferry.engine.ops import harness, maintenance, show
from pgferry.engine.ops.worker_engine import WorkerEngine
from pgferry.engine.shared.ledger import Ledger, create
from pgferry.worker import configure
from pgferry.worker.engine_services import EngineServices
from pgferry.worker.slow import SlowWork
from support.fake_backend import FakeBackend
from support.wire import startup

PAUSE_BULK = 16


class Now(SlowWork):
    """Slow work without a thread."""

    def __init__(self) -> None:
        """Nothing to start."""

    def run(self, _key: Any, job: Callable[[], Any], done: Callable[..., None]) -> None:
        try:
            result = job()
        except Exception as e:
            done(None, e)
        else:
            done(result, None)


class RigServices(EngineServices):
    """A worker without threads, without a supervisor and without a network."""

    def resolve(self, host: str, done: Callable[..., None]) -> None:
        """Never answered: the rig connects servers itself."""

    def cancel_requested(self, requester: Client, key: bytes) -> None:
        """Nobody has such a key."""
        assert isinstance(key, bytes)
        harness.end(requester)


class Port:
    """The far end of a stream: bytes that have not been taken yet, bytes that came out."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.to_deliver = bytearray()
        self.got = bytearray()
        self.room: int | None = None  # what the kernel takes before it is full; None: everything

    def read(self) -> bytes:
        """Take what came out so far."""
        out = bytes(self.got)
        self.got.clear()
        return out


class Rig:
    """One engine with one database `db`. `auto`: backends answer by themselves while pumping."""

    def __init__(
        self, *, settings: Mapping[str, Any] | None = None, auto: bool = True, **database: Any
    ) -> None:
        self._log_fd = os.open(os.devnull, os.O_WRONLY)
        self.log = Log(self._log_fd)
        self.loop = Loop()
        self.loop.sink = self._sink
        self.ledger_fd = create(1)
        self.ledger = Ledger(self.ledger_fd, 1, 0)
        self.services = RigServices(SaltSource(self.ledger.secret))
        self.engine = WorkerEngine(self.loop, self.ledger, 0, 1, self.services, self.log)
        self.services.engine = self.engine
        self.services.slow = Now()
        self.bugs: list[BaseException] = []
        self.loop.on_bug = lambda _stream, error: self.bugs.append(error)
        base = {
            "pool_mode": "transaction",
            "session_state": "ignore",  # the backends here know no catalog; probes have real servers
            "auth_type": "any",
            "server_tls_sslmode": "disable",
            "default_pool_size": 1,
            "log_connections": False,
        }
        self.config = Config(
            settings=msgspec.structs.replace(Settings(), **{**base, **(settings or {})}),
            databases={"db": Database(name="db", dbname="db", hosts=("far",), user="app", **database)},
            users={"app": User(name="app", secret="secret")},
        )
        self.services.config = self.config
        configure.apply(self.engine, self.config, first=True)
        self.ports: dict[Stream, Port] = {}
        self.backends: dict[Server, FakeBackend] = {}
        self.auto = auto
        self._pids = 0

    def close(self) -> None:
        """Close its descriptors; once or more often."""
        for fd in {self.ledger_fd, self._log_fd} - {-1}:
            os.close(fd)
        self.ledger_fd = self._log_fd = -1

    # --- bytes

    def _sink(self, stream: Stream, data: bytes) -> int:
        port = self.port(stream)
        n = len(data) if port.room is None else min(port.room, len(data))
        if port.room is not None:
            port.room -= n
        port.got += data[:n]
        return n

    def port(self, stream: Stream) -> Port:
        found = self.ports.get(stream)
        if found is None:
            found = self.ports[stream] = Port(stream)
        return found

    def connect(self, packet: bytes | None = None) -> Port:
        """A client that sends this startup packet (default: user app, database db)."""
        port = self.port(harness.new_client(self.engine))
        port.to_deliver += startup("app", "db") if packet is None else packet
        self.pump()
        return port

    def login(self, **parameters: str) -> Port:
        """A client that is logged in; its greeting has been read."""
        port = self.connect(startup("app", "db", **parameters))
        greeting = port.read()
        assert greeting.endswith(b"Z\0\0\0\5I"), (greeting, self.log.lines)
        return port

    def feed(self, port: Port, data: bytes) -> None:
        """Let the far end of a stream send."""
        port.to_deliver += data
        self.pump()

    def pump(self) -> None:
        """Move bytes until nothing moves any more. Raises AssertionError when that takes too long."""
        for _ in range(20_000):
            moved = self._new_servers()
            for port in list(self.ports.values()):
                moved |= self.take(port)
            self.loop.run_once(0)
            if self.auto:
                moved |= self.answer()
            if not moved and not any(self._goes_on(p) for p in self.ports.values() if not p.stream.closed):
                return
        raise AssertionError("it never comes to rest")

    def _goes_on(self, port: Port) -> bool:
        """Whether the loop will come back to it by itself."""
        return bool(
            harness.facts(port.stream)["queued"] or (port.to_deliver and port.stream.paused == PAUSE_BULK)
        )

    def take(self, port: Port) -> bool:
        """Give the engine what it takes of the bytes that wait for it."""
        moved = False
        while port.to_deliver and not port.stream.closed:
            n = harness.inject(port.stream, bytes(port.to_deliver))
            if n == 0:
                break
            del port.to_deliver[:n]
            moved = True
        return moved

    def answer(self) -> bool:
        """Let every backend answer what it has received."""
        moved = False
        for server, backend in list(self.backends.items()):
            port = self.port(server)
            if port.got:
                port.to_deliver += backend.receive(port.read())
                moved = True
        return moved

    def new_backend(self, pid: int) -> FakeBackend:
        """The backend behind a new server."""
        return FakeBackend(pid)

    def set_auth_type(self, auth_type: str) -> None:
        """Change auth_type for the logins to come."""
        settings = msgspec.structs.replace(self.config.settings, auth_type=auth_type)
        self.config = msgspec.structs.replace(self.config, settings=settings)
        self.engine.config = self.services.config = self.config

    def _new_servers(self) -> bool:
        moved = False
        for pool in self.engine.pools():
            for server in pool.endpoint.fresh.items():
                if server not in self.backends:
                    self._pids += 1
                    self.backends[server] = self.new_backend(self._pids)
                    harness.connected(server)
                    moved = True
        return moved

    # --- looking

    @property
    def pool(self) -> Pool:
        return self.engine.databases["db"].pools["app"]

    @property
    def servers(self) -> list[Server]:
        return self.pool.servers()

    def backend(self, i: int = 0) -> FakeBackend:
        """The i-th backend that was ever made."""
        return list(self.backends.values())[i]

    def tick(self) -> None:
        maintenance.tick(self.engine)
        self.pump()

    def check(self) -> None:
        """What holds whenever nothing moves. Raises AssertionError."""
        assert not self.bugs, self.bugs
        for pool in self.engine.pools():
            for group, states in (
                (pool.endpoint.idle, {1}),
                (pool.endpoint.used, {2}),
                (pool.endpoint.active, {4}),
                (pool.endpoint.tested, {3}),
            ):
                for server in group.items():
                    assert server.state in states
                    self._check_server(server, server.state in (1, 2))
            linked = [s for s in pool.servers() if s.client is not None]
            assert set(linked) == set(pool.endpoint.active.items())
            for server in linked:
                assert server.client.server is server
            for client in pool.clients.items() + pool.waiting.items():
                seen = harness.client_facts(client)
                if client.server is None or not len(client.server.plan):
                    assert not seen["pending"], seen
            clients, servers = self.counts(pool)
            both = [p for p in self.engine.pools() if p.db is pool.db]
            assert servers == sum(p.total_servers for p in both)
            assert clients == sum(len(p.clients) + len(p.waiting) + len(p.logging_in) for p in both)
            assert pool.main_pool is None or not (
                len(pool.endpoint.idle) + len(pool.endpoint.used) + len(pool.endpoint.tested)
            )

    def _check_server(self, server: Server, free: bool) -> None:
        facts, seen = harness.facts(server), harness.server_facts(server)
        if free:
            assert server.status == ord("I") and not len(server.plan) and server.client is None
            assert not facts["held"] and not facts["unsent"] and not seen["passing"] and not seen["copy_in"]
            assert not seen["skipping"] and not seen["barrier_needed"] and not seen["advance_due"]
        backend = self.backends[server]
        if (
            server.pool.settings.mode != 0
            and not len(server.plan)
            and not self.port(server).to_deliver
            and not self.port(server).got
        ):
            has = {b"PGFERRY_%d" % n for n in seen["prepared"]}
            assert has == backend.names or backend.waiting_for_more, (seen, backend.names)

    def counts(self, pool: Pool) -> tuple[int, int]:
        """(clients, servers) of the pool's database, from the ledger."""
        clients, servers = show.current(pool.db)
        return int(clients), int(servers)
