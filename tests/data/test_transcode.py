import numpy as np
import pytest
from raw_videos import cut, moving_square, turn, write_video

from fcacli.data.decode import Unreadable, decode
from fcacli.data.sampling import Form
from fcacli.data.source import Pictures, Video
from fcacli.data.transcode import Task, Unusable, inspect, stored_size, transcode


def task(raw, form=None, min_frames=1, fps=12.0, **more):
    source = Pictures(raw, fps) if raw.is_dir() else Video(raw)
    return Task(source, raw.name, "lifting cup", form or Form(), min_frames, **more)


def store(raw, folder, **options):
    target = folder / "videos" / "clip.mp4"
    return transcode(task(raw, **options), target).clip, target


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
    with pytest.raises(Unusable) as error:
        store(write_video(tmp_path / "a.mp4", moving_square(5)), tmp_path, min_frames=6)
    assert (error.value.frames, error.value.fault) == (5, "too short")


def test_a_black_camera_is_of_no_use_and_a_dark_one_is(tmp_path):
    dark = np.full((4, 48, 64, 3), 16, np.uint8)
    with pytest.raises(Unusable, match="all of its 4 frames are black") as error:
        store(write_pictures(tmp_path / "black", dark), tmp_path)
    assert error.value.fault == "black"
    dark[3, 20:28, 20:28] = 40
    assert store(write_pictures(tmp_path / "dark", dark), tmp_path)[0].frames == 4


@pytest.mark.parametrize(
    "form",
    [Form(), Form(frames=4), Form(frames=4, width=32, height=32, fit="pad"), Form(fps=24.0)],
    ids=["every", "four", "padded", "rate"],
)
def test_looking_gives_what_storing_gives(tmp_path, form):
    raw = write_video(tmp_path / "a.webm", moving_square())
    looked, stored = inspect(task(raw, form), "clip.mp4"), transcode(task(raw, form), tmp_path / "videos" / "clip.mp4")
    assert looked == stored and len(decode(tmp_path / "videos" / "clip.mp4").frames) == stored.clip.frames


def test_frames_at_equal_spacing_and_their_times_are_stored_at_the_size_asked(tmp_path):
    video = moving_square(9)
    raw = write_pictures(tmp_path / "frames", video)
    clip, target = store(raw, tmp_path, form=Form(frames=3, width=32, height=24), fps=8.0)
    assert (clip.frames, clip.width, clip.height, clip.frame_times) == (3, 32, 24, [0.0, 0.5, 1.0])
    whole = store(
        write_pictures(tmp_path / "chosen", video[[0, 4, 8]]), tmp_path / "b", form=Form(width=32, height=24), fps=2.0
    )
    assert whole[0].content == clip.content
    assert np.array_equal(decode(target).frames, decode(whole[1]).frames)


def test_the_sources_facts_are_those_that_decode(tmp_path):
    raw = turn(write_video(tmp_path / "a.mp4", moving_square(8), [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.9, 1.0]), 0, 1, -1, 0)
    facts = inspect(task(raw, claimed=9), "a.mp4").facts
    assert (facts.frames, facts.seconds, facts.width, facts.height, facts.fps) == (8, 1.0, 48, 64, 7.0)
    assert facts.uneven and facts.rotated and facts.promised == 9
    steady = inspect(task(write_video(tmp_path / "b.webm", moving_square(8))), "b.mp4").facts  # 83, 84 ms in turn
    assert not steady.uneven and not steady.rotated and steady.promised == 0


def test_the_strip_shows_at_most_sixteen_frames_from_the_first_to_the_last(tmp_path):
    import base64
    import io

    from PIL import Image

    raw = write_video(tmp_path / "a.mp4", moving_square(40))
    strip = inspect(task(raw, shown=True), "a.mp4").strip
    assert len(strip.shown) == 16 and (strip.shown[0], strip.shown[-1]) == (0, 39)
    picture = Image.open(io.BytesIO(base64.b64decode(strip.jpeg)))
    assert picture.size == (8 * strip.width, 2 * strip.height) == (8 * 128, 2 * 96)
    assert inspect(task(raw), "a.mp4").strip is None
