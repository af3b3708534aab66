"""Geometry of the contact sheet and of the side-by-side video: every frame is there, unblurred, given ones outlined."""

import numpy as np
import pytest

from fcacli.prediction.pictures import ACCENT, MAX_COLUMNS, OUTLINE, Group, Row, contact_sheet, fit_frames, grid, side_by_side


def _flat(count: int, side: int = 48) -> np.ndarray:
    """Frame t in one colour of its own."""
    return np.stack([np.full((side, side, 3), (20 + t, 90, 250 - t), np.uint8) for t in range(count)])


def _count(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((picture == np.array(colour, np.uint8)).all(axis=-1).sum())


def test_contact_sheet_shows_every_frame_of_every_row() -> None:
    sheet = contact_sheet([Group("pushing cup left", [Row("prediction", _flat(16)), Row("truth", _flat(16))])], "title")
    assert sheet.dtype == np.uint8
    for t in range(16):
        assert _count(sheet, (20 + t, 90, 250 - t)) == 2 * 96 * 96


def test_contact_sheet_outlines_the_given_frames_only() -> None:
    plain = contact_sheet([Group("a", [Row("x", _flat(16))])])
    marked = contact_sheet([Group("a", [Row("x", _flat(16), given=2)])])
    assert _count(plain, ACCENT) == 0
    ring = 96 * 96 - (96 - 2 * OUTLINE) ** 2
    assert _count(marked, ACCENT) >= 2 * ring
    assert _count(marked, (22, 90, 248)) == 96 * 96
    assert _count(marked, (21, 90, 249)) < 96 * 96


def test_long_videos_are_spread_over_the_columns_given_frames_first() -> None:
    sheet = contact_sheet([Group("a", [Row("x", _flat(49), given=1)])])
    shown = [t for t in range(49) if _count(sheet, (20 + t, 90, 250 - t))]
    assert len(shown) == MAX_COLUMNS
    assert shown[:2] == [0, 1]
    assert shown[-1] == 48


def test_sheets_grow_with_rows_and_stay_as_wide_whatever_the_caption() -> None:
    one = contact_sheet([Group("a", [Row("x", _flat(4))])])
    two = contact_sheet([Group("a", [Row("x", _flat(4)), Row("x", _flat(4))])])
    long = contact_sheet([Group("pushing the cup " * 20, [Row("x", _flat(4))])])
    assert two.shape[0] == one.shape[0] + 100
    assert two.shape[1] == one.shape[1] == long.shape[1]
    assert long.shape[0] > one.shape[0]


def test_side_by_side_plays_all_panels_in_step_and_rests_on_a_short_one() -> None:
    video = side_by_side(
        [Row("given", _flat(2), 2), Row("prediction", _flat(16), 2), Row("truth", _flat(16), 2)], "pushing cup left"
    )
    assert video.shape[0] == 16
    assert video.shape[1] % 2 == 0
    assert video.shape[2] % 2 == 0
    assert _count(video[9], (29, 90, 241)) == 2 * 192 * 192
    assert _count(video[9], (21, 90, 249)) > 180 * 180
    assert _count(video[1], ACCENT) > _count(video[9], ACCENT)


@pytest.mark.parametrize(("side", "expected"), [(48, 96), (40, 80), (96, 96), (480, 96)])
def test_fit_frames_keeps_small_pixels_whole_and_shrinks_large_ones(side: int, expected: int) -> None:
    assert fit_frames(_flat(1, side), 96).shape == (1, expected, expected, 3)


def test_long_labels_are_broken_instead_of_running_into_the_next_panel() -> None:
    short = side_by_side([Row("a", _flat(2)), Row("b", _flat(2))])
    long = side_by_side([Row("pulling the green ball left to the edge", _flat(2)), Row("b", _flat(2))])
    assert long.shape[2] == short.shape[2]
    assert long.shape[1] == short.shape[1] + 22


def test_grid_fills_row_by_row() -> None:
    page = grid([_flat(2, 10), _flat(2, 10) + 1, _flat(2, 10) + 2])
    assert page.shape == (2, 20, 20, 3)
    assert (page[:, :10, 10:] == _flat(2, 10) + 1).all()
    assert (page[:, 10:, 10:] == 255).all()
