"""Every network, loaded by the plan: the numbers of an evaluation are those of the network used by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from trained_run import source_video

from fcacli.evaluation import weights
from fcacli.evaluation.clip_similarity import ClipSimilarity
from fcacli.evaluation.frechet import frechet_distance
from fcacli.evaluation.fvd import PRESETS, I3DFeatures
from fcacli.evaluation.i3d import I3D
from fcacli.evaluation.inception import Inception, InceptionFeatures
from fcacli.evaluation.kernel import kernel_distance, kernel_distance_seer
from fcacli.evaluation.lpips import AlexNetFeatures, LinearWeights, Lpips
from fcacli.model.bases import MINI
from fcacli.prediction.video import write_pngs
from fcacli.workflows.evaluate_folders import evaluate_folders
from fcacli.workflows.scoring_plan import Scoring

GIVEN, FRAMES, TEXT = 7, 9, "pushing red cup left"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Seeded weights of every network."""
    folder = tmp_path_factory.mktemp("weights")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks = {"i3d": I3D(), "lpips-trunk": AlexNetFeatures(), "lpips-linear": LinearWeights(), "inception": Inception()}
    for name, network in networks.items():
        torch.save({key: value.abs() if "lin" in key else value for key, value in network.state_dict().items()}, folder / name)
    return {**{name: folder / name for name in networks}, "clip": MINI / "clip"}


def test_numbers_are_those_of_the_networks_by_hand(
    tmp_path: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "find_weights", lambda name, folder: files[name])
    truths = [source_video(number, FRAMES) for number in range(2)]
    videos = [np.roll(truth, 3, axis=2) for truth in truths]
    for number in range(2):
        write_pngs(tmp_path / "real" / f"v{number}", truths[number])
        write_pngs(tmp_path / "pred" / f"v{number}", videos[number])
        (tmp_path / "real" / f"v{number}.txt").write_text(TEXT)
    names = ("lpips", "clip-text", "clip-init", "fvd", "kvd", "kvd-seer", "fid")
    scoring = Scoring(metrics=names, fvd_preset="cdfvd")
    found = evaluate_folders(tmp_path / "pred", tmp_path / "real", given=GIVEN, scoring=scoring).results["metrics"]
    assert list(found) == list(names)

    lpips = Lpips(files["lpips-trunk"], files["lpips-linear"])
    by_clip = [lpips(video[GIVEN:], truth[GIVEN:]).mean() for video, truth in zip(videos, truths, strict=True)]
    assert found["lpips"]["per_clip"] == pytest.approx(by_clip, abs=1e-6)
    clip = ClipSimilarity(files["clip"])
    assert found["clip-text"]["value"] == pytest.approx(
        np.mean([clip.frame_text(video[GIVEN:], TEXT) for video in videos]), abs=1e-5
    )
    by_init = [clip.frame_init(video[GIVEN:], truth[0]) for video, truth in zip(videos, truths, strict=True)]
    assert found["clip-init"]["per_frame"] == pytest.approx(np.mean(by_init, axis=0), abs=1e-5)

    i3d = I3DFeatures(files["i3d"], PRESETS["cdfvd"])
    x, y = i3d(videos), i3d(truths)
    assert found["fvd"]["value"] == pytest.approx(frechet_distance(x, y, ddof=0), rel=1e-9)
    assert found["kvd"]["value"] == pytest.approx(kernel_distance(x, y), rel=1e-9)
    assert found["kvd-seer"]["value"] == pytest.approx(kernel_distance_seer(x, y), rel=1e-9)
    inception = InceptionFeatures(files["inception"])
    x, y = (inception([video[GIVEN:] for video in every]) for every in (videos, truths))
    assert found["fid"]["value"] == pytest.approx(frechet_distance(x, y), rel=1e-6)

    assert found["fvd"]["conditions"]["preset"] == "cdfvd"
    assert found["fvd"]["conditions"]["weights"] == {"i3d": {"file": "i3d", "checksum": "unverified, pinned"}}
    assert "7 given ones too" in found["fvd"]["conditions"]["frames"]


@pytest.mark.parametrize("preset, said", [("tf", True), ("videogpt", False)])
def test_weights_trained_with_another_epsilon_are_said(
    tmp_path: Path, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, preset: str, said: bool
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "find_weights", lambda name, folder: files[name])
    for number in range(2):
        write_pngs(tmp_path / "real" / f"v{number}", source_video(number, FRAMES))
    found = evaluate_folders(tmp_path / "real", tmp_path / "real", scoring=Scoring(metrics=("fvd",), fvd_preset=preset))
    assert ("trained with BatchNorm eps 1e-05, the preset has 0.001" in found.table) is said
    assert ("trained with" in found.results["metrics"]["fvd"]["conditions"]["BatchNorm eps"]) is said
