"""Frames to files and back: what is exact, what is close, what is shown how large."""

from pathlib import Path

import numpy as np
import pytest

from fcacli.errors import FcaError
from fcacli.prediction.video import enlarge, read_pngs, view_factor, write_gif, write_mp4, write_pngs


def _frames(height: int = 48, width: int = 48, count: int = 16) -> np.ndarray:
    rows = np.linspace(40, 200, height)[None, :, None, None]
    columns = np.linspace(0, 40, width)[None, None, :, None]
    frames = np.broadcast_to(rows + columns, (count, height, width, 3)).copy()
    for t in range(count):
        frames[t, 8:20, t : t + 12] = (200, 60, 40)
    return frames.astype(np.uint8)


def test_equal_frames_give_equal_files(tmp_path: Path) -> None:
    rows, columns = np.mgrid[0:40, 0:48]
    video = np.stack([np.stack([3 * rows, columns + 20, 0 * rows], -1)] * 20).astype(np.uint8)
    for t in range(20):
        video[t, 12:22, t : t + 10] = (220, 40, 30)
    files = set()
    for _ in range(40):
        write_mp4(tmp_path / "a.mp4", video, 12)
        files.add((tmp_path / "a.mp4").read_bytes())
    assert len(files) == 1


@pytest.mark.parametrize(("height", "width", "fps"), [(192, 192, 12), (48, 64, 8), (33, 47, 7.5)])
def test_mp4_holds_every_frame_at_its_rate_and_colour(tmp_path: Path, height: int, width: int, fps: float) -> None:
    import av

    frames = _frames(height, width)
    write_mp4(tmp_path / "clip.mp4", frames, fps)
    with av.open(str(tmp_path / "clip.mp4")) as container:
        stream = container.streams.video[0]
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
        assert stream.codec_context.name == "h264"
        assert stream.codec_context.pix_fmt == "yuv420p"
        assert float(stream.average_rate or 0) == pytest.approx(fps)
    assert decoded.shape == (16, height + height % 2, width + width % 2, 3)
    assert np.abs(decoded[:, :height, :width].astype(int) - frames).mean() < 3


def test_gif_loops_and_lasts_as_long_as_the_clip(tmp_path: Path) -> None:
    from PIL import Image

    frames = _frames()
    write_gif(tmp_path / "clip.gif", frames, fps=12, hold=1.0)
    with Image.open(tmp_path / "clip.gif") as gif:
        assert gif.info["loop"] == 0
        milliseconds = 0
        for number in range(gif.n_frames):
            gif.seek(number)
            milliseconds += gif.info["duration"]
        assert np.abs(np.asarray(gif.convert("RGB")).astype(int) - frames[-1]).mean() < 3
    assert milliseconds == pytest.approx(16 / 12 * 1000 + 1000, abs=20)


def test_pngs_are_exact(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (3, 17, 23, 3), dtype=np.uint8)
    assert [path.name for path in write_pngs(tmp_path / "frames", frames)] == ["000.png", "001.png", "002.png"]
    assert (read_pngs(tmp_path / "frames") == frames).all()


@pytest.mark.parametrize("old", [False, True])
def test_over_a_thousand_pngs_keep_their_order(tmp_path: Path, old: bool) -> None:
    frames = np.zeros((1002, 1, 1, 3), np.uint8)
    frames[:, 0, 0, 0], frames[:, 0, 0, 1] = np.arange(1002) // 256, np.arange(1002) % 256
    paths = write_pngs(tmp_path, frames)
    assert [paths[0].name, paths[-1].name] == ["0000.png", "1001.png"] and paths == sorted(paths)
    for number, path in enumerate(paths if old else ()):  # as earlier versions named them
        path.rename(tmp_path / f"{number:03d}.png")
    assert (read_pngs(tmp_path) == frames).all()


def test_a_broken_or_missing_frame_is_named(tmp_path: Path) -> None:
    write_pngs(tmp_path, _frames(count=2))
    (tmp_path / "001.png").write_bytes(b"no picture")
    with pytest.raises(FcaError, match=r"001\.png"):
        read_pngs(tmp_path)
    with pytest.raises(FcaError, match="no frames"):
        read_pngs(tmp_path / "elsewhere")


def test_small_videos_are_enlarged_by_whole_factors_for_viewing() -> None:
    assert [view_factor(*size) for size in ((48, 48), (64, 96), (256, 256), (720, 480))] == [4, 3, 1, 1]
    frames = _frames(count=1)
    assert (enlarge(frames, 4)[:, ::4, ::4] == frames).all()
    assert enlarge(frames, 4).shape == (1, 192, 192, 3)


def test_wrong_arrays_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        write_mp4(tmp_path / "a.mp4", np.zeros((2, 8, 8, 3)), 8)


def test_frequent_colours_survive_in_a_gif_of_many(tmp_path: Path) -> None:
    from PIL import Image

    frames = np.random.default_rng(0).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    frames[:, :20] = 255
    write_gif(tmp_path / "noise.gif", frames, fps=8)
    with Image.open(tmp_path / "noise.gif") as gif:
        assert (np.asarray(gif.convert("RGB"))[:20] == 255).all()
