"""What a file may claim at most: each limit refuses, names the file and the size, and lets through what is just within."""

import pytest
from raw_videos import moving_square, write_video
from spoil import png

from fcacli.data import decode as decoding
from fcacli.data import images, video
from fcacli.data.images import Unreadable


def test_a_frame_of_too_many_pixels(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", moving_square(3))
    monkeypatch.setattr(video, "LARGEST_FRAME", 64 * 48)
    assert len(decoding.decode(path).frames) == 3
    monkeypatch.setattr(video, "LARGEST_FRAME", 64 * 48 - 1)
    with pytest.raises(Unreadable, match=r"a\.mp4: 64x48 pixels are more than"):
        decoding.decode(path)


def test_a_clip_that_never_ends(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", moving_square(18))
    monkeypatch.setattr(decoding, "LONGEST_CLIP", 64 * 48 * 17)
    with pytest.raises(Unreadable, match=r"longer than a clip can be: over 18 frames of 64x48"):
        decoding.decode(path)


def test_time_stamps_that_leap(tmp_path, monkeypatch):
    path = write_video(tmp_path / "a.mp4", moving_square(3), [0.0, 0.1, 9.0])
    assert len(decoding.decode(path).frames) == 3
    monkeypatch.setattr(video, "LONGEST_TIME", 5)
    assert "time stamps leap by 9 seconds" in decoding.decode(path).problem


def test_a_picture_of_too_many_pixels(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(png(9000, 9000))
    with pytest.raises(Unreadable, match=r"a\.png: 9000x9000 pixels are more than the 67 million"):
        images.read_image(path)
    path.write_bytes(png(20, 10, 10))
    assert images.read_image(path).shape == (10, 20, 3)
