"""Features are computed once for equal frames, never taken for other ones, and a clip that cannot be used is named."""

import multiprocessing
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from fcacli.errors import FcaError
from fcacli.evaluation.feature_cache import FeatureCache
from fcacli.events import Progress


class Means:
    """Mean colours of each frame, or of each clip; counts what it has read."""

    def __init__(self, identity: str = "means", axes: tuple[int, ...] = (0, 1, 2)):
        self.identity, self.axes, self.read = identity, axes, 0

    def __call__(self, videos):
        self.read += len(videos)
        return np.concatenate([video.mean(self.axes, dtype=np.float64).reshape(-1, 3) for video in videos])


def clips(count: int = 5) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {f"clip {n}": rng.integers(0, 256, (4, 6, 8, 3), np.uint8) for n in range(count)}


def test_rows_come_in_the_order_of_names(tmp_path):
    videos = clips()
    names = ["clip 3", "clip 0", "clip 4"]
    rows = FeatureCache(tmp_path).features(Means(), names, videos.__getitem__)
    assert np.array_equal(rows, [videos[name].mean((0, 1, 2)) for name in names])


def test_an_extractor_of_frames_has_a_row_a_frame(tmp_path):
    videos = clips()
    cache, per_frame = FeatureCache(tmp_path), Means(axes=(1, 2))
    rows = cache.features(per_frame, list(videos), videos.__getitem__)
    assert rows.shape == (20, 3) and np.array_equal(rows[4:8], videos["clip 1"].mean((1, 2)))
    assert np.array_equal(cache.features(per_frame, list(videos), videos.__getitem__), rows) and per_frame.read == 5


def test_nothing_is_computed_twice_and_nothing_taken_for_something_else(tmp_path):
    videos, cache, means = clips(), FeatureCache(tmp_path), Means()
    rows = cache.features(means, list(videos), videos.__getitem__)
    assert np.array_equal(cache.features(means, list(videos), videos.__getitem__), rows) and means.read == 5
    renamed = {"other name": videos["clip 2"]}
    assert np.array_equal(cache.features(means, list(renamed), renamed.__getitem__), rows[2:3]) and means.read == 5
    videos["clip 2"][3, 5, 7, 2] ^= 1  # one bit
    assert not np.array_equal(cache.features(means, list(videos), videos.__getitem__), rows) and means.read == 6
    cache.features(Means("others"), list(videos), videos.__getitem__)
    turned = {"turned": videos["clip 0"].reshape(4, 8, 6, 3)}  # the same bytes
    cache.features(means, list(turned), turned.__getitem__)
    assert means.read == 7


def test_other_weights_are_another_extractor(tmp_path):
    videos, cache, other = clips(), FeatureCache(tmp_path), Means("other weights")
    cache.features(Means(), list(videos), videos.__getitem__)
    cache.features(other, list(videos), videos.__getitem__)
    assert other.read == 5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_name_the_clip_and_are_not_kept(tmp_path, value):
    videos = clips()

    class Broken(Means):
        def __call__(self, videos_given):
            rows = super().__call__(videos_given)
            return np.where(self.read == 3, value, rows)

    with pytest.raises(FcaError, match="clip 2: features that are not finite"):
        FeatureCache(tmp_path).features(Broken(), list(videos), videos.__getitem__)
    assert len(list(tmp_path.rglob("*.npy"))) == 2


def test_an_error_of_the_extractor_names_the_clip(tmp_path):
    class Refusing(Means):
        def __call__(self, videos):
            raise FcaError("too short", "leave it out")

    with pytest.raises(FcaError, match="clip 0: too short") as refused:
        FeatureCache(tmp_path).features(Refusing(), list(clips()), clips().__getitem__)
    assert refused.value.hint == "leave it out"


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY cut short", b"no array"])
def test_a_damaged_entry_is_computed_again(tmp_path, damage):
    videos, cache, means = clips(1), FeatureCache(tmp_path), Means()
    rows = cache.features(means, list(videos), videos.__getitem__)
    next(tmp_path.rglob("*.npy")).write_bytes(damage)
    assert np.array_equal(cache.features(means, list(videos), videos.__getitem__), rows) and means.read == 2


def _killed_at_the_fourth(folder: Path) -> None:
    videos = clips()

    def video(name: str) -> np.ndarray:
        if name == "clip 3":
            os.kill(os.getpid(), signal.SIGKILL)
        return videos[name]

    FeatureCache(folder).features(Means(), list(videos), video)


def test_a_killed_run_goes_on_where_it_was(tmp_path):
    process = multiprocessing.get_context("fork").Process(target=_killed_at_the_fourth, args=(tmp_path,))
    process.start()
    process.join()
    videos, means = clips(), Means()
    FeatureCache(tmp_path).features(means, list(videos), videos.__getitem__)
    assert process.exitcode == -signal.SIGKILL and means.read == 2


def test_one_clip_at_a_time_is_asked_for_and_told_of(tmp_path):
    asked, events, videos, means = [], [], clips(), Means()

    def video(name: str) -> np.ndarray:
        asked.append((name, means.read))
        return videos[name]

    FeatureCache(tmp_path).features(means, list(videos), video, events.append, "I3D")
    assert asked == [(name, n) for n, name in enumerate(videos)]
    assert events[0] == Progress("I3D", 0, 5) and events[-1] == Progress("I3D", 5, 5)
