"""Charts: round numbers on the axes, every series drawn in its colour, higher values higher."""

import numpy as np
import pytest

from fcacli.prediction.plot import COLOURS, HEIGHT, WIDTH, Series, line_chart, ticks


@pytest.mark.parametrize(
    "low,high,expected",
    [
        (0, 2000, [0, 500, 1000, 1500, 2000]),
        (18.3, 24.9, [18, 20, 22, 24, 26]),
        (0.11, 0.34, [0.1, 0.15, 0.2, 0.25, 0.3, 0.35]),
        (5, 5, [4.4, 4.6, 4.8, 5.0, 5.2, 5.4, 5.6]),
    ],
)
def test_ticks_are_round_and_cover_the_range(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("low,high", [(0, 1e-6), (-3, 7e5), (0.9999, 1.0001), (0, 0)])
def test_any_range_has_a_few(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 8
    assert found[0] <= low and found[-1] >= high


def rows_of(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """Heights of the pixels of that colour inside the axes."""
    return np.flatnonzero((picture[:, 70 : WIDTH - 155] == colour).all(-1).any(1))


def test_every_series_is_drawn_and_the_better_one_above() -> None:
    picture = line_chart([Series("fca", [1, 2], [20, 24]), Series("lora", [1, 2], [18, 19])], "PSNR", "steps")
    assert picture.shape == (HEIGHT, WIDTH, 3)
    above, below = rows_of(picture, COLOURS[0]), rows_of(picture, COLOURS[1])
    assert len(above) and len(below)
    assert above.max() < below.min()


def test_gaps_and_nothing_at_all_can_be_drawn() -> None:
    line_chart([], "PSNR", "steps")
    line_chart([Series("one", [3], [float("nan")]), Series("two", [3], [2.0])], "PSNR", "steps")
