"""What an operator can do to the pooler: pause, resume, kill, disable, reconnect, wait, shut down."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from pgferry.supervisor import systemd
from pgferry.supervisor.errors import CommandError, WorkerRefused
from pgferry.supervisor.pooler import Pooler

CONSOLE_DATABASES = ("pgbouncer", "pgferry")
_SECONDS = 10.0
_LAST_BYTES_SECONDS = 15.0
_ENDED_BY_RESUME = "PAUSE was ended by RESUME"


class Operations:
    """One method for each operation; all raise CommandError with the text for the operator."""

    def __init__(self, pooler: Pooler) -> None:
        self._pooler = pooler
        self._state = pooler.state
        self._tasks: set[asyncio.Task[None]] = set()
        self.on_takeover: Callable[[str], Awaitable[None]] | None = None

    async def _tell(self, op: str, timeout: float | None = _SECONDS, **fields: Any) -> None:
        try:
            await self._pooler.fleet.ask_all(op, timeout, **fields)
        except WorkerRefused as error:
            raise CommandError(str(error)) from error

    def _note(self, what: str, db: str | None) -> None:
        self._pooler.events.note(f"{what} {db}" if db else what, "warning")

    async def _check_database(self, name: str, forbidden: str) -> None:
        """Raise CommandError unless `name` is an entry (made from the wildcard, if need be)."""
        if name in CONSOLE_DATABASES:
            raise CommandError(f"{forbidden} admin db: {name}")
        if not await self._exists(name):
            raise CommandError(f"no such database: {name}")

    async def _exists(self, name: str) -> bool:
        config = self._pooler.config
        if name in config.databases:
            return True
        if config.autodb is None:
            return False
        answers = await self._pooler.fleet.ask_all("find_db", _SECONDS, db=name)
        return any(answer.get("found") for answer in answers.values())

    def _refuse_if_paused(self) -> None:
        if self._state.paused or self._state.shutdown:
            raise CommandError("already suspended/paused")

    async def pause(self, db: str | None) -> None:
        """Stop handing out servers; returns when the busy ones are released, however long that takes."""
        self._refuse_if_paused()
        if db is None:
            self._state.paused = True
        else:
            await self._check_database(db, "cannot pause")
            self._state.paused_dbs.add(db)
        self._note("PAUSE", db)
        try:
            await self._pooler.fleet.ask_all("pause", None, db=db)
        except WorkerRefused as error:
            raise CommandError(_ENDED_BY_RESUME if str(error) == "resumed" else str(error)) from error

    async def resume(self, db: str | None) -> None:
        """Undo a PAUSE or, with a database, a KILL. A pending PAUSE is answered with an error."""
        state = self._state
        if state.shutdown:
            raise CommandError("pooler is shutting down")
        if db is not None:
            await self._resume_database(db)
        elif state.paused:
            state.paused = False
            await self._tell("resume", db=None)
        elif state.killed_all and state.killed_dbs:
            for name in sorted(state.killed_dbs):
                await self._resume_database(name)
        else:
            raise CommandError("pooler is not paused/suspended")
        self._note("RESUME", db)
        if db is None:
            state.killed_all = False

    async def _resume_database(self, db: str) -> None:
        state = self._state
        if db not in CONSOLE_DATABASES and not await self._exists(db):
            raise CommandError(f"no such database: {db}")
        if db not in state.paused_dbs | state.killed_dbs:
            raise CommandError(f"database {db} is not paused")
        state.paused_dbs.discard(db)
        state.killed_dbs.discard(db)
        await self._tell("resume", db=db)

    async def kill(self, db: str | None) -> None:
        """Drop all clients and servers of the database, or of all that have a pool, and pause them."""
        self._refuse_if_paused()
        if db is not None:
            await self._check_database(db, "cannot kill")
            names = [db]
        else:
            found = {str(row["database"]) for row in await self._pooler.pools()}
            names = sorted(found.difference(CONSOLE_DATABASES))
            self._state.killed_all = True
        self._note("KILL", db)
        for name in names:
            self._state.killed_dbs.add(name)
            await self._tell("kill", db=name)

    async def kill_client(self, number: int) -> None:
        """Disconnect the client with this id of SHOW CLIENTS, whichever worker it is at."""
        await self._pooler.ask_owner("kill_client", number)
        self._note("KILL_CLIENT", str(number))

    async def disable(self, db: str) -> None:
        """Refuse new logins to the database."""
        await self._check_database(db, "cannot disable")
        self._state.disabled_dbs.add(db)
        self._note("DISABLE", db)
        await self._tell("disable", db=db)

    async def enable(self, db: str) -> None:
        """Allow logins again."""
        await self._check_database(db, "cannot enable")
        self._state.disabled_dbs.discard(db)
        self._note("ENABLE", db)
        await self._tell("enable", db=db)

    async def reconnect(self, db: str | None) -> None:
        """Have each server connection replaced as soon as it is released."""
        if db is not None:
            await self._check_database(db, "cannot reconnect")
        self._pooler.resolver.forget()
        self._note("RECONNECT", db)
        await self._tell("reconnect", db=db)

    async def wait_close(self, db: str | None) -> None:
        """Return when no server is left that is to be replaced."""
        if db is not None:
            await self._check_database(db, "cannot wait in")
        await self._tell("wait_close", None, db=db)

    async def take_over(self, name: str) -> None:
        """A new pgferry wants our place: it waits on the abstract socket of this name."""
        if self.on_takeover is None:
            raise CommandError("cannot hand over")
        await self.on_takeover(name)

    def shutdown(self, mode: str | None) -> None:
        """End the process: at once (None), or after `wait_for_servers` or `wait_for_clients`.

        With drain_timeout, None ends it when each client has had an end between its transactions (`drain`).
        """
        if mode is None and self.drain_seconds > 0:
            mode = "drain"
        if mode is None:
            self._pooler.end(0)
            return
        if self._state.shutdown:
            raise CommandError("already shutting down")
        self._state.shutdown = mode
        systemd.notify("STOPPING=1")
        self._note("SHUTDOWN", mode)
        if mode == "wait_for_servers":
            self._state.paused = True
        # Our copies must go too, or the kernel would go on taking connections that nobody serves.
        self._pooler.listeners.close_tcp()
        self._pooler.fleet.draining = True
        task = asyncio.get_running_loop().create_task(self._drain(mode))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def drain_seconds(self) -> float:
        """drain_timeout; 0: shut down as PgBouncer does."""
        return self._pooler.config.settings.drain_timeout

    async def _drain(self, mode: str) -> None:
        seconds = self.drain_seconds
        # The workers close what is left at the deadline, and then wait for last bytes to be taken.
        timeout = seconds + _LAST_BYTES_SECONDS if mode == "drain" else None
        try:
            await self._pooler.fleet.ask_all("shutdown", timeout, mode=mode, seconds=seconds)
        except WorkerRefused as error:
            self._pooler.log.error(f"a worker could not shut down in an orderly way: {error}")
        what = "server" if mode == "wait_for_servers" else "client"
        self._pooler.log.log(f"{what} connections are gone, exiting")
        self._pooler.end(5.0)
