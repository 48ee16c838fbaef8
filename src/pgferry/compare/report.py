"""The outcome of a comparison as a table, as a plot of text, as an SVG and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from pgferry.compare.ways import Outcome
from pgferry.table import table

_COLUMNS = [
    "",
    "clients served",
    "servers",
    "tx/s",
    "p50, ms",
    "p95, ms",
    "p99, ms",
    "errors",
    "memory",
    "pooler",
]
_WIDTH = 40
_BAR, _SVG_WIDTH, _LABEL = 34, 760, 250


def text_table(outcomes: Sequence[Outcome]) -> str:
    """One row for each way."""
    return table(_COLUMNS, [_row(outcome) for outcome in outcomes])


def _row(o: Outcome) -> list[str]:
    f = o.figures
    return [
        o.way.name,
        f"{f.served} of {o.clients}",
        str(o.connections),
        f"{f.per_second():,.0f}",
        *(f"{f.percentile(share):.2f}" for share in (0.5, 0.95, 0.99)),
        str(f.errors + f.refused),
        "-" if o.memory is None else f"{o.memory / 1e6:.0f} MB",
        "-"
        if o.pooler_cpu is None or not f.transactions
        else f"{o.pooler_cpu * 1e6 / f.transactions:.0f} us",
    ]


def text_plot(outcomes: Sequence[Outcome]) -> str:
    """Throughput and the 99th percentile as bars."""
    width = max(len(o.way.name) for o in outcomes)
    parts = []
    for title, unit, values in _charts(outcomes):
        largest = max(values) or 1.0
        parts.append(title)
        parts += [
            f"  {o.way.name:<{width}} |{'█' * round(v / largest * _WIDTH):<{_WIDTH}} {v:,.{unit}f}"
            for o, v in zip(outcomes, values, strict=True)
        ]
        parts.append("")
    return "\n".join(parts).rstrip()


def _charts(outcomes: Sequence[Outcome]) -> list[tuple[str, int, list[float]]]:
    return [
        ("transactions/s", 0, [o.figures.per_second() for o in outcomes]),
        ("p99 latency, ms", 2, [o.figures.percentile(0.99) for o in outcomes]),
        ("server connections", 0, [float(o.connections) for o in outcomes]),
    ]


def svg_plot(title: str, outcomes: Sequence[Outcome]) -> str:
    """The same bars as a picture."""
    height = 40 + 3 * (len(outcomes) * _BAR + 40)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_SVG_WIDTH} {height}" font-family="sans-serif" '
        'font-size="13">',
        f'<rect width="{_SVG_WIDTH}" height="{height}" fill="white"/>',
        f'<text x="10" y="22" font-size="15">{escape(title)}</text>',
    ]
    top = 40
    for name, digits, values in _charts(outcomes):
        largest = max(values) or 1.0
        parts.append(f'<text x="10" y="{top + 14}" font-weight="bold">{escape(name)}</text>')
        top += 24
        for o, value in zip(outcomes, values, strict=True):
            length = value / largest * (_SVG_WIDTH - _LABEL - 100)
            parts.append(
                f'<text x="{_LABEL - 8}" y="{top + 17}" text-anchor="end">{escape(o.way.name)}</text>'
            )
            parts.append(
                f'<rect x="{_LABEL}" y="{top + 4}" width="{length:.1f}" height="18" fill="#2e7d9a"/>'
            )
            parts.append(f'<text x="{_LABEL + length + 6:.1f}" y="{top + 17}">{value:,.{digits}f}</text>')
            top += _BAR
        top += 16
    return "\n".join([*parts, "</svg>"]) + "\n"


def as_dict(o: Outcome) -> dict[str, object]:
    """For JSON; times in milliseconds, memory in bytes."""
    f = o.figures
    return {
        "name": o.way.name,
        "kind": o.way.kind,
        "pool_size": o.way.size or None,
        "pool_mode": o.way.mode or None,
        "clients": o.clients,
        "clients_served": f.served,
        "server_connections": o.connections,
        "transactions": f.transactions,
        "transactions_per_second": f.per_second(),
        "latency_ms": {f"p{share:g}": f.percentile(share / 100) for share in (50, 95, 99)},
        "errors": f.errors + f.refused,
        "reason": f.reason or None,
        "server_memory": o.memory,
        "pooler_cpu_seconds": o.pooler_cpu,
    }
