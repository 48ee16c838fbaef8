"""The extended query protocol on the console, for drivers that use nothing else; without parameters."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from pgferry.admin import wire
from pgferry.admin.commands import describe
from pgferry.admin.context import Answer
from pgferry.admin.grammar import Command, parse
from pgferry.admin.result import Column, expand_formats
from pgferry.protocol import backend, frontend
from pgferry.protocol.codec import Message
from pgferry.protocol.errors import ProtocolError
from pgferry.supervisor.errors import CommandError

KINDS = (
    frontend.Parse,
    frontend.Bind,
    frontend.Describe,
    frontend.Execute,
    frontend.Close,
    frontend.Sync,
    frontend.Flush,
)
_MAX_OBJECTS = 1000


@dataclass(frozen=True, slots=True)
class _Statement:
    command: Command
    columns: tuple[Column, ...] | None


@dataclass(slots=True)
class _Portal:
    statement: _Statement
    formats: list[int]
    answer: Answer | None = None
    """Set by the first Execute; further ones go on with its rows."""
    sent: int = 0


class Extended:
    """The statements and portals of one session. After an error everything up to the next Sync is skipped."""

    def __init__(
        self,
        check: Callable[[Command], None],
        run: Callable[[Command], Awaitable[Answer]],
        write: Callable[[bytes], None],
    ) -> None:
        self._check = check
        self._run = run
        self._write = write
        self._statements: dict[str, _Statement] = {}
        self._portals: dict[str, _Portal] = {}
        self.failed = False

    async def handle(self, message: Message) -> bool:
        """Serve one message of KINDS; False when the connection has to end."""
        if isinstance(message, frontend.Sync):
            self.failed = False
            self._portals.clear()
            self._write(wire.READY)
            return True
        if self.failed:
            return True
        try:
            match message:
                case frontend.Parse():
                    self._parse(message)
                case frontend.Bind():
                    self._bind(message)
                case frontend.Describe():
                    self._describe(message)
                case frontend.Close():
                    self._close(message)
                case frontend.Execute():
                    return await self._execute(message)
        except CommandError as error:
            self.fail(error)
        return True

    def fail(self, error: CommandError | ProtocolError) -> None:
        """Report an error and skip what comes before the next Sync."""
        self.failed = True
        self._write(wire.error(error))

    def _parse(self, message: frontend.Parse) -> None:
        name = message.name
        if message.types:
            raise CommandError("the console's commands take no parameters")
        if name and name in self._statements:
            raise CommandError(f'prepared statement "{name}" already exists', "42P05")
        if len(self._statements) >= _MAX_OBJECTS:
            raise CommandError("too many prepared statements", "54000")
        command = parse(message.query)
        self._check(command)
        self._statements[name] = _Statement(command, describe(command))
        self._write(backend.ParseComplete().build())

    def _bind(self, message: frontend.Bind) -> None:
        portal = message.portal
        statement = self._statement(message.statement)
        if message.values:
            count = len(message.values)
            raise CommandError(f"bind message supplies {count} parameters, but the command takes none")
        if portal and portal in self._portals:
            raise CommandError(f'portal "{portal}" already exists', "42P03")
        if len(self._portals) >= _MAX_OBJECTS:
            raise CommandError("too many portals", "54000")
        try:
            expanded = expand_formats(message.result_formats, len(statement.columns or ()))
        except ValueError as error:
            raise CommandError(str(error)) from error
        self._portals[portal] = _Portal(statement, expanded)
        self._write(backend.BindComplete().build())

    def _describe(self, message: frontend.Describe) -> None:
        if message.kind == "S":
            statement = self._statement(message.name)
            formats: Sequence[int] | None = None
            self._write(backend.ParameterDescription(()).build())
        else:
            portal = self._portal(message.name)
            statement, formats = portal.statement, portal.formats
        if statement.columns is None:
            self._write(backend.NoData().build())
        else:
            self._write(wire.row_description(statement.columns, formats))

    def _close(self, message: frontend.Close) -> None:
        if message.kind == "S":
            self._statements.pop(message.name, None)
        else:
            self._portals.pop(message.name, None)
        self._write(backend.CloseComplete().build())

    async def _execute(self, message: frontend.Execute) -> bool:
        portal, limit = self._portal(message.portal), message.limit
        if portal.answer is None:
            portal.answer = await self._run(portal.statement.command)
        answer = portal.answer
        if answer.tag is None:
            return False
        if answer.notice is not None:
            self._write(wire.notice(answer.notice))
        if answer.result is not None:
            rows = answer.result.rows[portal.sent :]
            if limit > 0:
                rows = rows[:limit]
            self._write(wire.data_rows(rows, answer.result.columns, portal.formats))
            portal.sent += len(rows)
            if limit > 0 and portal.sent < len(answer.result.rows):
                self._write(backend.PortalSuspended().build())
                return True
        self._write(backend.CommandComplete(answer.tag).build())
        return True

    def _statement(self, name: str) -> _Statement:
        statement = self._statements.get(name)
        if statement is None:
            raise CommandError(f'prepared statement "{name}" does not exist', "26000")
        return statement

    def _portal(self, name: str) -> _Portal:
        portal = self._portals.get(name)
        if portal is None:
            raise CommandError(f'portal "{name}" does not exist', "34000")
        return portal
