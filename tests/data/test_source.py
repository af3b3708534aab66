"""Sources: what each kind yields, says of itself, and how it travels."""

import pickle

import numpy as np
import pytest
from fixtures_path import fixture
from raw_videos import cut, moving_square, turn, write_video

from fcacli.data import source as sources
from fcacli.data.decode import Track, Unreadable, decode
from fcacli.data.source import Array, NumberedPictures, PictureBytes, Pictures, Video, VideoBytes
from fcacli.data.video import Span


def write_pictures(folder, count, suffix="png"):
    from PIL import Image

    folder.mkdir()
    for number in range(1, count + 1):
        Image.fromarray(np.full((20, 30, 3), number, np.uint8)).save(folder / f"f{number}.{suffix}")
    return folder


@pytest.fixture
def kinds(tmp_path):
    """One source of each kind, each of 12 frames."""
    video = write_video(tmp_path / "a.mp4", moving_square(30), fps=10)
    folder = write_pictures(tmp_path / "pictures", 12)
    packed, places = b"xyz", []
    for number in range(1, 13):
        data = (folder / f"f{number}.png").read_bytes()
        places.append((len(packed), len(data)))
        packed += data
    (tmp_path / "packed").write_bytes(packed)
    short = write_video(tmp_path / "b.mp4", moving_square(12), fps=10)
    return [
        Video(short),
        Video(video, Span(0.5, count=12)),
        Video(video, Span(1.0, 2.2)),
        VideoBytes(tmp_path / "all.tar", "7.webm", write_video(tmp_path / "7.webm", moving_square(12)).read_bytes()),
        Pictures(folder, 10.0),
        NumberedPictures(folder, "f{}.png", range(1, 13), 10.0),
        PictureBytes(tmp_path / "packed", "0/image", tuple(places), 10.0),
        Array(tmp_path / "packed", "0", moving_square(12), 10.0),
    ]


def test_each_kind_reads_the_same_after_a_journey(kinds):
    for source in kinds:
        track, other = Track(), Track()
        frames = list(source.frames(track))
        assert len(frames) == 12 and track.problem == "" and len(track.times) == 12, source
        again = list(pickle.loads(pickle.dumps(source)).frames(other))
        assert np.array_equal(frames, again) and track.times == other.times


def test_labels_are_unique_and_below_the_root(kinds, tmp_path):
    labels = [source.label(tmp_path) for source in kinds]
    assert labels == [
        "b.mp4",
        "a.mp4#0.500+12",
        "a.mp4#1.000-2.200",
        "all.tar#7.webm",
        "pictures",
        "pictures#1-12",
        "packed#0/image",
        "packed#0",
    ]


def test_state_and_digest_follow_the_piece(kinds, tmp_path):
    (tmp_path / "all.tar").touch()
    before = [(source.state(), source.digest()) for source in kinds]
    assert [digest == "" for _, digest in before] == [False, True, True, *[False] * 5]  # spans: dearer than decoding
    write_pictures(tmp_path / "new", 13)
    (tmp_path / "new" / "f13.png").rename(tmp_path / "pictures" / "f12.png")
    after = [(source.state(), source.digest()) for source in kinds]
    changed = [a != b for a, b in zip(before, after, strict=True)]
    assert changed == [False] * 4 + [True, True, False, False]


@pytest.mark.parametrize("fps", [10, 25, 29.97])
def test_a_span_holds_the_frames_nearest_to_its_ends(tmp_path, fps):
    from fractions import Fraction

    rate = Fraction(fps).limit_denominator(1001)
    times = [float(n / rate) for n in range(60)]
    video = write_video(tmp_path / "a.mp4", moving_square(60), times, fps=round(fps))
    whole = decode(video)
    for start, stop in [(0.0, 1.0), (0.5, 1.2), (times[7], times[20]), (times[7] - 0.004, times[20] + 0.004)]:
        track = Track()
        frames = list(Video(video, Span(start, stop)).frames(track))
        wanted = [n for n, time in enumerate(times) if start - 0.5 / fps <= time < stop - 0.5 / fps]
        assert np.array_equal(frames, whole.frames[wanted]), (start, stop)
        assert track.times == pytest.approx([times[n] for n in wanted], abs=2e-3)


def test_a_span_of_a_video_with_frames_out_of_order(tmp_path):
    import av

    path = tmp_path / "a.mp4"  # as cameras write it: frames refer to later ones, groups of 12
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"bf": "3", "g": "12", "x264-params": "open-gop=1"})
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for picture in moving_square(90):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    whole = decode(path)
    assert len(whole.frames) == 90
    for first in (0, 5, 11, 12, 13, 47, 80):
        track = Track()
        frames = list(Video(path, Span(whole.times[first], count=10)).frames(track))
        assert np.array_equal(frames, whole.frames[first : first + 10]), first
        assert track.problem == "" and track.times == whole.times[first : first + 10]


def test_a_span_of_a_real_video_in_av1():
    path = fixture("lerobot/v2.1_g1") / "videos" / "chunk-000" / "observation.images.cam_high" / "episode_000029.mp4"
    whole = decode(path)
    for first in (0, 1, 100, 191):
        frames = list(Video(path, Span(first / 30, count=30)).frames(Track()))
        assert np.array_equal(frames, whole.frames[first : first + 30]), first


def test_spans_that_follow_each_other_share_no_frame(tmp_path):
    video = write_video(tmp_path / "a.mp4", moving_square(40), fps=10)
    pieces = [list(Video(video, Span(start, start + 0.7)).frames(Track())) for start in (0.0, 0.7, 1.4, 2.1)]
    assert np.array_equal(np.concatenate(pieces), decode(video).frames[:28])


def test_a_span_behind_the_end_is_unreadable(tmp_path):
    video = write_video(tmp_path / "a.mp4", moving_square(10), fps=10)
    with pytest.raises(Unreadable, match=r"the video ends at 1\.00 s, the clip at 6\.00 s"):
        list(Video(video, Span(5.0, 6.0)).frames(Track()))
    with pytest.raises(Unreadable, match=r"0 of 3 frames are there: the video ends at 1\.00 s"):
        list(Video(video, Span(5.0, count=3)).frames(Track()))


def test_members_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "LARGEST_FILE", 1000)
    (tmp_path / "a").write_bytes(bytes(5000))
    with pytest.raises(Unreadable, match="x holds a picture of 4,000 bytes"):
        list(PictureBytes(tmp_path / "a", "x", ((0, 4000),)).frames(Track()))
    with pytest.raises(Unreadable, match="not a picture"):
        list(PictureBytes(tmp_path / "a", "x", ((4990, 400),)).frames(Track()))


def test_broken_pieces_name_their_place(tmp_path):
    data = cut(write_video(tmp_path / "a.mp4", moving_square())).read_bytes()
    with pytest.raises(Unreadable, match=r"cannot read .*all\.tar/7\.webm: "):
        list(VideoBytes(tmp_path / "all.tar", "7.webm", data).frames(Track()))


def test_a_turned_piece_is_upright(tmp_path):
    data = turn(write_video(tmp_path / "a.mp4", moving_square(3)), 0, 1, -1, 0).read_bytes()
    assert next(VideoBytes(tmp_path, "a", data).frames(Track())).shape == (64, 48, 3)


@pytest.mark.parametrize(
    ("name", "outcome"),
    [
        ("corrupted.mp4", (28, 720, 1280, "decoding ends after 28 frames: Invalid data found when processing input")),
        ("video_270.mov", (3, 568, 320, "")),  # rotated
        ("test_video_66x50.mov", (82, 50, 66, "")),  # its header says 87
        ("av1_video.mkv", (125, 360, 640, "")),
        ("flipping_a_pancake.mkv", (310, 240, 426, "")),  # no count in its header
    ],
)
def test_real_broken_files(name, outcome):
    track = Track()
    frames = list(Video(fixture(f"decode_edge/{name}")).frames(track))
    assert (len(frames), *frames[0].shape[:2], track.problem) == outcome


def test_a_file_that_git_lfs_did_not_fetch_says_so(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n")
    with pytest.raises(Unreadable, match="it is a Git LFS pointer: git lfs pull"):
        list(Video(path).frames(Track()))


def test_a_video_of_an_unknown_codec_is_unreadable(tmp_path):
    path = write_video(tmp_path / "a.mp4", moving_square(3))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(Unreadable, match="in a format that is not known here"):
        list(Video(path).frames(Track()))
