"""Draws the results as SVG pictures with matplotlib; without matplotlib there are none."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .results import Cell, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = {"direct": "#8a8f98", "pgbouncer": "#c8553d", "pgferry": "#1f6f8b"}
STYLE: Any = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 9,
    "grid.alpha": 0.3,
    "svg.hashsalt": "pgferry",
}
LINES = (
    ("cpu.svg", "cpu_us", 1.0, "pooler's CPU, µs per transaction"),
    ("throughput.svg", "tps", 1e-3, "thousand transactions per second"),
    ("latency.svg", "p99_us", 1e-3, "p99 latency, ms"),
)
BARS = (
    ("connect", "trust", "cpu_us", 1.0, "connect, trust\nCPU µs"),
    ("connect", "scram", "cpu_us", 1.0, "connect, SCRAM\nCPU µs"),
    ("bulk", "copy", "cpu_s_per_gb", 1.0, "1 GB of COPY\nCPU s"),
    ("bulk", "rows", "cpu_s_per_gb", 1.0, "1 GB of rows\nCPU s"),
    ("memory", "idle", "idle_bytes", 1 / 1024, "idle client\nKB"),
)


def draw(results: Results, folder: Path) -> list[str]:
    """Write the pictures that there are figures for and return their names; none without matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        print("matplotlib is missing, so no plots (pip install --group bench)")
        return []
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    names = []
    with pyplot.rc_context(STYLE):
        for name, figure, scale, label in LINES:
            if _lines(results, folder / name, figure, scale, label):
                names.append(name)
        if _bars(results, folder / "others.svg"):
            names.append("others.svg")
    return names


def _lines(results: Results, path: Path, figure: str, scale: float, label: str) -> bool:
    """Draw one panel per protocol, the figure over the number of clients."""
    from matplotlib import pyplot

    cells = results.cells("query")
    protocols = list(dict.fromkeys(cell.variant for cell in cells))
    if not protocols:
        return False
    picture, panels = pyplot.subplots(
        1, len(protocols), figsize=(3.4 * len(protocols), 3), sharey=True, squeeze=False, layout="constrained"
    )
    for panel, protocol in zip(panels[0], protocols, strict=True):
        chosen = [cell for cell in cells if cell.variant == protocol]
        _panel(results, panel, chosen, figure, scale)
        panel.set_title(protocol)
    if figure != "p99_us":
        panels[0][0].set_ylim(bottom=0)  # after all panels: it ends the shared axis's scaling
    panels[0][0].set_ylabel(label)
    panels[0][0].legend(frameon=False)
    _save(picture, path)
    return True


def _panel(results: Results, panel: Axes, cells: Sequence[Cell], figure: str, scale: float) -> None:
    for target, colour in COLOURS.items():
        points = [
            (cell.clients, value * scale)
            for cell in cells
            if (value := results.median(cell, target, figure)) is not None
        ]
        if points:
            panel.plot(*zip(*points, strict=True), "o-", label=target, color=colour, markersize=4)
    panel.set_xscale("log")
    panel.set_xticks([cell.clients for cell in cells], [str(cell.clients) for cell in cells])
    panel.minorticks_off()
    if figure == "p99_us":
        panel.set_yscale("log")
    panel.set_xlabel("clients")


def _bars(results: Results, path: Path) -> bool:
    """Draw a small panel of bars for each of the figures that are not a curve."""
    from matplotlib import pyplot

    found = []
    for scenario, variant, figure, scale, label in BARS:
        for cell in results.cells(scenario):
            values = {name: results.median(cell, name, figure) for name in COLOURS}
            known = {name: value * scale for name, value in values.items() if value is not None}
            if cell.variant == variant and known:
                found.append((label, known))
    if not found:
        return False
    picture, panels = pyplot.subplots(
        1, len(found), figsize=(2.1 * len(found), 2.6), squeeze=False, layout="constrained"
    )
    for panel, (label, known) in zip(panels[0], found, strict=True):
        bars = panel.bar(list(known), list(known.values()), color=[COLOURS[name] for name in known])
        panel.bar_label(bars, fmt=lambda value: f"{value:,.0f}" if value >= 100 else f"{value:.2f}")
        panel.margins(y=0.15)
        panel.set_title(label)
        panel.grid(axis="x", visible=False)
        panel.tick_params(axis="x", labelrotation=20)
    _save(picture, path)
    return True


def _save(picture: Any, path: Path) -> None:
    from matplotlib import pyplot

    picture.savefig(path, metadata={"Date": None})
    pyplot.close(picture)
