"""The curves of a result as SVG: few colours, names at the lines, the same bytes for the same figures.

Readable at 700 pixels on a light page. A band is the 95 % interval. Ours is drawn in the one strong colour,
everything else in greys, so that a glance finds it.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl

from bench.harness import Curve, Result

mpl.use("svg")
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OURS: Final = "#0b6e8a"
_OTHERS: Final = ("#8a8f98", "#b98b3e", "#7d6b91", "#a3a9b2")
_INK: Final = "#2b2f36"
_PAPER: Final = "#fbfbf9"
_STYLE: Final[dict[str, Any]] = {
    "svg.hashsalt": "seatrush",
    "svg.fonttype": "path",  # the same letters for every reader, and no font to look for
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.edgecolor": "#c9ccd1",
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": _PAPER,
    "figure.facecolor": _PAPER,
    "grid.color": "#e6e7ea",
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
}


def draw_all(results: Sequence[Result], folder: Path) -> dict[str, list[Path]]:
    """Every curve of every result; pictures nobody draws any more are removed."""
    drawn: dict[str, list[Path]] = {}
    for result in results:
        curves = [curve for curve in result.curves if any(curve.points.values())]
        drawn[result.bench] = [
            draw(curve, folder / f"{result.bench}-{_slug(curve.name)}.svg") for curve in curves
        ]
        if not curves and (bars := bars_of(result)):
            drawn[result.bench] = [draw_bars(result, bars, folder / f"{result.bench}.svg")]
    kept = {picture for pictures in drawn.values() for picture in pictures}
    for stray in set(folder.glob("*.svg")) - kept:
        stray.unlink()
    return drawn


def draw(curve: Curve, path: Path) -> Path:
    """One curve as one picture."""
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(7.0, 3.6), layout="constrained")
        series = sorted((name, sorted(points)) for name, points in curve.points.items() if points)
        series.sort(key=lambda one: one[1][-1][1])
        greys = itertools.cycle(_OTHERS)  # lines are named at their ends
        for place, (name, points) in enumerate(series):
            # Lines that end close together push their names apart.
            nudge = 13 * (place - (len(series) - 1) / 2)
            _line(axes, name, points, _OURS if name == "ours" else next(greys), nudge)
        if curve.log_x:
            axes.set_xscale("log")
        if curve.log_y:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        ticks = sorted({point[0] for points in curve.points.values() for point in points})
        axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
        axes.xaxis.set_minor_locator(mpl.ticker.NullLocator())
        axes.set_xlabel(curve.x)
        axes.set_title(curve.y, loc="left", fontsize=10)
        axes.margins(x=0.04)
        return _save(figure, path)


def _line(
    axes: Axes, name: str, points: Sequence[tuple[float, float, float, float]], colour: str, nudge: float
) -> None:
    x, y, low, high = zip(*points, strict=True)
    axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.plot(x, y, color=colour, linewidth=2, marker="o", markersize=4)
    axes.annotate(
        name.replace(", ", ",\n"),
        (x[-1], y[-1]),
        textcoords="offset points",
        xytext=(9, nudge),
        va="center",
        annotation_clip=False,
        color=colour,
        fontweight="bold" if name == "ours" else "normal",
    )


def bars_of(result: Result) -> list[tuple[str, dict[str, float]]]:
    """What a unit cost each contender, by process, cheapest first; empty where there is little to compare."""
    bars = []
    for name, figures in result.contenders.items():
        if name.endswith(" again") or not figures.get("roles"):
            continue
        roles = {}
        for role, values in figures["roles"].items():
            known = sorted(value for value in values if value is not None)
            if known:
                roles[role] = known[len(known) // 2]
        if roles:
            bars.append((name, roles))
    return sorted(bars, key=lambda bar: sum(bar[1].values())) if len(bars) > 2 else []


def draw_bars(result: Result, bars: Sequence[tuple[str, dict[str, float]]], path: Path) -> Path:
    """Costs side by side: the worker dark, the rest of the machine light."""
    with mpl.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(7.0, 0.9 + 0.36 * len(bars)), layout="constrained")
        widest = max(sum(roles.values()) for _, roles in bars)
        shown = min(widest, 3 * sorted(sum(roles.values()) for _, roles in bars)[len(bars) // 2])
        for place, (name, roles) in enumerate(bars):
            colour = _OURS if name.startswith("ours") else _OTHERS[0]
            first, *rest = roles.items()
            total = sum(roles.values())
            axes.barh(place, min(first[1], shown), color=colour, height=0.62)
            axes.barh(
                place,
                min(total, shown) - min(first[1], shown),
                left=min(first[1], shown),
                color=colour,
                alpha=0.45,
                height=0.62,
            )
            text = f"{total:,.0f}" + (" (cut)" if total > shown else "")
            axes.annotate(
                text, (min(total, shown), place), xytext=(4, 0), textcoords="offset points", va="center"
            )
            assert rest or total == first[1]
        axes.set_yticks(range(len(bars)), [name for name, _ in bars])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlim(0, shown * 1.2)
        axes.set_title(
            f"CPU µs per {result.unit}: {_first_role(bars)} dark, others light", loc="left", fontsize=10
        )
        return _save(figure, path)


def _first_role(bars: Sequence[tuple[str, dict[str, float]]]) -> str:
    return next(iter(bars[0][1]))


def _save(figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    path.write_text("\n".join(line.rstrip() for line in path.read_text().splitlines()) + "\n")
    return path


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
