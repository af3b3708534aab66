"""Line charts in the look of pictures.py: one line a series, its name at its end, a few round numbers on the axes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fcacli.prediction.pictures import FAINT, INK, LINE, PAPER

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

COLOURS = ((9, 105, 218), (207, 34, 46), (26, 127, 55), (154, 103, 0), (130, 80, 223), (191, 57, 137), (87, 96, 106))
WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 40, 46
"""Pixels around the axes; the names of the series stand on the right."""
NAME_STEP = 18
"""Least pixels between two names."""


@dataclass(frozen=True)
class Series:
    """Points in the order of x."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


def line_chart(series: Sequence[Series], title: str, x_label: str) -> np.ndarray:
    """uint8 (HEIGHT, WIDTH, 3); series of one point are a dot; without any point the axes stay empty."""
    from PIL import Image, ImageDraw

    page = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    draw = ImageDraw.Draw(page)
    draw.text((LEFT, 12), title, INK, _font(16))
    draw.text(((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8), x_label, FAINT, _font(13), anchor="mb")
    x_ticks = ticks(0.0, max((value for one in series for value in one.x), default=1.0))
    values = [value for one in series for value in one.y if math.isfinite(value)] or [0.0, 1.0]
    y_ticks = ticks(min(values), max(values))

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - x_ticks[0]) / (x_ticks[-1] - x_ticks[0])
        up = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    for tick in y_ticks:
        _, y = place(x_ticks[0], tick)
        draw.line((LEFT, y, WIDTH - RIGHT, y), LINE)
        draw.text((LEFT - 8, y), f"{tick:g}", FAINT, _font(13), anchor="rm")
    for tick in x_ticks:
        x, y = place(tick, y_ticks[0])
        draw.text((x, y + 6), f"{tick:g}", FAINT, _font(13), anchor="mt")
    names = []
    for number, one in enumerate(series):
        points = [place(x, y) for x, y in zip(one.x, one.y, strict=True) if math.isfinite(y)]
        colour = COLOURS[number % len(COLOURS)]
        draw.line(points, colour, 2)
        for x, y in points:
            draw.ellipse((x - 3, y - 3, x + 3, y + 3), colour)
        if points:
            names.append((points[-1][1], one.name, colour))
    _name(draw, sorted(names))
    return np.asarray(page)


def _name(draw: "ImageDraw", names: Sequence[tuple[float, str, tuple[int, int, int]]]) -> None:
    """Names at the right edge, at the height of their lines, moved down and then up as far as they would overlap."""
    heights = [y for y, _, _ in names]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + NAME_STEP)
    lowest = float(HEIGHT - 12)
    for i in reversed(range(len(heights))):
        heights[i] = lowest = min(heights[i], lowest)
        lowest -= NAME_STEP
    for height, (_, name, colour) in zip(heights, names, strict=True):
        draw.text((WIDTH - RIGHT + 10, height), name, colour, _font(14), anchor="lm")


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """At least two round numbers at equal steps of 1, 2 or 5 times a power of ten, from at most `low` to at least `high`."""
    if not high - low > 1e-9 * max(abs(low), abs(high)):
        low, high = low - 0.5, high + 0.5
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for step in (power * factor for factor in (1, 2, 5, 10, 20)):
        first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
        if last - first <= most:
            break
    return [round(number * step, 12) for number in range(first, last + 1)]


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)
