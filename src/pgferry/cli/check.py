"""`pgferry check CONFIG`: every problem of a configuration, without starting anything."""

from __future__ import annotations

import click

from pgferry.config.load import load
from pgferry.config.model import Config
from pgferry.config.problems import ConfigError, Problem
from pgferry.config.userlist import load_userlist

USABLE, REFUSED, WITHOUT_USERS = 0, 1, 3  # 2 is a wrong command line


def check(path: str) -> int:
    """Print every problem and warning of the file; return the exit status.

    USABLE; REFUSED: pgferry does not start with it; WITHOUT_USERS: it starts, as PgBouncer does, but users of
    auth_file are not known because the file, or the rest of it, cannot be read.
    """
    try:
        config = load(path)
    except ConfigError as err:
        for problem in err.problems:
            click.echo(str(problem))
        click.echo(f"{path}: {_count(len(err.problems), 'problem')}")
        return REFUSED
    unread = _unread_users(config)
    for warning in config.warnings:
        if warning not in unread:
            click.echo(f"warning: {warning}")
    if unread:
        for problem in unread:
            click.echo(str(problem))
        click.echo(
            f"{path}: {_count(len(unread), 'problem')}; pgferry starts all the same, as PgBouncer does"
        )
        return WITHOUT_USERS
    click.echo(f"configuration OK: {_summary(config)}")
    return USABLE


def _unread_users(config: Config) -> list[Problem]:
    """What is wrong with auth_file."""
    path = config.settings.auth_file
    return [] if path is None else load_userlist(path)[1]


def _summary(config: Config) -> str:
    parts = [_count(len(config.databases), "database")]
    if config.autodb is not None:
        parts.append("any other database through *")
    parts.append(_count(len(config.users), "user"))
    if config.warnings:
        parts.append(_count(len(config.warnings), "warning"))
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@click.command(name="check")
@click.argument("config", type=click.Path())
def command(config: str) -> None:
    """Check a configuration file and everything it names.

    Exits with 1 when pgferry would not start with it, with 3 when it would but auth_file cannot be read.
    """
    raise SystemExit(check(config))
