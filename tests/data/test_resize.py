import numpy as np
import pytest

from fcacli.data.resize import resize
from fcacli.errors import Misuse


def bars(width, height):
    """Red left third, green middle, blue right."""
    video = np.zeros((2, height, width, 3), np.uint8)
    for channel in range(3):
        video[:, :, channel * width // 3 : (channel + 1) * width // 3, channel] = 255
    return video


def test_same_size_is_untouched():
    video = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3), dtype=np.uint8)
    assert np.array_equal(resize(video, 64, 48, "crop"), video)


def test_crop_cuts_the_middle_out():
    cut = resize(bars(90, 30), 30, 30, "crop")
    assert cut.shape == (2, 30, 30, 3) and (cut == [0, 255, 0]).all()
    tall = resize(bars(30, 90), 15, 15, "crop")
    assert tall.shape == (2, 15, 15, 3) and tall[0, 7, 1, 0] == 255 and tall[0, 7, 13, 2] == 255


def test_pad_keeps_everything_between_black():
    padded = resize(bars(90, 30), 60, 60, "pad")
    assert padded.shape == (2, 60, 60, 3)
    assert (padded[:, :20] == 0).all() and (padded[:, 40:] == 0).all()
    assert padded[0, 30, 1].tolist() == [255, 0, 0] and padded[0, 30, 58].tolist() == [0, 0, 255]


def test_stretch_distorts():
    assert resize(bars(90, 30), 30, 60, "stretch")[0, 30, [1, 15, 28]].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


def test_shrinking_averages_areas():
    board = np.indices((64, 64)).sum(0) % 2 * 255
    video = np.repeat(board[None, ..., None], 3, axis=-1).astype(np.uint8)
    assert set(np.unique(resize(video, 16, 16, "crop"))) <= {127, 128}


def test_enlarging_interpolates_smoothly():
    video = np.zeros((1, 2, 2, 3), np.uint8)
    video[:, :, 1] = 255
    row = resize(video, 16, 16, "crop")[0, 8, :, 0].astype(int)
    assert (np.diff(row) >= 0).all() and len(set(row)) > 4


def test_unknown_fit_is_misuse():
    with pytest.raises(Misuse, match="crop, pad or stretch"):
        resize(bars(30, 30), 16, 16, "squeeze")
