"""`pgferry doctor`: examine a configuration, a running pooler, a PostgreSQL; say what to change and why."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence

import click

from pgferry.client import BadTarget, ClientError
from pgferry.client.target import parse, parse_console
from pgferry.config.load import load
from pgferry.config.problems import ConfigError
from pgferry.doctor.gather import ask_console, ask_server, config_of
from pgferry.doctor.machine import Machine
from pgferry.doctor.model import CHECKS, Facts, Finding, Severity, many
from pgferry.doctor.places import Places
from pgferry.doctor.run import examine

FAIL_ON = {"error": Severity.ERROR, "warning": Severity.WARNING, "note": Severity.NOTE, "never": None}
_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}


@click.command("doctor")
@click.argument("config", type=click.Path(), required=False)
@click.option(
    "--console", metavar="URL", help="A running pgferry or PgBouncer: postgresql://admin@host:6432."
)
@click.option("--url", metavar="URL", help="The PostgreSQL behind it: postgresql://user@host/database.")
@click.option(
    "--cores", type=click.IntRange(min=1), help="Cores of the PostgreSQL host, when it is another one."
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option(
    "--fail-on",
    type=click.Choice(list(FAIL_ON)),
    default="warning",
    show_default=True,
    help="Exit with 1 from here on.",
)
@click.option("--skip", metavar="ID,...", default="", help="Checks to leave out.")
@click.option("--list", "listing", is_flag=True, help="List all checks with their reasons.")
def command(
    config: str | None,
    console: str | None,
    url: str | None,
    cores: int | None,
    as_json: bool,
    fail_on: str,
    skip: str,
    listing: bool,
) -> int:
    """Examine a configuration, a running pooler and a PostgreSQL, in any combination; nothing is changed.

    Exit status: 0 nothing found at or above --fail-on, 1 something was, 2 something could not be examined.
    """
    if listing:
        click.echo(_list())
        return 0
    if not (config or console or url):
        raise click.UsageError("give a configuration file, --console or --url (any combination)")
    skipped = frozenset(filter(None, (word.strip() for word in skip.split(","))))
    if unknown := skipped - set(CHECKS):
        raise click.UsageError(f"no such check: {', '.join(sorted(unknown))}; --list names them")
    try:
        facts = gather(config, console, url, cores or 0)
    except ConfigError as e:
        for problem in e.problems:
            click.echo(f"pgferry doctor: {problem}", err=True)
        return 2
    except (BadTarget, ClientError, OSError) as e:
        click.echo(f"pgferry doctor: {e}", err=True)
        return 2
    found, made = examine(facts, skipped)
    click.echo(_json(found, made) if as_json else _text(found, made))
    limit = FAIL_ON[fail_on]
    return int(limit is not None and any(f.severity >= limit for f in found))


def gather(config: str | None, console: str | None, url: str | None, cores: int) -> Facts:
    """Read the file, ask the console and the server. Raises ConfigError, BadTarget, ClientError, "
    "OSError."""
    facts = Facts()
    if config:
        facts.config = load(config)
        facts.places = Places.of(config)
    if console:
        facts.console = ask_console(parse_console(console))
        facts.config = facts.config or config_of(facts.console)
    if url:
        target = parse(url)
        facts.server = ask_server(target, 0)
        local = target.is_local and not facts.server.is_pooler
        facts.server.cores = cores or (Machine.read().cores if local else 0)
    if facts.config is not None:
        facts.machine = Machine.read(facts.config.settings.pidfile)
    return facts


def _json(found: Sequence[Finding], made: int) -> str:
    findings = [
        {
            "check": f.check,
            "severity": f.severity.name.lower(),
            "text": f.text,
            "why": f.why,
            "change": f.change,
            "where": f.where,
        }
        for f in found
    ]
    return json.dumps({"checks": made, "findings": findings}, indent=2)


def _text(found: Sequence[Finding], made: int) -> str:
    parts, explained = [], set[str]()
    for finding in found:
        name = finding.severity.name.lower()
        head = click.style(f"{name:<8}", fg=_COLOURS[finding.severity], bold=True) + finding.check
        lines = [f"{head}  {finding.where}".rstrip(), _wrapped("", finding.text)]
        if finding.check not in explained:
            lines.append(_wrapped("why:    ", finding.why))
        explained.add(finding.check)
        parts.append("\n".join([*lines, _wrapped("change: ", finding.change)]))
    counts = [
        many(sum(f.severity is s for f in found), s.name.lower()) for s in sorted(Severity, reverse=True)
    ]
    return "\n\n".join([*parts, f"{many(made, 'check')}: {', '.join(counts)}"])


def _wrapped(label: str, text: str) -> str:
    return textwrap.fill(
        label + text,
        100,
        initial_indent="        ",
        subsequent_indent=" " * (8 + len(label)),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _list() -> str:
    blocks = []
    for check in CHECKS.values():
        needs = " + ".join(
            {"config": "CONFIG", "console": "--console", "server": "--url"}[n] for n in check.needs
        )
        blocks.append(
            f"{check.id}  ({needs})\n    "
            f"{check.title}.\n{textwrap.fill(check.why, 100, initial_indent='    ', subsequent_indent='    ')}"
        )
    return "\n\n".join(blocks)
