"""The running supervisor: starts workers, serves what they ask, acts on signals, ends in good order."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from pgferry import PGBOUNCER_VERSION, __version__
from pgferry.frames import Message
from pgferry.supervisor import systemd
from pgferry.supervisor.accounts import Accounts
from pgferry.supervisor.errors import CommandError, WorkerGone, WorkerRefused
from pgferry.supervisor.external_auth import ExternalAuth
from pgferry.supervisor.fleet import Fleet, Ledger, Predecessor
from pgferry.supervisor.handover import Handover
from pgferry.supervisor.listeners import Listeners
from pgferry.supervisor.log import Log
from pgferry.supervisor.operations import Operations
from pgferry.supervisor.pooler import Pooler
from pgferry.supervisor.reload import Reloader
from pgferry.supervisor.watch import FileWatch

_CANCEL_SECONDS = 60.0
_PARAMETERS_SECONDS = 5.0


class Management(Protocol):
    """What operators look at and give commands to: the admin console, the HTTP port, pushed metrics."""

    async def serve_console(self, sock: socket.socket, client: Mapping[str, Any]) -> None:
        """Serve one authenticated client of the console; `client` is the worker's `console` message."""

    async def cancel_console(self, client_id: int) -> None:
        """Act on a cancel request of a console client."""

    async def open_http(self, sockets: Sequence[socket.socket]) -> None:
        """Serve HTTP on these sockets from now on."""

    async def close_http(self) -> None:
        """End all HTTP connections."""

    async def push_metrics(self) -> None:
        """Send metrics to where the configuration says, until cancelled; return when it names nothing."""


Manage = Callable[[Pooler, Operations, Reloader], Management]


class Supervisor:
    """Everything between `the sockets are open` and `the process ends`."""

    def __init__(
        self,
        pooler: Pooler,
        listeners: Listeners,
        ledger: Ledger,
        manage: Manage,
        *,
        verbose: int = 0,
        stderr: bool = True,
        http: Sequence[socket.socket] = (),
        on_up: Callable[[], None] = lambda: None,
        predecessor: Predecessor | None = None,
    ) -> None:
        self._pooler = pooler
        self._log: Log = pooler.log
        self._on_up = on_up
        self._tasks: set[asyncio.Task[None]] = set()
        self._http = list(http)
        pooler.listeners = listeners
        pooler.fleet = Fleet(
            listeners,
            ledger,
            pooler.log,
            self._serve_worker,
            lambda: pooler.config_message(reload=False),
            pooler.retire,
        )
        pooler.fleet.predecessor = predecessor
        self.operations = Operations(pooler)
        self.reloader = Reloader(pooler, verbose=verbose, stderr=stderr)
        self._accounts = Accounts()
        self._external_auth = ExternalAuth()
        self._auth_file = FileWatch(lambda: pooler.config.settings.auth_file, self.reloader.renew_users)
        self._management = manage(pooler, self.operations, self.reloader)
        self.operations.on_takeover = Handover(pooler, self._http, self._management.close_http).begin

    async def run(self) -> None:
        """Run until a signal or the console ends it. Raises StartError when the workers cannot start."""
        self._handle_signals()
        asyncio.get_running_loop().set_exception_handler(self._on_bug)
        pooler = self._pooler
        try:
            if await self._start():
                self._spawn(self._stats_periods())
                self._spawn(self._auth_file.run())
                self._spawn(self._heartbeats())
                self._spawn(pooler.fleet.watch())
                self._spawn(pooler.resolver.run())
                if self._http:
                    await self._management.open_http(self._http)
                self._spawn(self._management.push_metrics())
                await pooler.done.wait()
        finally:
            systemd.notify("STOPPING=1")
            for task in list(self._tasks):
                task.cancel()
            await self._management.close_http()
            pooler.listeners.close()
            await pooler.fleet.stop(pooler.grace)
            pooler.resolver.close()
            self._accounts.close()
            self._external_auth.close()

    async def _start(self) -> bool:
        """Start the workers; False when a signal ended the start."""
        start = asyncio.ensure_future(self._pooler.fleet.start())
        ended = asyncio.ensure_future(self._pooler.done.wait())
        await asyncio.wait([start, ended], return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if not start.done():
            start.cancel()
            return False
        start.result()
        python = ".".join(map(str, sys.version_info[:3]))
        self._log.log(
            f"process up: pgferry {__version__} (compatible with PgBouncer {PGBOUNCER_VERSION}), "
            f"{self._pooler.fleet.size} worker(s), Python {python}"
        )
        self._on_up()
        systemd.notify("READY=1")
        return True

    def _on_bug(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception that nobody handled: say so and go on, the clients' traffic does not depend on it."""
        error = context.get("exception")
        where = "".join(traceback.format_exception(error)) if error is not None else ""
        self._log.error(f"internal error: {context.get('message')}\n{where}")

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _stats_periods(self) -> None:
        pooler = self._pooler
        while True:
            began = time.monotonic()
            while (left := began + max(1, pooler.config.settings.stats_period) - time.monotonic()) > 0:
                await asyncio.sleep(min(1.0, left))  # it may be changed meanwhile
            try:
                await pooler.refresh()
            except CommandError as error:
                self._log.error(error.message)
                continue
            line = pooler.stats.snapshot()
            pooler.times.snapshot()
            systemd.notify(f"STATUS={line}")
            if pooler.config.settings.log_stats:
                self._log.log(line)

    async def _heartbeats(self) -> None:
        """The service manager's watchdog: it hears from us as long as every worker answers."""
        seconds = systemd.watchdog_seconds()
        if seconds is None:
            return
        pause = seconds / 4
        while True:
            silent = await self._pooler.fleet.silent(pause)
            for index in silent:
                self._log.error(f"worker {index} does not answer: the watchdog is not told that all is well")
            if not silent:
                systemd.notify("WATCHDOG=1")
            await asyncio.sleep(pause)

    # What workers ask for

    async def _serve_worker(self, _index: int, message: Message, fd: int | None) -> Message | None:
        op = message.get("op")
        if fd is not None and op != "console":
            os.close(fd)
        if op == "console":
            self._open_console(message, fd)
        elif op == "console_cancel":
            await self._management.cancel_console(int(message["client_id"]))
        elif op == "resolve":
            return await self._pooler.resolver.resolve(str(message["host"]))
        elif op == "verify":
            return {"why": await self._external_auth.verify(message)}
        elif op == "system_user":
            return {"name": await self._accounts.name_of(int(message["uid"]))}
        elif op == "cancel":
            await self._forward_cancel(message)
        elif op == "host_down":
            text = f"{message['db']}: the other hosts of its list are tried instead of {message['host']}: "
            self._pooler.events.note(text + str(message["reason"]), "error")
        elif op == "login_parameters":
            return await self._find_login_parameters(message)
        else:
            raise WorkerRefused(f"unknown operation {op!r}")
        return None

    def _open_console(self, message: Message, fd: int | None) -> None:
        if fd is None:
            self._log.error("a worker handed over a console client without its socket")
            return
        self._spawn(self._management.serve_console(socket.socket(fileno=fd), message))

    async def _forward_cancel(self, message: Message) -> None:
        """Hand a cancel request to the worker that has the client; answered when that one has finished."""
        fields = {"ttl": message["ttl"]} if "ttl" in message else {}
        try:
            await self._pooler.fleet.ask(
                int(message["worker"]), "cancel", _CANCEL_SECONDS, key=message["key"], **fields
            )
        except (WorkerGone, TimeoutError) as error:
            raise WorkerRefused(str(error) or "no answer in time") from error

    async def _find_login_parameters(self, message: Message) -> Message:
        """What a client of a pool is told at its login, from a worker that has logged in there already."""
        answers = await self._pooler.fleet.ask_all(
            "login_parameters", _PARAMETERS_SECONDS, db=message["db"], user=message["user"]
        )
        for answer in answers.values():
            if answer["parameters"] is not None:
                return {"parameters": answer["parameters"]}
        return {"parameters": None}

    # Signals (COMPAT 2.9); asyncio runs these in the loop, not inside the interrupted code

    def _handle_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number, action in (
            (signal.SIGHUP, self._on_hup),
            (signal.SIGTERM, lambda: self._on_shutdown("SIGTERM", "wait_for_clients")),
            (signal.SIGINT, lambda: self._on_shutdown("SIGINT", "wait_for_servers")),
            (signal.SIGQUIT, self._on_quit),
            (signal.SIGUSR1, self._on_usr1),
            (signal.SIGUSR2, self._on_usr2),
        ):
            loop.add_signal_handler(number, action)

    def _on_hup(self) -> None:
        self._log.log("got SIGHUP, re-reading config")
        self._spawn(self._reload_by_signal())

    async def _reload_by_signal(self) -> None:
        systemd.reloading()
        try:
            with contextlib.suppress(CommandError):  # the reasons are in the log already
                await self.reloader.reload()
        finally:
            systemd.notify("READY=1")

    def _on_shutdown(self, name: str, mode: str) -> None:
        if self._pooler.state.shutdown or not self._pooler.fleet.running:
            self._log.log(f"got {name} while starting or shutting down, fast exit")
            self._pooler.end(0)
            return
        if self.operations.drain_seconds > 0:
            seconds = f"{self.operations.drain_seconds:g}"
            self._log.log(
                f"got {name}, shutting down, clients leave between transactions, for up to {seconds} s"
            )
            self.operations.shutdown(None)
            return
        what = "server" if mode == "wait_for_servers" else "client"
        self._log.log(f"got {name}, shutting down, waiting for all {what} connections to be released")
        self.operations.shutdown(mode)

    def _on_quit(self) -> None:
        self._log.log("got SIGQUIT, fast exit")
        self._pooler.end(0)

    def _on_usr1(self) -> None:
        state = self._pooler.state
        if state.paused or state.shutdown:
            self._log.log("got SIGUSR1, but already paused or shutting down")
            return
        self._log.log("got SIGUSR1, pausing all activity")
        self._spawn(self._quietly(self.operations.pause(None)))

    def _on_usr2(self) -> None:
        if self._pooler.state.shutdown:
            self._log.log("got SIGUSR2 while shutting down, ignoring")
            return
        self._log.log("got SIGUSR2, continuing from PAUSE")
        self._spawn(self._quietly(self.operations.resume(None)))

    async def _quietly(self, work: Any) -> None:
        try:
            await work
        except CommandError as error:
            self._log.log(f"signal without effect: {error.message}")
