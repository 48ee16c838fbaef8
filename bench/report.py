"""The report as Markdown: facts, targets with verdicts, one table per scenario."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from .goals import judge
from .results import Cell, Ratio, Results
from .state import SCRUBS

TARGETS = ("direct", "pgbouncer", "pgferry")
Format = Callable[[float], str]
FACTS = (
    ("date", "Date"),
    ("command", "Command"),
    ("cpu", "Processor"),
    ("cores", "Cores"),
    ("memory", "Memory"),
    ("system", "System"),
    ("kernel", "Kernel"),
    ("postgresql", "PostgreSQL"),
    ("pgbouncer", "PgBouncer"),
    ("pgferry", "pgferry"),
    ("commit", "Commit"),
    ("python", "Python"),
    ("rounds", "Rounds"),
    ("accounts", "Run as"),
    ("load", "Load before the run"),
)
INTRODUCTION = """\
# Benchmarks

A direct connection, PgBouncer and pgferry on the same machine, in the same run, with the same configuration
file (transaction mode, pool of 20, one worker). Made by `make bench`; do not edit.

Each cell is measured in several rounds with the order of the three changing; figures are medians, and *ratio*
is pgferry divided by PgBouncer, of the medians, with the least and the greatest of the single rounds behind
it. Processor time is user and system time of all processes of the pooler (pgferry: supervisor and workers),
in the part of the run after the logins. pgbench, PostgreSQL and the pooler share the cores, so throughput is
that of the whole machine and the latencies are those of saturation.
"""


def markdown(results: Results, plots: Sequence[str]) -> str:
    """Return the whole report; `plots` are file names of pictures beside it."""
    parts = [INTRODUCTION, _facts(results), _goals(results)]
    parts += [f"![{name.removesuffix('.svg')}]({name})\n" for name in plots]
    parts += list(_queries(results))
    parts += [
        part
        for part in (
            _connect(results),
            _bulk(results),
            _tls(results),
            _state(results),
            _memory(results),
            _storm(results),
            _problems(results),
        )
        if part
    ]
    return "\n".join(parts)


def goals_text(results: Results) -> str:
    """Return the verdicts on what was measured as plain lines for the terminal."""
    lines = []
    for verdict in judge(results):
        goal = verdict.goal
        if verdict.value is not None:
            worst = f"{verdict.value:.4g}{goal.unit} ({verdict.cell})"
            lines.append(f"{verdict.word:8} {goal.text}: at most {goal.limit:g}{goal.unit}; worst {worst}")
    return "\n".join(lines)


def _facts(results: Results) -> str:
    rows = [[title, results.facts[key]] for key, title in FACTS if results.facts.get(key)]
    return _table(["", ""], rows, numbers=False)


def _goals(results: Results) -> str:
    rows = []
    for verdict in judge(results):
        goal = verdict.goal
        worst = "–" if verdict.value is None else f"{verdict.value:.4g}{goal.unit}"
        met = f"{verdict.cells - verdict.missed} of {verdict.cells}" if verdict.cells else "–"
        place = "–" if verdict.cell is None else str(verdict.cell)
        rows.append([goal.text, f"≤ {goal.limit:g}{goal.unit}", worst, place, met, f"**{verdict.word}**"])
    head = ["target", "limit", "worst", "where", "cells that meet it", "verdict"]
    note = "\n*unclear*: the median misses the limit, but some round of the same cell meets it.\n"
    return "## Targets\n\n" + _table(head, rows, numbers=False) + note


def _queries(results: Results) -> Iterable[str]:
    cells = results.cells("query")
    for protocol in dict.fromkeys(cell.variant for cell in cells):
        chosen = [cell for cell in cells if cell.variant == protocol]
        yield f"## Select-only transactions, {protocol} protocol\n"
        yield _table(
            [
                "clients",
                "direct tps",
                "PgBouncer tps",
                "pgferry tps",
                "PgBouncer µs",
                "pgferry µs",
                "ratio of µs",
            ],
            [
                [
                    str(cell.clients),
                    *(_value(results, cell, name, "tps", _whole) for name in TARGETS),
                    *(_value(results, cell, name, "cpu_us", _tenth) for name in TARGETS[1:]),
                    _ratio(results.ratio(cell, "cpu_us")),
                ]
                for cell in chosen
            ],
        )
        yield "µs: the pooler's processor time per transaction. Latency in ms, p50 / p95 / p99:\n"
        yield _table(
            ["clients", "direct", "PgBouncer", "pgferry", "ratio of p50", "ratio of p99"],
            [
                [
                    str(cell.clients),
                    *(_latency(results, cell, name) for name in TARGETS),
                    _ratio(results.ratio(cell, "p50_us")),
                    _ratio(results.ratio(cell, "p99_us")),
                ]
                for cell in chosen
            ],
        )


def _connect(results: Results) -> str:
    rows = [
        [
            cell.variant,
            *(_value(results, cell, name, "tps", _whole) for name in TARGETS),
            *(_latency(results, cell, name) for name in TARGETS),
            *(_value(results, cell, name, "cpu_us", _tenth) for name in TARGETS[1:]),
            _ratio(results.ratio(cell, "cpu_us")),
        ]
        for cell in results.cells("connect")
    ]
    if not rows:
        return ""
    head = ["login", "direct tps", "PgBouncer tps", "pgferry tps", "direct ms", "PgBouncer ms", "pgferry ms"]
    head += ["PgBouncer µs", "pgferry µs", "ratio of µs"]
    text = "16 clients that connect, log in, run one transaction and disconnect; ms is that whole round, "
    text += "p50 / p95 / p99.\n\n"
    return "## A new connection for each transaction\n\n" + text + _table(head, rows)


def _bulk(results: Results) -> str:
    names = {"copy": "COPY out, rows of 1 MB", "rows": "SELECT of rows of about 50 bytes"}
    rows = [
        [
            names[cell.variant],
            *(_value(results, cell, name, "gb_per_s", _hundredth) for name in TARGETS),
            *(_value(results, cell, name, "cpu_s_per_gb", _hundredth) for name in TARGETS[1:]),
            _ratio(results.ratio(cell, "cpu_s_per_gb")),
        ]
        for cell in results.cells("bulk")
    ]
    if not rows:
        return ""
    head = [
        "1 GB out",
        "direct GB/s",
        "PgBouncer GB/s",
        "pgferry GB/s",
        "PgBouncer CPU s/GB",
        "pgferry CPU s/GB",
        "ratio",
    ]
    return "## Large results\n\n" + _table(head, rows)


def _tls(results: Results) -> str:
    titles = {
        "simple": (
            ("16 clients, simple protocol: tps", "tps", _whole),
            ("pooler's µs per transaction", "cpu_us", _tenth),
        ),
        "result": (
            ("a result of 100 MB: MB/s", "mb_per_s", _whole),
            ("pooler's processor time, ms", "cpu_ms_per_100mb", _whole),
        ),
    }
    rows = [
        [
            title,
            *(_value(results, cell, name, figure, form) for name in TARGETS[1:]),
            _ratio(results.ratio(cell, figure)),
        ]
        for cell in results.cells("tls")
        for title, figure, form in titles[cell.variant]
    ]
    if not rows:
        return ""
    text = "TLS between clients and pooler, none between pooler and PostgreSQL.\n\n"
    return "## TLS\n\n" + text + _table(["", "PgBouncer", "pgferry", "ratio"], rows)


def _state(results: Results) -> str:
    parts = []
    for cell in results.cells("state"):
        rows = [
            [
                title,
                *(
                    _value(results, cell, "pgferry", f"{name}_{figure}", _whole)
                    for figure in ("tps", "p50_us")
                ),
                _value(results, cell, "pgferry", f"{name}_cpu_us", _tenth),
            ]
            for title, name in (("none", "without"), ("search_path, role and a custom setting", "with"))
        ]
        slowdown = results.median(cell, "pgferry", "slowdown")
        slowdown = slowdown or results.median(cell, "pgferry", "extreme_slowdown")
        if slowdown is None:
            continue
        text = f"{cell.clients} clients of pgferry, each of which sets its own once; {cell.variant}; "
        text += f"ratio of the throughputs: {1 / slowdown:.2f}.\n\n"
        parts.append(text + _table(["state", "tps", "p50 µs", "pgferry µs"], rows))
    rows = [
        [
            cell.variant,
            *(
                _value(results, cell, "pgferry", f"{name}_instructions", _whole)
                for name in ("ignore", "track")
            ),
            _value(results, cell, "pgferry", "ignore_cpu_us", _tenth),
            _value(results, cell, "pgferry", "cost", lambda value: f"{value:.3f}"),
        ]
        for cell in results.cells("policies")
    ]
    if rows:
        text = "Clients that keep no state, instructions of pgferry for each transaction by `session_state`, "
        text += (
            "µs with ignore, and the ratio of the processor times if an instruction took a whole cycle:\n\n"
        )
        head = ["protocol", "ignore", "track", "µs", "ratio"]
        parts.append(text + _table(head, rows))
    rows = [
        [cell.variant, str(cell.clients)]
        + [
            _value(results, cell, "pgferry", f"{value}_{figure}", form)
            for value in SCRUBS
            for figure, form in (("tps", _whole), ("cpu_us", _tenth))
        ]
        for cell in results.cells("scrub")
    ]
    if rows:
        text = "Two login users who share servers: transactions a second, and pgferry's processor time for each in "
        text += "µs, by the value of `scrub`:\n\n"
        head = ["protocol", "clients", *(f"{value}{unit}" for value in SCRUBS for unit in ("", ", µs"))]
        parts.append(text + _table(head, rows))
    return "## Session state\n\n" + "\n".join(parts) if parts else ""


def _memory(results: Results) -> str:
    rows = []
    for cell in results.cells("memory"):
        for title, figure, form in (
            (f"bytes per client, {cell.clients} logged in", "login_bytes", _whole),
            (f"bytes per client, {cell.clients} idle after a query", "idle_bytes", _whole),
            ("the process that serves clients, at rest, MB resident", "rest_mb", _tenth),
            ("all processes at rest, MB (PSS)", "total_rest_mb", _tenth),
        ):
            rows.append([title, *(_value(results, cell, name, figure, form) for name in TARGETS[1:])])
    if not rows:
        return ""
    return "## Memory\n\nPrivate pages, without the kernel's socket buffers.\n\n" + _table(
        ["", "PgBouncer", "pgferry"], rows
    )


def _storm(results: Results) -> str:
    rows = []
    for cell in results.cells("storm"):
        for title, figure, form in (
            (f"seconds until {cell.clients} clients are in", "seconds", _tenth),
            ("clients that got in", "clients_in", _whole),
            ("attempts that failed and were repeated", "refused", _whole),
            ("seconds for half of the clients", "login_p50_s", _tenth),
            ("pooler's processor time, ms per client", "cpu_ms", _hundredth),
            ("server connections opened meanwhile", "servers", _whole),
            ("the most of them within 0.1 s", "servers_at_once", _whole),
            ("another client's queries before, µs p50", "calm_p50_us", _whole),
            ("µs p99", "calm_p99_us", _whole),
            ("during the storm, µs p50", "p50_us", _whole),
            ("µs p99", "p99_us", _whole),
            ("µs, the slowest", "worst_us", _whole),
        ):
            rows.append([title, *(_value(results, cell, name, figure, form) for name in TARGETS[1:])])
    if not rows:
        return ""
    text = "All clients come at once to a pooler that has just been started: TCP, TLS, SCRAM, one query. One client "
    text += "was there\nbefore and asks every 5 ms; "
    text += "it cannot ask while it waits, so its slowest query tells more than its p99.\n\n"
    return "## A storm of connections\n\n" + text + _table(["", "PgBouncer", "pgferry"], rows)


def _problems(results: Results) -> str:
    found = results.problems()
    if not found:
        return ""
    lines = [
        f"- {item.cell}, {item.target}, {'skipped' if item.skipped else 'failed'}: "
        + " ".join(item.error.split())
        for item in found
    ]
    return "## Not measured\n\n" + "\n".join(lines) + "\n"


def _value(results: Results, cell: Cell, target: str, figure: str, form: Format) -> str:
    value = results.median(cell, target, figure)
    return "–" if value is None else form(value)


def _latency(results: Results, cell: Cell, target: str) -> str:
    values = [results.median(cell, target, f"p{percent}_us") for percent in (50, 95, 99)]
    return (
        " / ".join("–" if value is None else f"{value / 1000:.2f}" for value in values)
        if any(values)
        else "–"
    )


def _ratio(ratio: Ratio | None) -> str:
    return "–" if ratio is None else f"**{ratio.value:.2f}** ({ratio.low:.2f}–{ratio.high:.2f})"


def _whole(value: float) -> str:
    return f"{value:,.0f}"


def _tenth(value: float) -> str:
    return f"{value:.1f}"


def _hundredth(value: float) -> str:
    return f"{value:.2f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool = True) -> str:
    """Return a table; with `numbers` all columns but the first are aligned to the right."""
    rule = ["---", *(["---:" if numbers else "---"] * (len(head) - 1))]
    lines = [list(head), rule, *map(list, rows)]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
