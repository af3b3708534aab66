import av
import cv2
import numpy as np
import pytest
from fixtures_path import fixture
from raw_videos import cut, moving_square, turn, write_video

from fcacli.data.decode import Track, Unreadable, decode, load_source, sample_indices
from fcacli.data.images import list_images, read_image
from fcacli.errors import FcaError


@pytest.mark.parametrize("suffix", ["webm", "mp4", "mkv"])
def test_frames_and_times_come_back(tmp_path, suffix):
    video, times = moving_square(), [0.0, *(0.1 + 0.083 * index for index in range(17))]
    clip = decode(write_video(tmp_path / f"a.{suffix}", video, times))
    assert clip.frames.shape == video.shape and clip.frames.dtype == np.uint8
    assert np.abs(clip.frames.astype(int) - video).mean() < 6
    assert clip.times == pytest.approx(times, abs=6e-4)
    assert not clip.truncated


def test_red_is_red(tmp_path):
    video = np.zeros((3, 48, 64, 3), np.uint8)
    video[..., 0] = 255
    red, green, blue = decode(write_video(tmp_path / "a.mp4", video)).frames.mean(axis=(0, 1, 2))
    assert red > 245 and green < 10 and blue < 10


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        ((0, 1, -1, 0), lambda frame: np.rot90(frame, -1)),
        ((-1, 0, 0, -1), lambda frame: np.rot90(frame, 2)),
        ((0, -1, 1, 0), lambda frame: np.rot90(frame, 1)),
        ((-1, 0, 0, 1), lambda frame: frame[:, ::-1]),
        ((1, 0, 0, -1), lambda frame: frame[::-1]),
        ((0, 1, 1, 0), lambda frame: frame.transpose(1, 0, 2)),
    ],
)
def test_display_matrix_is_applied(tmp_path, matrix, expected):
    path = write_video(tmp_path / "a.mp4", moving_square(3))
    plain = decode(path).frames[1]
    turned = decode(turn(path, *matrix)).frames[1]
    assert np.array_equal(turned, expected(plain))


def test_non_square_pixels_become_square(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        container.mux(stream.encode(av.VideoFrame.from_ndarray(moving_square(1)[0], format="rgb24")))
        container.mux(stream.encode(None))
    assert decode(path).frames.shape == (1, 48, 128, 3)


@pytest.mark.parametrize("suffix", ["webm", "mkv"])
def test_truncated_tail_is_reported(tmp_path, suffix):
    clip = decode(cut(write_video(tmp_path / f"a.{suffix}", moving_square(40)), 0.7))
    assert clip.truncated and 0 < len(clip.frames) < 40
    assert "truncated" in clip.problem or "decoding ends" in clip.problem


def test_what_is_no_video_says_so(tmp_path):
    (tmp_path / "text.mp4").write_text("not a video")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder").mkdir()
    for name in ("text.mp4", "empty.mp4", "missing.mp4", "folder"):
        with pytest.raises(Unreadable) as error:
            decode(tmp_path / name)
        assert name in error.value.message and error.value.reason


def test_stamps_in_disorder_are_sorted_and_frames_are_not():
    assert Track([0.04, 0.08, 0.16, 0.12]).times == [0.04, 0.08, 0.12, 0.16]
    assert Track([None, None, 0.5], rate=10).times == [0.0, 0.1, 0.2]


def test_samples_are_equally_spaced_in_time_not_in_index():
    even = [index / 12 for index in range(31)]
    assert sample_indices(even, 16) == list(range(0, 31, 2))
    assert sample_indices(even, 31) == list(range(31))
    crowded = [0.0, 0.01, 0.02, 0.03, 0.5, 1.0]  # four frames in the first instant
    assert sample_indices(crowded, 3) == [0, 4, 5]


def test_a_frame_half_way_between_two_is_the_earlier():
    assert sample_indices([0.0, 1.0, 2.0, 3.0], 3) == [0, 1, 3]


def test_too_few_frames_to_sample_is_an_error():
    with pytest.raises(FcaError, match="16 frames are needed, 3 are there"):
        sample_indices([0, 1, 2], 16)


def write_images(folder, video, pattern="im_{}.png"):
    folder.mkdir(parents=True, exist_ok=True)
    for index, picture in enumerate(video):
        ok, data = cv2.imencode(".png", picture[..., ::-1])
        assert ok
        (folder / pattern.format(index)).write_bytes(data)
    return folder


def test_pictures_are_in_numeric_order_and_any_path_is_read(tmp_path):
    video = moving_square(12)
    folder = write_images(tmp_path / "bilder-äöü-日本", video)
    (folder / "notes.txt").write_text("no picture")
    assert [path.name for path in list_images(folder)][:3] == ["im_0.png", "im_1.png", "im_2.png"]
    assert np.array_equal(decode(folder).frames, video)
    assert decode(folder, fps=5).times[:3] == [0.0, 0.2, 0.4]


def test_unreadable_picture_is_named(tmp_path):
    (tmp_path / "a.png").write_bytes(b"not a picture")
    (tmp_path / "b.png").touch()
    for name in ("a.png", "b.png", "c.png"):
        with pytest.raises(Unreadable, match=name):
            read_image(tmp_path / name)


def test_given_frames_are_the_first_of_a_short_source(tmp_path):
    video = moving_square(5)
    folder, said = write_images(tmp_path / "frames", video), []
    assert np.array_equal(load_source(folder, 2, 16, said.append), video[:2])
    assert "5 frames, given are the first 2; a whole action would have 16 or more" in said[0].text
    assert len(load_source(folder, 5, 16, said.append)) == 5 and len(said) == 1, "all that there are: nothing to say"
    path = write_video(tmp_path / "a.mp4", video)
    assert np.array_equal(load_source(path, 2, 16)[:2], decode(path).frames[:2])
    assert np.array_equal(load_source(folder / "im_3.png", 1, 16), video[3:4])


def test_given_frames_of_a_whole_action_have_the_spacing_of_training(tmp_path):
    video, said = moving_square(31), []
    folder = write_images(tmp_path / "frames", video)
    source = load_source(folder, 2, 16, said.append, lambda frame: frame[::2])
    assert np.array_equal(source, video[::2, ::2]), "what followed is there as well"
    assert "0.00, 0.17 s" in said[0].text


def test_too_few_given_frames_name_how_many_are_needed(tmp_path):
    folder = write_images(tmp_path / "frames", moving_square(1))
    for path in (folder, folder / "im_0.png"):
        with pytest.raises(FcaError, match="holds 1 frame, 2 initial frames are needed") as error:
            load_source(path, 2, 16)
        assert "--init-frames" in error.value.hint


@pytest.mark.parametrize("name", ["missing", "notes.txt", "empty", "broken.mp4", "broken.png"])
def test_unusable_given_frames_are_one_clear_error(tmp_path, name):
    (tmp_path / "notes.txt").write_text("text")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.mp4").write_bytes(b"x")
    (tmp_path / "broken.png").write_bytes(b"x")
    with pytest.raises(FcaError, match=name):
        load_source(tmp_path / name, 1, 16)


@pytest.mark.parametrize(
    ("name", "shape", "last"),
    [
        ("decode_edge/av1_video.mkv", (125, 360, 640, 3), 4.96),
        ("decode_edge/test_video_66x50.mov", (82, 50, 66, 3), 1.35),  # the header says 87
        ("decode_edge/flipping_a_pancake.mkv", (310, 240, 426, 3), 10.3),  # no count in the header
        ("decode_edge/video_0.mov", (3, 320, 568, 3), 0.067),
        ("decode_edge/video_270.mov", (3, 568, 320, 3), 0.067),  # rotated by its display matrix
        ("ucf101/UCF-101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi", (164, 240, 320, 3), 6.56),  # stamps in disorder
        ("ssv2/20bn-something-something-v2/2.webm", (48, 240, 427, 3), 3.917),
        ("ssv2/rawframes/2", (48, 240, 427, 3), 47 / 12),
        ("video_folder/finetrainers/videos/hiker_tiny.mp4", (49, 240, 368, 3), 6.0),
    ],
)
def test_real_videos(name, shape, last):
    clip = decode(fixture(name))
    assert clip.frames.shape == shape and len(clip.times) == shape[0]
    assert clip.times[-1] == pytest.approx(last, abs=1e-3) and clip.times == sorted(clip.times)
    assert not clip.truncated


def test_real_rotated_video_is_upright():
    upright = decode(fixture("decode_edge/video_270.mov")).frames[0]
    with av.open(str(fixture("decode_edge/video_270.mov"))) as container:
        coded = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert np.array_equal(upright, np.rot90(coded, 1))


def test_real_corrupted_video_reports_where_it_breaks():
    clip = decode(fixture("decode_edge/corrupted.mp4"))  # the header says 50
    assert len(clip.frames) == 28
    assert clip.problem == "decoding ends after 28 frames: Invalid data found when processing input"
