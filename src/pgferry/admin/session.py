"""One console session: the server side of the PostgreSQL protocol on a socket that a worker relays to."""

import asyncio
import secrets
import socket
import time
import traceback
from collections.abc import Mapping
from typing import Any

from pgferry.admin import wire
from pgferry.admin.commands import check, execute, may_wait
from pgferry.admin.context import Answer, Context
from pgferry.admin.extended import KINDS, Extended
from pgferry.admin.grammar import Command, parse
from pgferry.protocol import backend, frontend
from pgferry.protocol.errors import ProtocolError
from pgferry.protocol.reader import MessageReader
from pgferry.supervisor.errors import CommandError

_MAX_MESSAGE = 1024 * 1024
_RECEIVED_AT_ONCE = 65536
_QUEUED_MESSAGES = 100
_LOGGED = 300
_EXTENDED = frozenset(message.TYPE for message in KINDS)


class Session:
    """Greets, then answers until the client leaves. `client` is the worker's message about it."""

    def __init__(self, sock: socket.socket, context: Context, client: Mapping[str, Any]) -> None:
        self._sock = sock
        self._context = context
        self._counters = context.pooler.stats.console
        self.client_id = int(client["client_id"])
        self.admin = context.admin
        self._key: bytes = client.get("key") or self.client_id.to_bytes(4, "big") + secrets.token_bytes(4)
        self._queue: asyncio.Queue[tuple[bytes, bytes] | None] = asyncio.Queue(_QUEUED_MESSAGES)
        self._gone = asyncio.Event()
        self._writer: asyncio.StreamWriter | None = None
        self.command: Command | None = None
        """The command that is running."""
        self._task: asyncio.Task[Answer] | None = None
        self._extended = Extended(lambda command: check(command, context), self._run, self._write)

    async def run(self) -> None:
        """Serve the session to its end and close its socket."""
        reader, self._writer = await asyncio.open_connection(sock=self._sock)
        pump = asyncio.get_running_loop().create_task(self._pump(reader))
        try:
            self._write(wire.greeting(int.from_bytes(self._key[:4], "big"), self._key[4:]))
            await self._writer.drain()
            while (message := await self._queue.get()) is not None:
                if not await self._handle(*message):
                    break
                await self._writer.drain()
        except ConnectionError:
            return
        finally:
            pump.cancel()
            self._writer.close()

    def cancel(self) -> None:
        """Give up the command that is running; its client gets an error."""
        if self._task is not None:
            self._task.cancel()

    def _write(self, data: bytes) -> None:
        assert self._writer is not None
        self._counters["sent"] += len(data)
        self._writer.write(data)

    async def _pump(self, reader: asyncio.StreamReader) -> None:
        """Read on while a command runs, so that a client that leaves is noticed."""
        try:
            messages = MessageReader(max_size=_MAX_MESSAGE)
            while data := await reader.read(_RECEIVED_AT_ONCE):
                self._counters["received"] += len(data)
                messages.feed(data)
                for message in messages:
                    await self._queue.put(message)
        except (ProtocolError, ConnectionError):
            pass
        self._gone.set()
        await self._queue.put(None)

    async def _handle(self, kind: bytes, payload: bytes) -> bool:
        """Serve one message; False ends the session."""
        try:
            message = frontend.parse(kind, payload)
        except ProtocolError as error:
            if kind in _EXTENDED:
                self._extended.fail(error)
                return True
            self._write(wire.error(error))
            return False
        if isinstance(message, frontend.Terminate):
            return False
        if isinstance(message, KINDS):
            return await self._extended.handle(message)
        if self._extended.failed:
            return True
        match message:
            case frontend.Query():
                return await self._query(message)
            case frontend.CopyData() | frontend.CopyDone() | frontend.CopyFail():
                # Copy messages without a copy: PostgreSQL drops them, too.
                return True
            case frontend.FunctionCall():
                self._write(wire.error(CommandError("the admin console has no functions")) + wire.READY)
                return True
        self._write(wire.error(CommandError("this message is not supported by the admin console")))
        return False

    async def _query(self, query: frontend.Query) -> bool:
        try:
            answer = await self._run(parse(query.query))
        except CommandError as error:
            # With what the client sent in it, which may be long.
            self._context.pooler.log.error(error.message[:_LOGGED])
            self._write(wire.error(error) + wire.READY)
            return True
        if answer.tag is None:
            return False
        if answer.notice is not None:
            self._write(wire.notice(answer.notice))
        if answer.result is not None:
            columns, rows = answer.result.columns, answer.result.rows
            self._write(wire.row_description(columns) + wire.data_rows(rows, columns))
        self._write(backend.CommandComplete(answer.tag).build() + wire.READY)
        return True

    async def _run(self, command: Command) -> Answer:
        """Run a command while its client is there. Raises CommandError, ConnectionResetError."""
        started = time.monotonic_ns()
        self.command = command
        task = asyncio.get_running_loop().create_task(execute(command, self._context))
        self._task = task
        waits: set[asyncio.Future[Any]] = {task}
        gone = asyncio.ensure_future(self._gone.wait())
        if may_wait(command):
            waits.add(gone)
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                raise ConnectionResetError("the client left while its command was waiting")
            if task.cancelled():
                raise CommandError("canceling command due to user request", "57014")
            error = task.exception()
            if error is not None and not isinstance(error, CommandError):
                trace = "".join(traceback.format_exception(error))
                self._context.pooler.log.error(f"internal error in '{command.text}'\n{trace}")
                raise CommandError("internal error, see the log", "XX000")
            return task.result()
        finally:
            gone.cancel()
            task.cancel()
            self.command = self._task = None
            self._count((time.monotonic_ns() - started) // 1000)

    def _count(self, microseconds: int) -> None:
        for name in ("query", "xact"):
            self._counters[f"{name}_count"] += 1
            self._counters[f"{name}_time"] += microseconds
