"""`pgferry advise`: which pool size the load needs, and what other sizes would mean."""

from __future__ import annotations

import json
import math
import textwrap
from dataclasses import asdict
from pathlib import Path

import click

from pgferry.advise import given
from pgferry.advise.measure import measure
from pgferry.advise.plan import (
    HEADROOM,
    Load,
    Option,
    alternatives,
    budget,
    by_little,
    option,
    recommend,
    what_if,
)
from pgferry.advise.plot import svg_plot, text_plot, time_text
from pgferry.client import BadTarget, ClientError, Connection
from pgferry.client.target import parse_console
from pgferry.embedded.errors import EmbeddedError
from pgferry.table import table

_COLUMNS = ["size", "in use", "wait at all", "mean wait", "p95", "p99", "p99 simulated", ""]
_SATURATED = 0.95
_LOAD = "NAME=RATE/TIME[/P99][@SIZE]"


@click.command("advise")
@click.option(
    "--console", metavar="URL", help="Measure a running pgferry or PgBouncer: postgresql://stats@host:6432."
)
@click.option("--interval", default=10.0, show_default=True, help="Seconds to measure.")
@click.option("--database", help="Only this database of the console.")
@click.option(
    "--load", "loads", metavar=_LOAD, multiple=True, help="A load: shop=200/5ms, shop=200/5ms/40ms@20."
)
@click.option(
    "--max-wait", default="10ms", show_default=True, help="What 99 % of the transactions may wait at most."
)
@click.option("--cores", type=click.IntRange(min=1), help="Cores of the PostgreSQL host.")
@click.option("--what-if", "what", metavar="CHANGE", multiple=True, help="traffic=2, slow=1%:2s, pods=40x50.")
@click.option(
    "--budget",
    "slots",
    metavar="N",
    type=click.IntRange(min=1),
    help="Share N connections between the loads.",
)
@click.option(
    "--svg", metavar="FILE", type=click.Path(dir_okay=False), help="Write the plot of the first load."
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def command(
    console: str | None,
    interval: float,
    database: str | None,
    loads: tuple[str, ...],
    max_wait: str,
    cores: int | None,
    what: tuple[str, ...],
    slots: int | None,
    svg: str | None,
    as_json: bool,
) -> int:
    """Pool sizes from arrival rate and holding time.

    The load is measured (--console) or given (--load, for instance shop=200/5ms: 200 transactions a second of 5 ms
    on average; /40ms adds their 99th percentile, @20 the size of the pool now).
    """
    try:
        limit = given.seconds(max_wait)
        changes = given.changes(what)
        found = [given.load(text) for text in loads]
        if console:
            found += _measured(console, interval, database)
    except (ValueError, BadTarget) as e:
        raise click.UsageError(str(e)) from e
    except (ClientError, EmbeddedError, OSError) as e:
        raise click.ClickException(str(e)) from e
    if not found:
        raise (
            click.UsageError("give --console or --load")
            if not console
            else click.ClickException(f"no transaction was seen within {interval:g} s")
        )
    reports = [_Report(what_if(load, changes), limit, cores) for load in found]
    shares = _shares(reports, slots) if slots else []
    if svg:
        report = reports[0]
        Path(svg).write_text(
            svg_plot(f"Waiting for a server: {report.load.name}", report.options, report.marks)
        )
    if as_json:
        click.echo(json.dumps(_json(reports, shares, changes), indent=2))
        return 0
    for report in reports:
        click.echo(report.text() + "\n")
    if changes.get("pods"):
        click.echo(_pods(*changes["pods"]))
    if slots:
        click.echo(_budget(reports, shares, slots))
    return 0


def _measured(url: str, interval: float, database: str | None) -> list[Load]:
    with Connection(parse_console(url), application_name="pgferry advise", timeout=30.0) as console:
        loads = measure(console, interval)
    return [load for load in loads if database is None or load.name == database]


class _Report:
    """What is told about one load."""

    def __init__(self, load: Load, limit: float, cores: int | None) -> None:
        self.load, self.limit, self.cores = load, limit, cores
        self.size = recommend(load, limit)
        self.options = [option(load, size) for size in alternatives(load, self.size)]
        self.marks = {self.size: "recommended"}
        if load.size:
            both = load.size == self.size
            self.marks[load.size] = "now, and recommended" if both else "now"

    def text(self) -> str:
        load, holding = self.load, self.load.holding
        lines = [
            f"{load.name}: {load.rate:,.1f} transactions/s, a server is held for {time_text(holding.mean)} "
            "on average "
            f"(p99 {time_text(holding.percentile(0.99))}, {holding.shape})"
        ]
        lines += [f"  ({load.note})"] if load.note else []
        lines += [
            f"Little's law: {load.rate:,.1f}/s x {time_text(holding.mean)} = {load.busy:.2f} servers busy; "
            f"with {HEADROOM:.0%} headroom {by_little(load)}",
            "",
            table(_COLUMNS, [_row(o, self.marks) for o in self.options]),
            "",
            text_plot(self.options, self.marks),
            "",
            f"Recommended: {self.size} (99 % wait at most {time_text(self.limit)})",
        ]
        return "\n".join([*lines, *(textwrap.fill(text, 100) for text in self.warnings())])

    def warnings(self) -> list[str]:
        load, found = self.load, []
        if load.size and load.busy > load.size * _SATURATED:
            found.append(
                f"The pool of {load.size} is saturated: the clients would ask for more if they could, so "
                "what is recommended "
                "is the least. Measure again with it."
            )
        useful = self.cores * 2 + 1 if self.cores else 0
        if useful and load.busy > useful:
            found.append(
                f"{self.cores} cores work on about {useful} queries at a time; this load keeps "
                f"{load.busy:.1f} servers "
                "busy. Unless they mostly wait (for locks, for the client, for the disk), a larger pool "
                "makes it slower: "
                "shorten the transactions, or use a larger server or a replica."
            )
        if load.size > self.size * 2:
            found.append(
                f"The pool of {load.size} is larger than needed; what it does not use, others could."
            )
        return found


def _row(o: Option, marks: dict[int, str]) -> list[str]:
    return [
        str(o.size),
        f"{min(o.use, 1):.0%}" if o.use < 1 else "too much",
        f"{o.probability:.1%}",
        *(time_text(value) for value in (o.mean, o.p95, o.p99, o.simulated.p99)),
        marks.get(o.size, ""),
    ]


def _pods(pods: float, pool: float) -> str:
    clients = int(pods * pool)
    return (
        f"{pods:.0f} pods with {pool:.0f} connections each are {clients:,} clients, during a rollout up to "
        f"{clients * 2:,}: "
        f"max_client_conn = {clients * 2}, open files (LimitNOFILE) {clients * 2 + 1000}. In transaction "
        "mode the number of "
        "servers does not change; in session mode and without a pooler it would be the same number.\n"
    )


def _shares(reports: list[_Report], slots: int) -> list[int]:
    try:
        return budget([report.load for report in reports], slots)
    except ValueError as e:
        raise click.ClickException(str(e)) from e


def _budget(reports: list[_Report], shares: list[int], slots: int) -> str:
    rows = []
    for report, share in zip(reports, shares, strict=True):
        o = option(report.load, share)
        rows.append(
            [report.load.name, str(share), f"{o.use:.0%}", f"{o.probability:.1%}", time_text(o.simulated.p99)]
        )
    head = f"{slots} connections shared so that the waiting of all together is least ({slots - sum(shares)} left over):"
    return f"{head}\n\n{table(['load', 'pool_size', 'in use', 'wait at all', 'p99 simulated'], rows)}"


def _json(
    reports: list[_Report], shares: list[int], changes: dict[str, tuple[float, ...]]
) -> dict[str, object]:
    loads = [
        {
            "name": r.load.name,
            "rate": r.load.rate,
            "mean": r.load.holding.mean,
            "p99": r.load.holding.percentile(0.99),
            "variation": r.load.holding.variation,
            "shape": r.load.holding.shape,
            "note": r.load.note,
            "busy": r.load.busy,
            "now": r.load.size or None,
            "by_little": by_little(r.load),
            "recommended": r.size,
            "options": [_finite(asdict(o)) for o in r.options],
            "warnings": r.warnings(),
        }
        for r in reports
    ]
    answer: dict[str, object] = {"what_if": {k: list(v) for k, v in changes.items()}, "loads": loads}
    if shares:
        answer["budget"] = {r.load.name: share for r, share in zip(reports, shares, strict=True)}
    return answer


def _finite(value: object) -> object:
    """Infinite waits as null: JSON has no infinity."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and math.isinf(value) else value
