"""`pgferry check CONFIG`: every problem of a configuration, without starting anything."""

from __future__ import annotations

import click

from pgferry.config.load import load
from pgferry.config.model import Config
from pgferry.config.problems import ConfigError


def check(path: str) -> int:
    """Print every problem and warning of the file; return the exit status, 0 when the file can be used."""
    try:
        config = load(path)
    except ConfigError as err:
        for problem in err.problems:
            click.echo(str(problem))
        click.echo(f"{path}: {_count(len(err.problems), 'problem')}")
        return 1
    for warning in config.warnings:
        click.echo(f"warning: {warning}")
    click.echo(f"configuration OK: {_summary(config)}")
    return 0


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
    """Check a configuration file and everything it includes; exit with 1 when something is wrong."""
    raise SystemExit(check(config))
