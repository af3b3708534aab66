import numpy as np
import pytest
from raw_videos import cut, moving_square, turn, write_video

from fcacli.data.decode import Unreadable, decode
from fcacli.data.transcode import TooShort, stored_size, transcode


def store(raw, folder, **options):
    target = folder / "videos" / "clip.mp4"
    return transcode(raw, target, text="lifting cup", source=raw.name, **options), target


@pytest.mark.parametrize("width", [64, 61])
def test_stored_frames_are_near_lossless_at_their_own_size(tmp_path, width):
    raw = write_video(tmp_path / "a.mp4", moving_square(width=64))
    if width == 61:  # as the real 427x240 clips
        raw = write_pictures(tmp_path / "frames", moving_square(width=61))
    clip, target = store(raw, tmp_path)
    assert (clip.frames, clip.width, clip.height) == (18, width, 48)
    source, stored = decode(raw).frames.astype(float), decode(target).frames
    assert 10 * np.log10(255**2 / np.mean((source - stored) ** 2)) > 42


def write_pictures(folder, video):
    import cv2

    folder.mkdir()
    for index, picture in enumerate(video):
        (folder / f"img_{index:05}.png").write_bytes(cv2.imencode(".png", picture[..., ::-1])[1])
    return folder


def test_times_are_the_sources_from_zero(tmp_path):
    times = [0.5, 0.6, 0.65, 1.2, 3.0]
    clip, target = store(write_video(tmp_path / "a.webm", moving_square(5), times), tmp_path)
    assert clip.frame_times == pytest.approx([0.0, 0.1, 0.15, 0.7, 2.5], abs=1e-3)
    assert decode(target).times == pytest.approx(clip.frame_times, abs=1e-4)


def test_folder_of_pictures_has_the_readers_rate(tmp_path):
    clip, _ = store(write_pictures(tmp_path / "frames", moving_square(4)), tmp_path, fps=10.0)
    assert clip.frame_times == [0.0, 0.1, 0.2, 0.3]


def test_short_side_is_at_most_480_and_never_enlarged(tmp_path):
    assert stored_size(1920, 1080) == (853, 480) and stored_size(1080, 1920) == (480, 853)
    assert stored_size(427, 240) == (427, 240)
    clip, _ = store(write_video(tmp_path / "a.mp4", moving_square(2, width=800, height=600)), tmp_path)
    assert (clip.width, clip.height) == (640, 480)


def test_rotated_video_is_stored_upright(tmp_path):
    clip, target = store(turn(write_video(tmp_path / "a.mp4", moving_square(3)), 0, 1, -1, 0), tmp_path)
    assert (clip.width, clip.height) == (48, 64) and decode(target).frames.shape == (3, 64, 48, 3)


def test_content_names_the_pixels_not_the_file(tmp_path):
    raw = write_video(tmp_path / "a.mp4", moving_square())
    other = write_video(tmp_path / "b.mp4", moving_square(seed=1))
    (tmp_path / "c.mp4").write_bytes(raw.read_bytes())
    a, b, c = (store(path, tmp_path / path.stem)[0].content for path in (raw, other, tmp_path / "c.mp4"))
    assert a == c != b and len(a) == 64


def test_broken_and_short_sources_leave_nothing_behind(tmp_path):
    sources = [
        (cut(write_video(tmp_path / "cut.webm", moving_square(40))), "truncated|decoding ends"),
        (write_video(tmp_path / "short.mp4", moving_square(5)), "fewer frames than needed: 5 of 16"),
        (write_video(tmp_path / "tiny.mp4", moving_square(20, width=24, height=22)[:, :8, :8]), "only 8x8 pixels"),
    ]
    for raw, reason in sources:
        with pytest.raises(Unreadable, match=reason):
            store(raw, tmp_path, min_frames=16)
    assert list((tmp_path / "videos").iterdir()) == []


def test_a_short_clip_says_how_long_it_is(tmp_path):
    with pytest.raises(TooShort) as error:
        store(write_video(tmp_path / "a.mp4", moving_square(5)), tmp_path, min_frames=6)
    assert error.value.frames == 5
