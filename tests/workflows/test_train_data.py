"""Claims about what `fca train` trains on: which clips, in which form, encoded once, and what happens when they change."""

import json
import shutil
from dataclasses import replace

import pytest
from listening import Listener, crash

from fcacli.config import ClipConfig
from fcacli.errors import FcaError, Misuse
from fcacli.events import Progress
from fcacli.model.bases import load_base, resolve_base
from fcacli.training import checkpoint
from fcacli.workflows.encode.encode import choose_clips
from fcacli.workflows.plan import plan
from fcacli.workflows.train import is_toy, train
from fcacli.workflows.train_options import TrainOptions, as_stored, resolve
from fcacli.workflows.which_run import _identity
from fcacli.workspace import Workspace, read_json, write_json

CLIP = ClipConfig(frames=16, init_frames=2, width=32, height=32, fps=12)


def test_what_is_encoded_is_not_encoded_again(workspace, asked):
    listener = Listener()
    train(workspace, asked, gpus=0, report=listener)
    assert not [phase for phase in listener.phases if phase.startswith("encode")]


def test_only_transformer_is_resident_in_training(workspace, asked, monkeypatch):
    import fcacli.model.bases as bases

    loaded, resident = [], []
    inner = bases.load_base

    def load_base(*arguments):
        loaded.append(inner(*arguments))
        return loaded[-1]

    def note(event):
        if isinstance(event, Progress) and event.phase == "train":
            resident.append(set(loaded[-1]._parts))

    monkeypatch.setattr(bases, "load_base", load_base)
    train(workspace, asked, gpus=0, report=note)
    assert len(resident) == 5 and set.union(*resident) <= {"transformer", "scheduler"}


def test_encode_has_one_encoder_at_a_time(workspace, asked, monkeypatch):
    from fcacli.model.bases import load_base, resolve_base
    from fcacli.workflows.encode.encode import choose_clips, encode
    from fcacli.workflows.train_options import resolve

    shutil.rmtree(workspace.dataset() / "cache")
    base = load_base(resolve_base(asked.base))
    clip = resolve(asked, base.spec, base.fingerprint, "ssv2", True).clip
    resident = []
    encoded = encode(
        base,
        workspace.dataset(),
        choose_clips(workspace.dataset(), clip),
        clip,
        lambda event: resident.append(set(base._parts) & {"text_encoder", "vae", "image_encoder", "transformer"}),
    )
    assert max(map(len, resident)) == 1 and set.union(*resident) == {"text_encoder", "vae", "image_encoder"}
    assert not base._parts
    sample = encoded.dataset("train")[0]
    assert sample["latents"].shape[0] == 4 and sample["init_latents"].shape[0] == 1


def test_vanished_and_damaged_videos_are_named_and_left_out(workspace, asked):
    shutil.rmtree(workspace.dataset() / "cache")
    videos = workspace.dataset() / "train" / "videos"
    (videos / "2.mp4").unlink()
    (videos / "3.mp4").write_bytes(b"not a video")
    listener = Listener()
    result = train(workspace, asked, gpus=0, report=listener)
    assert result.finished
    assert "2.mp4" in listener.text and "3.mp4" in listener.text and "left out" in listener.text
    assert json.loads((result.run / "config.json").read_text())["clips"]["train"] == 2


def test_no_video_left_is_an_error_and_makes_no_run(workspace, asked):
    shutil.rmtree(workspace.dataset() / "cache")
    for video in (workspace.dataset() / "train" / "videos").iterdir():
        video.write_bytes(b"")
    with pytest.raises(FcaError, match="none of the 4 train clips"):
        train(workspace, asked, gpus=0)
    assert workspace.all_runs() == []


def test_changed_clips_are_refused(workspace, asked):
    crash(workspace, asked, 3)
    metadata = workspace.dataset() / "train" / "metadata.jsonl"
    metadata.write_text("".join(metadata.read_text().splitlines(keepends=True)[:-1]))
    shutil.rmtree(workspace.dataset() / "cache")
    listener = Listener()
    with pytest.raises(Misuse, match="train: 4 -> 3"):
        train(workspace, asked, gpus=0, report=listener)
    assert not listener.phases and not list(workspace.dataset().glob("cache/videos/*"))  # before anything is encoded


def test_a_run_of_an_earlier_version_keeps_its_held_out_clips(workspace, asked, monkeypatch):
    """They were the first of val, and its configuration does not tell which clips were there."""
    monkeypatch.setattr("fcacli.workflows.encode.encode.HELD_OUT", 1)
    crash(workspace, asked, 3)
    path = workspace.run() / "config.json"
    about = json.loads(path.read_text())
    assert about.pop("dataset") == about["clips"]
    path.write_text(json.dumps(about))
    with pytest.raises(Misuse, match="the clips are not those"):  # clip 8 was drawn: no earlier version has that
        train(workspace, asked, gpus=0)
    about["clips"] = _identity(choose_clips(workspace.dataset(), CLIP, first=True))
    path.write_text(json.dumps(about))
    result = train(workspace, asked, gpus=0)
    assert result.finished and (result.run / "validation" / "step-000004" / "7.mp4").is_file()


@pytest.mark.parametrize(
    ("form", "options", "shape"),
    [
        ({"frames": None, "init_frames": 1, "width": None, "height": None}, {}, (16, 1, 32, 32)),
        ({"frames": 12, "init_frames": 3, "width": 48, "height": 40}, {}, (12, 3, 48, 40)),
        ({"frames": 12, "init_frames": 3, "width": 48, "height": 40}, {"frames": 8, "width": 32}, (8, 3, 32, 32)),
        ({"frames": 12, "init_frames": 3, "width": 48, "height": 40}, {"frames": 3, "init_frames": 1}, (3, 1, 48, 40)),
        ({"frames": 12, "init_frames": 3}, {"frames": 3}, (3, 2, 32, 32)),
        ({"width": 50, "height": 40}, {}, (16, 2, 32, 32)),  # which the base cannot take
        ({"frames": 49, "init_frames": 4, "width": 64, "height": 64}, {"base": "mini"}, (16, 4, 48, 48)),
        ({"frames": 12, "init_frames": 2}, {"base": "mini"}, (12, 2, 48, 48)),
        (None, {}, (16, 2, 32, 32)),
    ],
)
def test_clips_are_trained_as_they_were_prepared(workspace, asked, form, options, shape):
    path = workspace.dataset() / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"form": form}))
    asked = replace(asked, **options)
    base = load_base(resolve_base(asked.base))
    clip = resolve(as_stored(asked, workspace.dataset(), base), base.spec, "", "ssv2", True).clip
    assert (clip.frames, clip.init_frames, clip.width, clip.height) == shape


def config_planned(workspace, options, monkeypatch):
    """What `fca plan` would plan."""

    def stop(base, config, *_, **__):
        kept.append(config)
        raise KeyboardInterrupt

    kept = []
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("fcacli.workflows.plan._planner", stop)
        plan(workspace, options, gpus=0)
    return kept[0]


def test_train_gives_as_many_frames_as_the_data_were_prepared_for(workspace, asked, monkeypatch):
    path = workspace.dataset() / "dataset.json"
    about = json.loads(path.read_text())
    path.write_text(json.dumps(about | {"form": about["form"] | {"init_frames": 1}}))
    listener = Listener()
    result = train(workspace, replace(asked, steps=1, validate_every=0), gpus=0, report=listener)
    assert config_planned(workspace, asked, monkeypatch).clip == checkpoint.read_config(result.run).clip
    assert checkpoint.read_config(result.run).clip.init_frames == 1 and "as ssv2 was prepared: init frames 1" in listener.text
    forked = train(workspace, replace(asked, steps=1, validate_every=0, init_frames=2), gpus=0, fork=result.run.name)
    assert checkpoint.read_config(forked.run).clip.init_frames == 2


def test_dataset_without_validation_clips_trains(workspace, asked):
    shutil.rmtree(workspace.dataset() / "val")
    result = train(workspace, asked, gpus=0)
    assert result.finished and result.held_out_loss is None


def test_no_data_is_an_error_with_the_command(tmp_path, asked):
    with pytest.raises(FcaError, match="no prepared data") as missing:
        train(Workspace(tmp_path), asked, gpus=0)
    assert "fca prepare" in missing.value.hint


def test_clips_that_are_too_short_are_an_error(workspace, asked):
    with pytest.raises(FcaError, match="32 frames"):
        train(workspace, replace(asked, frames=32), gpus=0)


def test_the_miniature_says_that_it_knows_the_toy_world_alone(workspace):
    listener = Listener()
    options = TrainOptions(base="mini", steps=1, batch_size=1, validate_clips=0, sample_steps=1)
    train(workspace, options, gpus=0, report=listener)
    assert "the miniature knows the toy world (fca toy) alone" in listener.text
    assert not is_toy(workspace.dataset())
    about = read_json(workspace.dataset() / "dataset.json")
    (workspace.root / "world").mkdir()
    write_json(workspace.root / "world" / "toy.json", {})
    for raw in ("world", "gone"):
        write_json(workspace.dataset() / "dataset.json", about | {"raw": str(workspace.root / raw)})
        assert is_toy(workspace.dataset())


def test_an_adapter_of_another_kind_is_one_difference(workspace, asked):
    first, listener = train(workspace, asked, gpus=0), Listener()
    train(workspace, replace(asked, adapter="lora", steps=1), gpus=0, report=listener)
    (said,) = (line for line in listener.text.splitlines() if f"the finished run {first.run.name} had other options" in line)
    assert "adapter.kind: fca -> lora" in said and said.count("adapter.") == 1
