"""FVD under its four presets against each recipe written out, and what must not change a clip's features."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from reference.plain_i3d import plain_logits, random_weights
from reference.published_fvd import DISTANCES, EPS, by_symmetric_svd, preprocessed

from fcacli.errors import FcaError
from fcacli.evaluation.fvd import DEFAULT_PRESET, PRESETS, I3DFeatures, resized

STATE = random_weights()
WIDE, TALL = (9, 90, 160, 3), (9, 300, 200, 3)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("i3d") / "i3d_pretrained_400.pt"
    torch.save(STATE, path)
    return path


def clip(shape: tuple[int, ...] = WIDE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def features(n: int, seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(9).standard_normal((20, 20)) / 4
    return rng.standard_normal((n, 20)) @ mix + shift


def test_presets_are_those_of_the_protocol():
    assert set(PRESETS) == set(EPS) and DEFAULT_PRESET == "videogpt"
    assert {name: preset.eps for name, preset in PRESETS.items()} == EPS
    assert {name: preset.ddof for name, preset in PRESETS.items()} == {"tf": 1, "styleganv": 0, "videogpt": 1, "cdfvd": 0}
    assert all(name in preset.conditions()["preset"] for name, preset in PRESETS.items())


@pytest.mark.parametrize("preset", sorted(PRESETS))
@pytest.mark.parametrize("shape", [WIDE, TALL, (9, 224, 224, 3), (9, 97, 101, 3)])
def test_frames_are_resized_as_each_recipe_says(preset, shape):
    video = clip(shape)[:, :, :, :1].repeat(3, axis=3)
    video[:, 0, 0, 2] = 7  # so that channels that are mixed up are seen
    ours = resized(video, PRESETS[preset].resize).numpy()
    assert ours.shape == (3, 9, 224, 224)
    assert (
        np.abs(ours - preprocessed(video, preset)).max() < 1e-4
    )  # of 2; neighbours are noise, and float32 places are off by 1e-5 of a pixel


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_the_distance_is_that_of_each_recipe(preset):
    x, y = features(60, 0), features(50, 1, 0.5)
    assert PRESETS[preset].distance(x, y) == pytest.approx(DISTANCES[preset](x, y), rel=1e-8)


def test_float32_as_the_references_compute_it_is_near():
    x, y = features(300, 0), features(300, 1, 0.5)
    assert by_symmetric_svd(x, y, np.float32) == pytest.approx(PRESETS["videogpt"].distance(x, y), rel=1e-4)


def test_golden_numbers():
    x, y = features(40, 0), features(30, 1, 0.25)
    found = [PRESETS[name].distance(x, y) for name in ("tf", "styleganv", "videogpt", "cdfvd")]
    assert found == pytest.approx([GOLDEN[0], GOLDEN[1], GOLDEN[0], GOLDEN[1]], rel=1e-10)


GOLDEN = (7.348402766118, 7.191431695744)


@pytest.mark.parametrize("preset", ["videogpt", "styleganv"])
def test_features_are_the_logits_of_the_resized_clip(weights, preset):
    extract = I3DFeatures(weights, PRESETS[preset])
    expected = plain_logits(STATE, torch.from_numpy(preprocessed(clip(), preset)).float()[None], EPS[preset])
    rows = extract([clip()])
    assert rows.dtype == np.float64
    assert np.abs(rows - expected.numpy()).max() < 1e-4 * float(expected.std())


def test_a_row_depends_on_its_clip_alone(weights):
    extract = I3DFeatures(weights, PRESETS["videogpt"])
    one, other = clip(), clip(TALL)
    together = extract([other, one])
    assert np.array_equal(extract([one])[0], together[1])
    assert not np.allclose(together[0], together[1])


def test_folded_and_exact_arithmetic_give_the_same_distance(weights):
    videos = [clip((9, 40, 40, 3), seed) for seed in range(3)]
    sets = [I3DFeatures(weights, PRESETS["videogpt"], arithmetic=name)(videos) for name in ("exact", "folded")]
    assert 0 < np.abs(sets[0] - sets[1]).max() < 1e-4 * sets[0].std()
    distances = [PRESETS["videogpt"].distance(rows[:2], rows[1:]) for rows in sets]
    assert distances[1] == pytest.approx(distances[0], rel=1e-4)


def test_identity_tells_apart_whatever_changes_features(weights, tmp_path):
    torch.save({**STATE, "logits.conv3d.bias": STATE["logits.conv3d.bias"] + 1}, tmp_path / "i3d.pt")
    made = [I3DFeatures(weights, PRESETS[name]) for name in ("videogpt", "cdfvd", "styleganv")]
    made += [
        I3DFeatures(weights, PRESETS["videogpt"], arithmetic="exact"),
        I3DFeatures(tmp_path / "i3d.pt", PRESETS["videogpt"]),
    ]
    assert len({extract.identity for extract in made}) == len(made)
    shutil.copy(weights, tmp_path / "of another name.pt")
    assert I3DFeatures(tmp_path / "of another name.pt", PRESETS["videogpt"]).identity == made[0].identity


@pytest.mark.parametrize(
    "video,said",
    [(clip((8, 64, 64, 3)), "at least 9 frames, got 8"), (clip((9, 64, 64, 4)), "uint8"), (clip().astype(np.float32), "uint8")],
)
def test_clips_that_i3d_cannot_read_are_one_error(weights, video, said):
    with pytest.raises(FcaError, match=said):
        I3DFeatures(weights, PRESETS["videogpt"])([video])
