"""All commands of the console: who may run each, what its result looks like, and running it."""

from collections.abc import Sequence

from pgferry.admin import (
    show_connections,
    show_longest,
    show_percentiles,
    show_pools,
    show_process,
    show_state,
    show_stats,
)
from pgferry.admin.context import Answer, Context, Notice, Show, ShowOne
from pgferry.admin.control import CONTROLS
from pgferry.admin.grammar import Command, invalid
from pgferry.admin.result import Column, Result, Type, Value
from pgferry.supervisor.errors import CommandError

SHOWS: dict[str, Show | ShowOne] = {
    **show_pools.SHOWS,
    **show_stats.SHOWS,
    **show_percentiles.SHOWS,
    **show_connections.SHOWS,
    **show_process.SHOWS,
    **show_state.SHOWS,
    **show_longest.SHOWS,
}
# What drivers set and ask for when they connect; nothing of it means anything here.
FAKED = {
    "client_encoding": "UTF-8",
    "default_transaction_isolation": "read committed",
    "standard_conforming_strings": "on",
    "datestyle": "ISO",
    "timezone": "GMT",
    "extra_float_digits": "1",
    "application_name": "",
}
_UNSUPPORTED_SHOWS = ("FDS",)
_ADMIN_SHOWS = ("FDS",)
_SHOW_VERBS = ("SHOW", "SELECT")
# The lines of SHOW HELP that PgBouncer has, too.
_HELP_LINES = (
    "HELP CONFIG DATABASES POOLS CLIENTS SERVERS USERS VERSION",
    "PEERS PEER_POOLS",
    "SOCKETS ACTIVE_SOCKETS LISTS MEM STATE",
    "DNS_HOSTS DNS_ZONES",
    "STATS STATS_TOTALS STATS_AVERAGES TOTALS",
)


def faked(name: str | None) -> str | None:
    """The value shown for a driver's setting, or None when it is not one of them."""
    return FAKED.get(name.lower()) if name else None


def needs_admin(command: Command) -> bool:
    """The rights table: looking is for everybody on the console, changing for admin_users."""
    if command.verb in _SHOW_VERBS:
        return (command.argument or "").upper() in _ADMIN_SHOWS
    if command.verb == "SET":
        return faked(command.argument) is None
    return True


def check(command: Command, context: Context) -> None:
    """Raise CommandError for a command that does not exist or that this user may not run."""
    if command.verb not in _SHOW_VERBS and (command.verb not in CONTROLS or _bare_set(command)):
        raise invalid(command.text)
    if needs_admin(command) and not context.admin:
        raise CommandError("admin access needed")
    if command.verb in _SHOW_VERBS:
        _check_show(command)


def _bare_set(command: Command) -> bool:
    return command.verb == "SET" and command.value is None


def _check_show(command: Command) -> None:
    name = (command.argument or "").upper()
    if name in _UNSUPPORTED_SHOWS:
        raise CommandError(f"SHOW {name} is not supported by pgferry (removed in PgBouncer 1.26)")
    if name != "HELP" and name not in SHOWS and faked(command.argument) is None:
        raise invalid(command.text)
    show = SHOWS.get(name)
    if isinstance(show, ShowOne):
        if command.value is None:
            raise CommandError(f"SHOW {name} needs {show.needs}")
    elif command.value is not None:
        raise invalid(command.text)


def describe(command: Command) -> tuple[Column, ...] | None:
    """The columns of a checked command's result, None when it has no result."""
    if command.verb not in _SHOW_VERBS or command.argument is None or command.argument.upper() == "HELP":
        return None
    show = SHOWS.get(command.argument.upper())
    if show is not None:
        return show.columns
    return (Column(command.argument.lower(), Type.TEXT),)


def may_wait(command: Command) -> bool:
    """Whether the command may take for ever and is given up when its client leaves."""
    control = CONTROLS.get(command.verb)
    return control is not None and control.waits


async def execute(command: Command, context: Context) -> Answer:
    """Check and run a command. Raises CommandError."""
    check(command, context)
    if command.verb == "SET" and faked(command.argument) is not None:
        return Answer("SET", notice=Notice("SET ignored"))
    if command.verb not in _SHOW_VERBS:
        return await CONTROLS[command.verb].run(context, command)
    assert command.argument is not None
    name = command.argument.upper()
    if name == "HELP":
        return Answer("SHOW", notice=Notice("Console usage", help_text()))
    described = describe(command)
    assert described is not None
    show = SHOWS.get(name)
    rows: list[Sequence[Value]] = [(faked(command.argument),)]
    if isinstance(show, ShowOne):
        rows = await show.rows(context, command.value or "")
    elif show is not None:
        rows = await show.rows(context)
    return Answer("SHOW", Result(described, rows))


def help_text() -> str:
    """The DETAIL of SHOW HELP."""
    own = [
        name
        for name, show in SHOWS.items()
        if isinstance(show, Show) and name not in " ".join(_HELP_LINES).split()
    ]
    lines = [f"\tSHOW {'|'.join(line.split())}" for line in (*_HELP_LINES, " ".join(own))]
    lines += [f"\tSHOW {name} {show.argument}" for name, show in SHOWS.items() if isinstance(show, ShowOne)]
    for verb, control in CONTROLS.items():
        if verb != "SUSPEND":
            lines += [f"\t{verb} {argument}".rstrip() for argument in control.argument.split("\n")]
    return "\n" + "\n".join(lines)
