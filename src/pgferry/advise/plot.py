"""Waiting time by pool size as a plot: bars of text, or an SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from pgferry.advise.plan import Option

_WIDTH = 46
_FLOOR = 1e-5  # seconds; below that it is no wait
_W, _H, _LEFT, _BOTTOM, _TOP = 720, 400, 70, 50, 40


def time_text(seconds: float) -> str:
    """A time for people, three digits."""
    if math.isinf(seconds):
        return "never ends"
    if seconds < _FLOOR:
        return "0"
    for limit, factor, unit in ((1e-3, 1e6, "us"), (1.0, 1e3, "ms"), (120.0, 1.0, "s")):
        if seconds < limit:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds / 60:.3g} min"


def text_plot(options: Sequence[Option], marks: dict[int, str]) -> str:
    """One bar for each size: the simulated 99th percentile of waiting, on a logarithmic scale."""
    values = [o.simulated.p99 for o in options]
    low, high = _range(values)
    lines = ["p99 of waiting by pool size (logarithmic)"]
    for o in options:
        value = o.simulated.p99
        part = 1.0 if math.isinf(value) else _place(value, low, high)
        bar = ("█" * max(round(part * _WIDTH), 1 if value > _FLOOR else 0)).ljust(_WIDTH)
        if math.isinf(value):
            bar = ("█" * (_WIDTH - 2) + "▶▶").ljust(_WIDTH)
        lines.append(f"{o.size:>6} |{bar} {time_text(value):>10}  {marks.get(o.size, '')}".rstrip())
    return "\n".join(lines)


def svg_plot(title: str, options: Sequence[Option], marks: dict[int, str]) -> str:
    """The same as lines: mean, p95 and p99, simulated, and p99 by Erlang C."""
    shown = [o for o in options if not math.isinf(o.simulated.p99)]
    series = {
        "p99, simulated": ("#c0392b", [o.simulated.p99 for o in shown]),
        "p95, simulated": ("#d68910", [o.simulated.p95 for o in shown]),
        "mean, simulated": ("#1f7a4d", [o.simulated.mean for o in shown]),
        "p99, Erlang C": ("#7f8c8d", [o.p99 for o in shown]),
    }
    low, high = _range([value for _, values in series.values() for value in values])
    first, last = (shown[0].size, shown[-1].size) if shown else (0, 1)

    def x(size: int) -> float:
        return _LEFT + (size - first) / max(last - first, 1) * (_W - _LEFT - 20)

    def y(value: float) -> float:
        return _H - _BOTTOM - _place(value, low, high) * (_H - _BOTTOM - _TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_W} {_H}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_W}" height="{_H}" fill="white"/>',
        f'<text x="{_LEFT}" y="20" font-size="14">{escape(title)}</text>',
    ]
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        at = y(10.0**power)
        parts.append(f'<path d="M{_LEFT} {at:.1f}H{_W - 20}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{time_text(10.0**power * 1.0001)}</text>'
        )
    for o in shown:
        parts.append(f'<text x="{x(o.size):.1f}" y="{_H - 32}" text-anchor="middle">{o.size}</text>')
        if o.size in marks:
            parts.append(
                f'<path d="M{x(o.size):.1f} {_TOP}V{_H - _BOTTOM}" stroke="#999" stroke-dasharray="4 3"/>'
            )
            parts.append(
                f'<text x="{x(o.size):.1f}" y="{_TOP - 6}" text-anchor="middle">{escape(marks[o.size])}</text>'
            )
    for number, (name, (colour, values)) in enumerate(series.items()):
        points = " ".join(f"{x(o.size):.1f},{y(v):.1f}" for o, v in zip(shown, values, strict=True))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{_LEFT + 150 * number}" y="{_H - 10}" fill="{colour}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The powers of ten around all finite values."""
    finite = [max(v, _FLOOR) for v in values if not math.isinf(v)] or [_FLOOR]
    low = 10.0 ** math.floor(math.log10(min(finite)))
    return low, max(10.0 ** math.ceil(math.log10(max(finite))), low * 10)


def _place(value: float, low: float, high: float) -> float:
    """Where a value is between low and high, 0 to 1, on a logarithmic scale."""
    return math.log10(max(value, low) / low) / math.log10(high / low)
