"""Curves as numbers that a template can draw as SVG: points in the units of its view box, round numbers on the axes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fcacli.prediction.plot import ticks

WIDTH, HEIGHT = 460, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 24, 10, 34
"""Units around the axes."""
MOST_POINTS = 240
"""Of a training curve; beyond that neighbouring steps are averaged."""
DOTTED = 64
"""Points up to which each is marked, and says its value."""
COLOURS = 8
"""Of lines; the page's style names them, later lines are dashed."""
AXES = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "colours": COLOURS, "dotted": DOTTED}
"""What the template needs of these."""
TRAINING = {
    "loss": "training loss",
    "held_out": "held-out loss, the mean and by noise level",
    "psnr": "validation PSNR (dB)",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
}
"""Titles of the values of a run's log, in this order, before all others."""


@dataclass(frozen=True)
class Line:
    """One series."""

    name: str
    colour: int
    dashed: bool
    points: list[tuple[float, float, str]]
    """x and y in the view box, and what they say."""


@dataclass(frozen=True)
class Chart:
    """Axes from their first to their last tick."""

    title: str
    note: str
    x_label: str
    x_ticks: list[tuple[float, str]]
    """Place, label."""
    y_ticks: list[tuple[float, str]]
    lines: list[Line]


def horizon_charts(results: Mapping[str, Any], given: int) -> list[Chart]:
    """Of every per-frame metric: the mean over clips of each predicted frame, a line for each row."""
    charts = []
    for name, shown in results["metrics"].items():
        series = [
            (row["name"], [(given + p, value) for p, value in enumerate(row["metrics"][name]["per_frame"])])
            for row in results["rows"]
            if row["metrics"].get(name, {}).get("per_frame")
        ]
        if series:
            places = [[row["name"] for row in results["rows"]].index(title) for title, _ in series]
            unit = f" ({shown['unit']})" if shown["unit"] else ""
            charts.append(_chart(shown["title"] + unit, which_way(shown), "frame", series, places, shown["digits"]))
    return charts


def which_way(metric: Mapping[str, Any]) -> str:
    """In words which way is better; where neither is, what the true videos have."""
    if metric["better"] != "none":
        return f"{metric['better']} is better"
    true = metric.get("truth")
    return "neither way is better" + ("" if true is None else f"; the true videos have {true:.{metric['digits']}f}")


def training_charts(log: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Of every value in a run's log.jsonl, over its steps; "name/part" is a line in the chart of "name"."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {name: {} for name in TRAINING}
    for row in log:
        for name, value in row.items():
            if name != "step" and isinstance(value, int | float) and math.isfinite(value):
                lines = found.setdefault(name.split("/")[0], {})
                lines.setdefault(name, []).append((float(row["step"]), float(value)))
    charts = []
    for name, lines in found.items():
        every = -(-max(map(len, lines.values()), default=0) // MOST_POINTS)
        note = f"each point the mean of {every} steps" if every > 1 else ""
        series = [(line, _averaged(points, every)) for line, points in lines.items()]
        if series:
            charts.append(_chart(TRAINING.get(name, name), note, "step", series, range(len(series)), None))
    return charts


def _averaged(points: list[tuple[float, float]], every: int) -> list[tuple[float, float]]:
    groups = [points[i : i + every] for i in range(0, len(points), every)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


def _chart(
    title: str,
    note: str,
    x_label: str,
    series: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    places: Sequence[int],
    digits: int | None,
) -> Chart:
    """`places` decide the colours, `digits` how a value is said; values that are not finite are left out."""
    kept = [(name, [(x, y) for x, y in points if math.isfinite(y)]) for name, points in series]
    xs, ys = ([point[axis] for _, points in kept for point in points] or [0.0] for axis in (0, 1))
    low, high = min(ys), max(ys)
    x_ticks = [tick for tick in ticks(min(xs), max(xs)) if tick == int(tick)]
    y_ticks = ticks(low, high) if low < high else ticks(min(0.0, low), max(0.0, high))

    def place(value: float, marks: Sequence[float], start: float, end: float) -> float:
        return round(start + (value - marks[0]) / (marks[-1] - marks[0] or 1) * (end - start), 2)

    def across(x: float) -> float:
        return place(x, x_ticks, LEFT, WIDTH - RIGHT)

    def up(y: float) -> float:
        return place(y, y_ticks, HEIGHT - BOTTOM, TOP)

    def said(name: str, x: float, y: float) -> str:
        return f"{name}, {x_label} {x:g}: {y:.4g}" if digits is None else f"{name}, {x_label} {x:g}: {y:.{digits}f}"

    lines = [
        Line(name, number % COLOURS, number >= COLOURS, [(across(x), up(y), said(name, x, y)) for x, y in points])
        for number, (name, points) in zip(places, kept, strict=True)
    ]
    return Chart(title, note, x_label, [(across(t), f"{t:g}") for t in x_ticks], [(up(t), f"{t:g}") for t in y_ticks], lines)
