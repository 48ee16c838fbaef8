"""`pgferry bench URL`: a database reached directly and through pgferry, side by side."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import click

from pgferry.client import BadTarget, ClientError
from pgferry.client.target import parse
from pgferry.compare.report import as_dict, svg_plot, text_plot, text_table
from pgferry.compare.watch import Watch
from pgferry.compare.ways import Outcome, Trial, Way, measure
from pgferry.embedded.errors import EmbeddedError

_READS = re.compile(r"\s*(SELECT|VALUES|TABLE|WITH)\b", re.IGNORECASE)
_SPARE = 10  # connections left for everybody else
_STATEMENT_TIMEOUT = 10_000
_MODES = ("transaction", "session", "statement")


@click.command("bench")
@click.argument("url")
@click.option(
    "--query", "queries", multiple=True, help="What to run, SELECT only; several are mixed. Default SELECT 1."
)
@click.option("--clients", default=100, show_default=True, type=click.IntRange(1, 5000))
@click.option(
    "--seconds", default=5.0, show_default=True, type=click.FloatRange(0.5, 600), help="For each row."
)
@click.option(
    "--pool", "pools", metavar="SIZE[:MODE]", multiple=True, help="Default 5, 20, 50 and 20:session."
)
@click.option("--pooler", "poolers", metavar="URL", multiple=True, help="A running pooler to measure, too.")
@click.option(
    "--max-connections",
    type=click.IntRange(1),
    help="Direct connections at most; default half of the free ones.",
)
@click.option("--allow-writes", is_flag=True, help="Any SQL, and not read-only.")
@click.option("--svg", metavar="FILE", type=click.Path(dir_okay=False), help="Write the plot.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before a load on another host.")
def command(
    url: str,
    queries: tuple[str, ...],
    clients: int,
    seconds: float,
    pools: tuple[str, ...],
    poolers: tuple[str, ...],
    max_connections: int | None,
    allow_writes: bool,
    svg: str | None,
    as_json: bool,
    yes: bool,
) -> int:
    """The table that every article on pooling shows, on your own database.

    A new connection for each query, one for each client, and a private pgferry with several pools in front of it.
    It runs `SELECT 1` or the given SELECTs in read-only sessions with a statement_timeout of 10 s, and leaves half of
    the free connections alone. Expect full load on the server for the time of the test.
    """
    try:
        target = parse(url)
        ways = [
            *_ways(pools),
            *(Way(f"pooler {n}", "pooler", target=parse(p)) for n, p in enumerate(poolers, 1)),
        ]
        texts = _queries(queries, allow_writes)
    except (BadTarget, ValueError) as e:
        raise click.UsageError(str(e)) from e
    try:
        watch = Watch(target)
        free = watch.free()
        limit = min(max_connections or max(free // 2, 1), max(free - _SPARE, 1))
        guard = [("statement_timeout", str(_STATEMENT_TIMEOUT))]
        guard += [] if allow_writes else [("default_transaction_read_only", "on")]
        trial = Trial(target, texts, clients, seconds, tuple(guard), limit)
        ways, left_out = _fitting(ways, free - _SPARE)
        _announce(trial, ways, left_out, watch.version())
        if not (yes or target.is_local):
            click.confirm(
                f"This loads {target} for {seconds * len(ways):.0f} s. Go on?", abort=True, err=True
            )
        outcomes = _run(trial, ways, watch)
        watch.close()
    except (ClientError, EmbeddedError, OSError) as e:
        raise click.ClickException(str(e)) from e
    if svg:
        Path(svg).write_text(svg_plot(f"{clients} clients, {texts[0]}", outcomes))
    if as_json:
        rows = [as_dict(outcome) for outcome in outcomes]
        click.echo(json.dumps({"queries": texts, "left_out": left_out, "rows": rows}, indent=2))
    else:
        click.echo(f"\n{text_table(outcomes)}\n\n{text_plot(outcomes)}\n")
        for line in _remarks(outcomes):
            click.echo(line)
    return int(all(outcome.figures.transactions == 0 for outcome in outcomes))


def _ways(pools: tuple[str, ...]) -> list[Way]:
    ways = [Way("new connection per query", "fresh"), Way("one connection per client", "kept")]
    for text in pools or ("5", "20", "50", "20:session"):
        size, _, mode = text.partition(":")
        mode = mode or "transaction"
        if not size.isdecimal() or int(size) < 1 or mode not in _MODES:
            raise ValueError(f"--pool {text}: write SIZE or SIZE:MODE, for instance 20:session")
        ways.append(Way(f"pgferry, {size} {mode}", "pooled", int(size), mode))
    return ways


def _queries(texts: tuple[str, ...], allow_writes: bool) -> tuple[str, ...]:
    for text in texts:
        if not allow_writes and (not _READS.match(text) or ";" in text.rstrip().removesuffix(";")):
            raise ValueError(f"not a single SELECT: {text} (--allow-writes runs anything)")
    return texts or ("SELECT 1",)


def _fitting(ways: list[Way], free: int) -> tuple[list[Way], list[str]]:
    """The ways that the server has connections for, and the names of the others."""
    too_large = [way.name for way in ways if way.kind == "pooled" and way.size > free]
    return [way for way in ways if way.name not in too_large], too_large


def _announce(trial: Trial, ways: list[Way], left_out: list[str], version: str) -> None:
    lines = [
        f"PostgreSQL {version}, {trial.target}: {trial.clients} clients, {trial.seconds:g} s for each of "
        f"{len(ways)} rows",
        f"  {'; '.join(trial.queries)}",
        f"  {trial.connect_query}",
    ]
    if trial.limit < trial.clients:
        lines.append(f"  direct connections: {trial.limit} at most, so that others find some, too")
    lines += [f"  left out for lack of connections: {', '.join(left_out)}"] if left_out else []
    click.echo("\n".join(lines), err=True)


def _run(trial: Trial, ways: list[Way], watch: Watch) -> list[Outcome]:
    outcomes = []
    with click.progressbar(
        length=int(trial.seconds * len(ways) * 10), label="measuring", file=sys.stderr
    ) as bar:
        for way in ways:
            bar.label = f"{way.name:<26}"
            outcomes.append(measure(trial, way, watch, lambda passed: bar.update(int(passed * 10))))
    return outcomes


def _remarks(outcomes: list[Outcome]) -> list[str]:
    lines = [
        "Closed loop: every client asks again at once. memory: the server processes' own (local servers "
        "only). pooler: "
        "processor time of pgferry for each transaction. A new connection's time has the client's share of "
        "the login in it."
    ]
    for o in outcomes:
        if o.figures.served < o.figures.connected:
            waiting = o.figures.connected - o.figures.served
            lines.append(
                f"{o.way.name}: {waiting} clients waited all the time; the latencies are those of the others."
            )
        if o.figures.reason:
            lines.append(f"{o.way.name}: {o.figures.reason}")
    return lines
