"""The commands that change something: what each does with its argument, and its answer."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from pgferry.admin.context import Answer, Context, Notice
from pgferry.admin.grammar import Command, client_number, invalid
from pgferry.supervisor.errors import CommandError

Run = Callable[[Context, Command], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Control:
    """One command: how it runs, and what stands for its argument in the help (empty: none; a line for each way)."""

    run: Run
    argument: str = ""
    waits: bool = False
    """Whether it may take for ever and ends when its client goes away."""


def _log(context: Context, command: Command) -> None:
    target = f" '{command.argument}'" if command.argument else ""
    context.pooler.log.log(f"{command.verb}{target} command issued")


def _needed(command: Command) -> str:
    if command.argument is None:
        raise CommandError("a database is required")
    return command.argument


async def _set(context: Context, command: Command) -> Answer:
    assert command.argument is not None
    assert command.value is not None
    # The value may be a secret: only the name goes into the log.
    _log(context, command)
    remark = await context.reloader.set_value(command.argument, command.value)
    notice = Notice(remark) if remark else None
    return Answer(f"SET {command.argument}={command.value}", notice=notice)


async def _reload(context: Context, command: Command) -> Answer:
    if command.argument is not None:
        raise invalid(command.text)
    _log(context, command)
    await context.reloader.reload()
    return Answer("RELOAD")


async def _pause(context: Context, command: Command) -> Answer:
    _log(context, command)
    await context.operations.pause(command.argument)
    return Answer("PAUSE")


async def _resume(context: Context, command: Command) -> Answer:
    _log(context, command)
    await context.operations.resume(command.argument)
    return Answer("RESUME")


async def _kill(context: Context, command: Command) -> Answer:
    _log(context, command)
    await context.operations.kill(command.argument)
    return Answer("KILL")


async def _kill_client(context: Context, command: Command) -> Answer:
    number = client_number(command.argument or "")
    _log(context, command)
    await context.operations.kill_client(number)
    return Answer("KILL_CLIENT")


async def _disable(context: Context, command: Command) -> Answer:
    database = _needed(command)
    _log(context, command)
    await context.operations.disable(database)
    return Answer("DISABLE")


async def _enable(context: Context, command: Command) -> Answer:
    database = _needed(command)
    _log(context, command)
    await context.operations.enable(database)
    return Answer("ENABLE")


async def _reconnect(context: Context, command: Command) -> Answer:
    _log(context, command)
    await context.operations.reconnect(command.argument)
    return Answer("RECONNECT")


async def _wait_close(context: Context, command: Command) -> Answer:
    _log(context, command)
    await context.operations.wait_close(command.argument)
    return Answer("WAIT_CLOSE")


async def _shutdown(context: Context, command: Command) -> Answer:
    mode = command.argument.lower() if command.argument else None
    if mode not in (None, "wait_for_servers", "wait_for_clients"):
        raise invalid(command.text)
    _log(context, command)
    drains = context.operations.drain_seconds > 0
    context.operations.shutdown(mode)
    return Answer("SHUTDOWN" if mode or drains else None)


async def _takeover(context: Context, command: Command) -> Answer:
    if command.argument is None:
        raise invalid(command.text)
    _log(context, command)
    await context.operations.take_over(command.argument)
    return Answer("TAKEOVER")


async def _suspend(_context: Context, _command: Command) -> Answer:
    raise CommandError("SUSPEND is not supported by pgferry (removed in PgBouncer 1.26)")


CONTROLS = {
    "SET": Control(_set, "key = arg"),
    "RELOAD": Control(_reload),
    "PAUSE": Control(_pause, "[<db>]", waits=True),
    "RESUME": Control(_resume, "[<db>]"),
    "DISABLE": Control(_disable, "<db>"),
    "ENABLE": Control(_enable, "<db>"),
    "RECONNECT": Control(_reconnect, "[<db>]"),
    "KILL": Control(_kill, "[<db>]"),
    "KILL_CLIENT": Control(_kill_client, "<client_id>"),
    "SHUTDOWN": Control(_shutdown, "\nWAIT_FOR_SERVERS|WAIT_FOR_CLIENTS"),
    "WAIT_CLOSE": Control(_wait_close, "[<db>]", waits=True),
    "TAKEOVER": Control(_takeover, "name"),
    "SUSPEND": Control(_suspend),
}
