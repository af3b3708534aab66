"""`predict`: what it finds, what it writes, what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from trained_run import CLIP, make_workspace, source_video

from fcacli.data.resize import resize
from fcacli.errors import FcaError, Misuse
from fcacli.prediction.sampler import encode_given
from fcacli.prediction.video import read_pngs, write_mp4, write_pngs
from fcacli.workflows.predict import predict
from fcacli.workflows.trained import Offload
from fcacli.workspace import Workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, tiny_base_folder: Path) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("predict"), tiny_base_folder)


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    write_pngs(tmp_path / "frames", source_video(0, frames=2))
    return tmp_path / "frames"


def test_writes_everything_and_what_made_it(workspace: Workspace, frames: Path) -> None:
    result = predict(workspace, frames, "pushing cup left")
    assert result.folder == workspace.predictions / "pushing-cup-left"
    assert result.step == 4
    names = {str(path.relative_to(result.folder)) for path in result.folder.rglob("*") if path.is_file()}
    pngs = {f"frames/{t:03d}.png" for t in range(16)}
    assert names == {"prediction.mp4", "prediction.gif", "contact_sheet.png", "prediction.json"} | pngs
    assert all(path.is_file() for path in result.files)
    video = read_pngs(result.folder / "frames")
    assert video.shape == (16, 32, 32, 3)
    assert (video[:2] == resize(source_video(0, frames=2), 32, 32)).all()
    made_by = json.loads((result.folder / "prediction.json").read_text())["made_by"]
    assert made_by["text"] == "pushing cup left"
    assert made_by["step"] == 4
    assert made_by["sampling"] == {"steps": 2, "guidance": 2.0, "sampler": "base", "seed": 0}
    assert len(made_by["adapter_sha256"]) == 64


def test_same_request_rewrites_its_folder_another_gets_its_own(workspace: Workspace, frames: Path) -> None:
    first = predict(workspace, frames, "a cup")
    pixels = read_pngs(first.folder / "frames")
    again = predict(workspace, frames, "a cup")
    assert again.folder == first.folder
    assert (read_pngs(again.folder / "frames") == pixels).all()
    other = predict(workspace, frames, "a cup", seed=1)
    assert other.folder.name == "a-cup-2"
    assert (read_pngs(other.folder / "frames") != pixels).any()
    assert predict(workspace, frames, "a cup", seed=1).folder == other.folder


def test_another_sampler_makes_another_prediction_and_is_written_down(workspace: Workspace, frames: Path) -> None:
    own, fresh = predict(workspace, frames, "pushing cup"), predict(workspace, frames, "pushing cup", sampler="fresh-noise")
    assert own.folder != fresh.folder
    assert json.loads((fresh.folder / "prediction.json").read_text())["made_by"]["sampling"]["sampler"] == "fresh-noise"
    videos = [read_pngs(made.folder / "frames") for made in (own, fresh)]
    assert (videos[0] != videos[1]).any()


def test_several_predictions_use_consecutive_seeds(workspace: Workspace, frames: Path) -> None:
    both = predict(workspace, frames, "two cups", num=2, seed=7)
    assert both.seeds == [7, 8]
    alone = predict(workspace, frames, "two cups", seed=8)
    assert (read_pngs(both.folder / "seed-8" / "frames") == read_pngs(alone.folder / "frames")).all()


def test_first_frames_come_from_a_folder_or_a_video_of_any_size(workspace: Workspace, tmp_path: Path) -> None:
    video = np.repeat(source_video(1, frames=2).repeat(3, axis=1).repeat(3, axis=2), 1, axis=0)
    write_mp4(tmp_path / "short.mp4", video, 12)
    result = predict(workspace, tmp_path / "short.mp4", "from a video", steps=1)
    given = read_pngs(result.folder / "frames")[:2].astype(int)
    assert np.abs(given - resize(video, 32, 32)).mean() < 4


def test_a_named_checkpoint_is_used(workspace: Workspace, frames: Path) -> None:
    by_name = predict(workspace, frames, "by name", checkpoint="step-000002")
    assert by_name.step == 2
    assert predict(workspace, frames, "by name", checkpoint="2").folder == by_name.folder
    assert predict(workspace, frames, "by name").folder != by_name.folder


def test_the_models_own_first_frames_are_shown_on_request(workspace: Workspace, frames: Path) -> None:
    own = read_pngs(predict(workspace, frames, "own", keep_generated_init=True).folder / "frames")
    replaced = read_pngs(predict(workspace, frames, "own").folder / "frames")
    assert (own[:2] != replaced[:2]).any()
    assert (own[2:] == replaced[2:]).all()


def test_out_is_never_written_over_something_else(workspace: Workspace, frames: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(FcaError, match="holds something else"):
        predict(workspace, frames, "a", out=tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    result = predict(workspace, frames, "a", out=tmp_path / "new")
    assert result.folder == tmp_path / "new"


@pytest.mark.parametrize("text", ["", "  \n"])
def test_empty_text_is_refused(workspace: Workspace, frames: Path, text: str) -> None:
    with pytest.raises(Misuse, match="text is empty"):
        predict(workspace, frames, text)


def test_missing_things_are_named(workspace: Workspace, frames: Path, tmp_path: Path) -> None:
    with pytest.raises(FcaError, match="no run"):
        predict(Workspace(tmp_path), frames, "a")
    with pytest.raises(FcaError, match="no run 'second'"):
        predict(workspace, frames, "a", run="second")
    with pytest.raises(FcaError, match="no checkpoint '9'"):
        predict(workspace, frames, "a", checkpoint="9")
    with pytest.raises(FcaError, match="nowhere"):
        predict(workspace, tmp_path / "nowhere", "a")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "0.png").write_bytes(b"not a picture")
    with pytest.raises(FcaError, match=r"0\.png"):
        predict(workspace, tmp_path / "bad", "a")


@pytest.mark.parametrize("offload", ["model", "sequential"])
def test_offloading_on_the_cpu_is_refused(workspace: Workspace, frames: Path, offload: Offload) -> None:
    with pytest.raises(Misuse, match="this is the CPU"):
        predict(workspace, frames, "a", offload=offload, device="cpu")


def test_unknown_devices_and_bad_numbers_are_refused(workspace: Workspace, frames: Path) -> None:
    with pytest.raises(Misuse, match="no kind of device"):
        predict(workspace, frames, "a", device="abacus")
    with pytest.raises(Misuse, match="--num"):
        predict(workspace, frames, "a", num=0)
    with pytest.raises(Misuse, match="steps"):
        predict(workspace, frames, "a", steps=0)


def test_a_transformer_in_main_memory_is_there_when_parts_of_it_are_called(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate.hooks import CpuOffload

    from fcacli.events import silent
    from fcacli.workflows.trained import find_trained, load_offloaded

    waiting = find_trained(workspace, None, None, "cpu", silent)
    adapter = load_offloaded(waiting, "model")
    fetched: list[object] = []
    bring = CpuOffload.pre_forward
    monkeypatch.setattr(
        CpuOffload,
        "pre_forward",
        lambda hook, module, *args, **more: fetched.append(module) or bring(hook, module, *args, **more),
    )
    given, _ = encode_given(waiting.base, resize(source_video(0, frames=2), 32, 32), "a")
    for layer in adapter.parallel_modules:
        condition = layer.condition
        monkeypatch.setattr(layer, "condition", lambda *args, first=condition: fetched.append("layer") or first(*args))
    monkeypatch.setattr(adapter, "config", replace(adapter.config, init_features="none"))
    fetched.clear()
    adapter.condition(waiting.base, given)
    assert fetched[0] is waiting.base.transformer and fetched.count("layer") == len(adapter.parallel_modules)


@pytest.mark.parametrize("how", ["model", "sequential"])
def test_offloading_changes_nothing_but_where_weights_wait(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, how: Offload
) -> None:
    """Diffusers' hooks with the CPU in the place of the device: the adapter's weights are there when they are needed."""
    import accelerate
    import torch

    from fcacli.events import silent
    from fcacli.prediction.sampler import predict_clip
    from fcacli.workflows.trained import find_trained, load_offloaded

    init_frames = resize(source_video(0, frames=2), 32, 32)
    trained = find_trained(workspace, None, None, "cpu", silent)
    expected = predict_clip(trained.base, trained.load(), init_frames, "a", CLIP, trained.config.sample)
    waiting = find_trained(workspace, None, None, "cpu", silent)
    offload = accelerate.cpu_offload
    monkeypatch.setattr(accelerate, "cpu_offload", lambda model, device, **more: offload(model, torch.device("cpu"), **more))
    adapter = load_offloaded(waiting, how)
    assert {parameter.device.type for _, parameter in adapter.trainable()} == {"cpu"}
    frozen = [p for name, p in waiting.base.transformer.named_parameters() if ".fca." not in name]
    assert {parameter.device.type for parameter in frozen} == {"cpu" if how == "model" else "meta"}
    for _ in range(2):
        video = predict_clip(waiting.base, adapter, init_frames, "a", CLIP, trained.config.sample)
        assert (video == expected).all()
