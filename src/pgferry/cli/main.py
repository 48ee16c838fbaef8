"""The command `pgferry`: a subcommand if the first argument names one, else PgBouncer's command line."""

import importlib
import os
import sys
from typing import Any, NoReturn

import click

from pgferry.cli.hide import hide_passwords

COMMANDS = {
    "run": ("pgferry.cli.run", "Pool the server of a URL, without any file."),
    "demo": ("pgferry.cli.demo", "Show pgferry at work on a PostgreSQL of its own."),
    "top": ("pgferry.cli.top", "Watch a running pooler in the terminal."),
    "check": ("pgferry.cli.check", "Check a configuration file and explain every problem."),
    "doctor": (
        "pgferry.cli.doctor",
        "Examine a configuration, a pooler, a PostgreSQL; say what to change and why.",
    ),
    "advise": ("pgferry.cli.advise", "Pool sizes from measured or given load, by queueing theory."),
    "bench": ("pgferry.cli.bench", "Your database directly and through pgferry, side by side."),
}
_USAGE_HINT = "Usage: pgferry [OPTION]... CONFIG.ini\nTry 'pgferry --help' for more information."


def version_text() -> str:
    """The lines of --version. Tools look for PgBouncer's number, people for ours."""
    import importlib.metadata
    import platform

    from pgferry import PGBOUNCER_VERSION, __version__

    try:
        cython = importlib.metadata.version("cython")
    except importlib.metadata.PackageNotFoundError:
        cython = "not installed (needed only to build)"
    return (
        f"pgferry {__version__}\n"
        f"compatible with PgBouncer {PGBOUNCER_VERSION}\n"
        f"python: {platform.python_implementation()} {platform.python_version()}\n"
        f"cython: {cython}"
    )


def _print_version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(version_text())
        ctx.exit()


def _commands_help() -> str:
    lines = [f"  pgferry {name:<7}{text}" for name, (_module, text) in COMMANDS.items()]
    return "\b\nOther commands (pgferry COMMAND --help tells more):\n" + "\n".join(lines)


@click.command(
    "pgferry",
    options_metavar="[OPTION]...",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Pool PostgreSQL connections as the file CONFIG.ini says, which is a pgbouncer.ini.",
    epilog=_commands_help(),
)
@click.option("-d", "--daemon", is_flag=True, help="Run in the background; needs the setting pidfile.")
@click.option("-q", "--quiet", is_flag=True, help="Do not log to stderr.")
@click.option("-R", "--reboot", is_flag=True, help="Take over from the running pgferry, with its clients.")
@click.option("-u", "--user", metavar="USERNAME", help="Unix account to change to.")
@click.option("-v", "--verbose", count=True, help="Log more; twice for even more.")
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the version and exit.",
)
@click.argument("config", metavar="CONFIG.ini")
def pooler(daemon: bool, quiet: bool, reboot: bool, user: str | None, verbose: int, config: str) -> int:
    """Run with PgBouncer's own flags and return the exit status."""
    from pgferry.cli.management import Management
    from pgferry.supervisor.boot import Options, run

    options = Options(path=config, daemon=daemon, quiet=quiet, user=user, verbose=verbose, reboot=reboot)
    return run(options, Management)


def load_command(name: str) -> click.Command:
    """The click command of a subcommand, its module imported only now."""
    command = importlib.import_module(COMMANDS[name][0]).command
    assert isinstance(command, click.Command)
    return command


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point of the console script; ends the process."""
    if not hide_passwords():
        click.echo(
            "pgferry: the password in the arguments can be seen in ps; use DATABASE_URL or ~/.pgpass",
            err=True,
        )
    args = sys.argv[1:] if arguments is None else arguments
    if args and args[0] in COMMANDS:
        name = args[0]
        _exit(_invoke(load_command(name), args[1:], f"pgferry {name}", usage_status=2, hint=None))
    _exit(_invoke(pooler, args, "pgferry", usage_status=1, hint=_USAGE_HINT))


def _invoke(
    command: click.Command, args: list[str], name: str, *, usage_status: int, hint: str | None
) -> int:
    try:
        result: Any = command.main(args, prog_name=name, standalone_mode=False)
    except click.UsageError as error:
        if hint is None:
            error.show()
        else:
            click.echo(f"{name}: {error.format_message()}\n{hint}", err=True)
        return usage_status
    except click.ClickException as error:
        click.echo(f"{name}: {error.format_message()}", err=True)
        return 1
    except click.exceptions.Exit as end:
        return end.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    return result if isinstance(result, int) else 0


def _exit(status: int) -> NoReturn:
    """Leave at once: a thread that still waits for a dead name server must not hold up the end."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
