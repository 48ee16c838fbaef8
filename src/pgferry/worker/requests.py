"""What the supervisor asks of a worker: configuration, SHOW, and the commands of the console."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from pgferry.config import effective
from pgferry.config.model import Config
from pgferry.engine.core.database import Database
from pgferry.engine.core.enums import Shutdown
from pgferry.engine.core.model import Engine
from pgferry.engine.ops import handover, operations, show
from pgferry.engine.pool import draining, peers
from pgferry.engine.session import watching
from pgferry.frames import Message
from pgferry.tls.files import TlsFault
from pgferry.worker import configure
from pgferry.worker.control import Answer, Refusal
from pgferry.worker.engine_services import EngineServices
from pgferry.worker.handover import HandoverSender

Row = dict[str, Any]


class Wait:
    """A request that is answered when a condition holds."""

    def __init__(self, db: str | None, kind: str, holds: Callable[[], bool], answer: Answer) -> None:
        self.db = db
        self.kind = kind
        self.holds = holds
        self.answer = answer


class Requests:
    """Serves the control channel's requests."""

    def __init__(self, engine: Engine, services: EngineServices, on_configured: Callable[[], None]) -> None:
        self._engine = engine
        self._services = services
        self._on_configured = on_configured
        self._configured = False
        self._drain_seconds = 0.0
        self._handover: HandoverSender | None = None
        self._waits: list[Wait] = []
        self._stop_listening: Callable[[], None] = lambda: None
        self._leave_listeners: Callable[[], None] = lambda: None
        # Rows of each SHOW: a list, or an iterable that makes them slice by slice, between turns of the loop.
        self._shows: dict[str, Callable[[], list[Row] | Iterable[list[Row]]]] = {
            "clients": lambda: show.clients(engine, False),
            "servers": lambda: show.servers(engine),
            "sockets": lambda: itertools.chain(show.clients(engine, True), show.servers(engine)),
            "client_counts": lambda: show.crowd(engine),
            "pools": lambda: show.pools(engine),
            "databases": lambda: [self._database_row(db) for db in engine.databases.values()],
            "users": self._user_rows,
            "stats": lambda: show.stats(engine),
            "times": lambda: show.times(engine),
            "worker": lambda: show.worker(engine),
            "longest": lambda: watching.longest(engine),
            "ends": lambda: watching.ends(engine),
            "lists": lambda: show.lists(engine),
            "peer_pools": lambda: peers.pools(engine),
            "mem": lambda: show.mem(engine),
            "pins": lambda: show.pins(engine),
            "state_counters": lambda: show.state_counters(engine),
        }
        self._sliced: deque[tuple[Iterator[list[Row]], Answer]] = deque()
        self._handlers: dict[str, Callable[[Message, Answer], None]] = {
            "config": self._config,
            "show": self._show,
            "pause": self._pause,
            "resume": self._resume,
            "kill": self._kill,
            "disable": self._disable,
            "enable": self._disable,
            "reconnect": self._reconnect,
            "wait_close": self._wait_close,
            "kill_client": self._kill_client,
            "client_state": self._client_state,
            "shutdown": self._shutdown,
            "cancel": self._cancel,
            "find_db": self._find_db,
            "login_parameters": self._login_parameters,
            "moved": self._moved,
            "last_statement": self._last_statement,
            "hand_over": self._hand_over,
            "ping": lambda _message, answer: answer({}),
        }

    def on_stop_listening(self, action: Callable[[], None], leave: Callable[[], None]) -> None:
        """Set what SHUTDOWN does first, and what a hand-over does."""
        self._stop_listening = action
        self._leave_listeners = leave

    def handle(self, message: Message, answer: Answer) -> None:
        """Carry out one request. Raises Refusal."""
        handler = self._handlers.get(str(message.get("op")))
        if handler is None:
            raise Refusal(f"unknown operation {message.get('op')!r}")
        handler(message, answer)

    def check_waits(self) -> None:
        """Answer what has come true; called every tick."""
        if self._handover is not None:
            self._handover.go_on()
        if self._engine.phase.shutdown >= Shutdown.DRAINING:
            draining.go_on(self._engine, self._drain_seconds)
        for wait in list(self._waits):
            answer: Message = {}
            try:
                if not wait.holds():
                    continue
            except Exception as error:  # whoever waits is told; the others go on waiting
                self._engine.loop.report(wait, error)
                answer = {"ok": False, "error": f"internal error: {type(error).__name__}: {error}"}
            self._waits.remove(wait)
            wait.answer(answer)

    def _database(self, message: Message) -> Database | None:
        """The database the request names; None for all. Raises Refusal for one that is not here."""
        name = message.get("db")
        if name is None:
            return None
        db = self._engine.databases.get(name) or self._services.auto_database(name)
        if db is None:
            raise Refusal(f"no such database: {name}")
        return db

    def _config(self, message: Message, answer: Answer) -> None:
        config = msgspec.convert(message["config"], Config)
        self._services.config = config
        try:
            configure.apply(self._engine, config, first=not self._configured)
        except TlsFault as fault:
            raise Refusal(str(fault)) from fault
        self._take_state(message["state"])
        if not self._configured:
            self._configured = True
            self._on_configured()
        answer({})

    def _take_state(self, state: Message) -> None:
        engine = self._engine
        engine.phase.paused = bool(state.get("paused"))
        stopped = {*state.get("paused_dbs", ()), *state.get("killed_dbs", ())}
        disabled = set(state.get("disabled_dbs", ()))
        for name in stopped | disabled:
            if name not in engine.databases:
                self._services.auto_database(name)
        for name, db in engine.databases.items():
            db.paused = name in stopped
            db.disabled = name in disabled

    def _pause(self, message: Message, answer: Answer) -> None:
        db = self._database(message)
        operations.pause(self._engine, db)
        self._wait("pause", message.get("db"), lambda: operations.server_total(self._engine, db) == 0, answer)

    def _resume(self, message: Message, answer: Answer) -> None:
        name = message.get("db")
        operations.unpause(self._engine, self._database(message))
        for wait in [wait for wait in self._waits if wait.kind == "pause" and wait.db == name]:
            self._waits.remove(wait)
            wait.answer({"ok": False, "error": "resumed"})
        answer({})

    def _kill(self, message: Message, answer: Answer) -> None:
        db = self._database(message)
        for each in [db] if db is not None else list(self._engine.databases.values()):
            if db is not None or each.pools:
                each.paused = True
                operations.kill(self._engine, each)
        answer({})

    def _disable(self, message: Message, answer: Answer) -> None:
        db = self._database(message)
        if db is None:
            raise Refusal("a database is required")
        db.disabled = message["op"] == "disable"
        answer({})

    def _last_statement(self, _message: Message, answer: Answer) -> None:
        answer({"number": handover.last_statement(self._engine)})

    def _hand_over(self, message: Message, answer: Answer) -> None:
        """Online upgrade: give everything to the worker that waits under this name; answered when nothing is left."""
        self._leave_listeners()
        engine = self._engine
        try:
            sender = HandoverSender(
                engine, str(message["name"]), lambda key: self._services.cancel_here(key, lambda: None)
            )
        except OSError as error:
            raise Refusal(f"the new process cannot be reached: {error}") from error
        self._handover = sender
        sender.go_on()
        self._wait(
            "hand_over",
            None,
            lambda: operations.client_total(engine) == 0,
            lambda _fields: answer({"clients": sender.clients, "servers": sender.servers}),
        )

    def _moved(self, message: Message, answer: Answer) -> None:
        """A host name has lost addresses."""
        host = str(message["host"])
        addresses = [(int(family), str(address)) for family, address in message["addrs"]]
        self._services.take_addresses(host, addresses, float(message["ttl"]))
        operations.leave_addresses(self._engine, host, [str(address) for address in message["gone"]])
        answer({})

    def _reconnect(self, message: Message, answer: Answer) -> None:
        self._services.forget_names()
        operations.reconnect(self._engine, self._database(message))
        answer({})

    def _wait_close(self, message: Message, answer: Answer) -> None:
        db = self._database(message)
        self._wait(
            "wait_close",
            message.get("db"),
            lambda: operations.close_needed_total(self._engine, db) == 0,
            answer,
        )

    def _kill_client(self, message: Message, answer: Answer) -> None:
        if not operations.kill_client(self._engine, int(message["client_id"])):
            raise Refusal("client not found")
        answer({})

    def _client_state(self, message: Message, answer: Answer) -> None:
        rows = show.client_state(self._engine, int(message["client_id"]))
        if rows is None:
            raise Refusal("client not found")
        answer({"rows": rows})

    def _shutdown(self, message: Message, answer: Answer) -> None:
        self._stop_listening()
        engine = self._engine
        if message["mode"] == "drain":
            self._drain_seconds = float(message["seconds"])
            draining.begin(engine, self._drain_seconds)
            self._wait("shutdown", None, lambda: operations.client_total(engine) == 0, answer)
        elif message["mode"] == "wait_for_servers":
            engine.phase.shutdown = Shutdown.WAIT_FOR_SERVERS
            operations.close_free(engine, None, "server shutting down")
            operations.refuse_waiting(engine, "server shutting down")
            self._wait("shutdown", None, lambda: operations.server_total(engine, None) == 0, answer)
        else:
            engine.phase.shutdown = Shutdown.WAIT_FOR_CLIENTS
            self._wait("shutdown", None, lambda: operations.client_total(engine) == 0, answer)

    def _wait(self, kind: str, db: str | None, holds: Callable[[], bool], answer: Answer) -> None:
        if holds():
            answer({})
        else:
            self._waits.append(Wait(db, kind, holds, answer))

    def _cancel(self, message: Message, answer: Answer) -> None:
        self._services.cancel_here(message["key"], lambda: answer({}))

    def _find_db(self, message: Message, answer: Answer) -> None:
        name = message["db"]
        found = name in self._engine.databases or self._services.auto_database(name) is not None
        answer({"found": found})

    def _login_parameters(self, message: Message, answer: Answer) -> None:
        db = self._engine.databases.get(message["db"])
        pool = db.pools.get(message["user"]) if db is not None else None
        answer({"parameters": operations.login_parameters(pool) if pool is not None else None})

    # SHOW

    def _show(self, message: Message, answer: Answer) -> None:
        make = self._shows.get(message["what"])
        if make is None:
            raise Refusal(f"cannot show {message['what']!r}")
        found = make()
        if isinstance(found, list):
            answer({"rows": found})
            return
        self._sliced.append((iter(found), answer))
        self._engine.background = self._show_a_slice

    def _show_a_slice(self) -> bool:
        """Send some of the rows that were asked for; whether there are more."""
        slices, answer = self._sliced.popleft()
        try:
            rows = next(slices, None)
        except Exception as error:  # who has asked is told, others' rows are made all the same
            self._engine.loop.report(self._shows, error)
            answer({"ok": False, "error": f"internal error: {type(error).__name__}: {error}"})
            return bool(self._sliced)
        if rows is None:
            answer({"rows": []})
        else:
            if rows:
                answer({"rows": rows, "more": True})
            self._sliced.append((slices, answer))
        return bool(self._sliced)

    def _database_row(self, db: Database) -> Row:
        config, conf = self._services.config, db.conf
        clients, servers = show.current(db)
        return {
            "name": db.name,
            "host": ",".join(conf.hosts) or None,
            "port": conf.port,
            "database": conf.dbname or db.name,
            "force_user": conf.user,
            "pool_size": effective.pool_size(config, conf, None),
            "min_pool_size": effective.min_pool_size(config, conf, None),
            "reserve_pool_size": effective.reserve_pool_size(config, conf, None),
            "server_lifetime": int(effective.server_lifetime(config, conf)),
            "pool_mode": conf.pool_mode,
            "load_balance_hosts": (conf.load_balance_hosts or "round-robin") if len(conf.hosts) > 1 else None,
            "max_connections": db.max_servers,
            "current_connections": servers,
            "max_client_connections": db.max_clients,
            "current_client_connections": clients,
            "paused": int(db.paused),
            "disabled": int(db.disabled),
        }

    def _user_rows(self) -> list[Row]:
        rows = []
        for user in self._engine.users.values():
            clients, servers = show.current(user)
            conf = user.conf
            rows.append(
                {
                    "name": user.name,
                    "pool_size": conf.pool_size if conf is not None else None,
                    "reserve_pool_size": conf.reserve_pool_size if conf is not None else None,
                    "pool_mode": conf.pool_mode if conf is not None else None,
                    "max_user_connections": user.max_servers,
                    "current_connections": servers,
                    "max_user_client_connections": user.max_clients,
                    "current_client_connections": clients,
                }
            )
        return rows
