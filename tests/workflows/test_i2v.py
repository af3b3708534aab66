"""A pre-trained image-to-video pipeline as a row: which frame it sees, which of its frames count, and nothing made twice."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from trained_run import CLIP, VAL_CLIPS, make_workspace, source_video

from fcacli.config import SampleConfig
from fcacli.data.resize import resize
from fcacli.errors import FcaError, Misuse
from fcacli.events import Event, Progress
from fcacli.workflows import i2v
from fcacli.workflows.evaluate import evaluate_run
from fcacli.workflows.scoring_plan import Scoring
from fcacli.workspace import write_json


@pytest.fixture(scope="session")
def pipeline_folder(tmp_path_factory: pytest.TempPathFactory, write_base: Callable[..., Path]) -> Path:
    """An image-to-video pipeline of random weights: 32x32 pixels, 13 frames."""
    folder = write_base(tmp_path_factory.mktemp("i2v") / "tiny", in_channels=8)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": "CogVideoXImageToVideoPipeline"}))
    return folder


def _given() -> np.ndarray:
    return resize(source_video(1), 32, 32)[:2]


def test_it_sees_the_last_given_frame_and_all_its_frames_are_spread_over_the_clip() -> None:
    seen: dict[str, object] = {}

    class Parts:
        sample_width = sample_height = 8
        sample_frames, max_text_seq_length = 29, 12

    class Pipe:
        vae_scale_factor_spatial = 4
        transformer = type("Transformer", (), {"config": Parts})

        def __call__(self, **asked: object) -> object:
            seen.update(asked)
            frames = np.full((29, 32, 32, 3), 0.25) + np.arange(29)[:, None, None, None] / 255
            return type("Output", (), {"frames": [frames]})

    given = _given()
    video = i2v.predict(Pipe(), given, "pushing cup", CLIP, SampleConfig(steps=3, guidance=2.0, seed=7))
    assert (np.asarray(seen["image"]) == given[1]).all()
    assert (seen["num_frames"], seen["num_inference_steps"], seen["guidance_scale"]) == (29, 3, 2.0)
    assert video.shape == (16, 32, 32, 3)
    assert (video[:2] == given).all()
    assert video[2:, 0, 0, 0].tolist() == [round(63.75 + step) for step in range(2, 29, 2)]


def test_its_row_is_generated_once_for_all_runs(
    tmp_path: Path, tiny_base_folder: Path, pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(i2v, "STEPS", 2)
    workspace, events = make_workspace(tmp_path, tiny_base_folder), []
    scoring = Scoring(metrics=("psnr",))
    first = evaluate_run(workspace, scoring=scoring, i2v=str(pipeline_folder), report=events.append)
    row = first.results["rows"][-1]
    assert (row["name"], row["role"]) == (str(pipeline_folder), "pipeline")
    assert row["about"]["fingerprint"]
    assert row["about"]["size"] == "32x32 -> 32x32 -> 32x32, the aspect ratio kept"
    assert _made(events) == VAL_CLIPS
    assert row["metrics"]["psnr"]["value"] not in [other["metrics"]["psnr"]["value"] for other in first.results["rows"][:-1]]
    events.clear()
    again = evaluate_run(workspace, checkpoint="2", scoring=scoring, i2v=str(pipeline_folder), report=events.append)
    assert _made(events) is None
    assert again.results["rows"][-1]["metrics"] == row["metrics"]
    assert len(list((workspace.data / "toy" / "cache" / "i2v-predictions").glob("[!.]*"))) == VAL_CLIPS


def test_a_frame_that_it_stretches_is_said(tmp_path: Path) -> None:
    write_json(tmp_path / "transformer" / "config.json", {"sample_width": 90, "sample_height": 60})
    write_json(tmp_path / "vae" / "config.json", {"block_out_channels": [128, 256, 256, 512]})
    pipeline = i2v.Pipeline("theirs", tmp_path, "cpu")
    said = "stretched 32x32 -> 720x480 -> 32x32, aspect ratio 1.00 -> 1.50 and back: it sees a distorted frame"
    assert pipeline.stretched(CLIP) == said
    write_json(tmp_path / "vae" / "config.json", {})
    with pytest.raises(FcaError, match="its configuration states no size"):
        pipeline.stretched(CLIP)


def _made(events: list[Event]) -> int | None:
    counts = [event.done for event in events if isinstance(event, Progress) and event.phase == "predict, image to video"]
    return counts[-1] if counts else None


def test_what_is_no_such_pipeline_is_refused_before_anything_is_predicted(
    tmp_path: Path, tiny_base_folder: Path, pipeline_folder: Path
) -> None:
    with pytest.raises(Misuse, match="--i2v nowhere: not a folder, a hub id"):
        i2v.find_pipeline("nowhere", "cpu")
    with pytest.raises(FcaError, match="is CogVideoXPipeline; a CogVideoXImageToVideoPipeline is needed"):
        i2v.find_pipeline(str(tiny_base_folder), "cpu")
    with pytest.raises(FcaError, match="is no pipeline in diffusers layout"):
        i2v.find_pipeline(str(tmp_path), "cpu")
    broken = shutil.copytree(pipeline_folder, tmp_path / "broken")
    (broken / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(FcaError, match=r"cannot load --i2v .*broken"):
        i2v._load(i2v.find_pipeline(str(broken), "cpu"))
