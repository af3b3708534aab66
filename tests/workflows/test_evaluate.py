"""`evaluate_run`: its rows, resuming, never stale, and what it leaves to look at."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from trained_run import CLIP, VAL_CLIPS, add_run, make_workspace

from fcacli.config import Offload
from fcacli.data.manifest import SPLITS, read_split, write_split
from fcacli.errors import FcaError, Misuse
from fcacli.evaluation.frechet import frechet_distance
from fcacli.events import Event, Message, Progress
from fcacli.mini.features import MiniFeatures
from fcacli.prediction.video import read_pngs, write_pngs
from fcacli.workflows import generation
from fcacli.workflows.devices import choose_eval_device
from fcacli.workflows.encode.encode import choose_clips as choose
from fcacli.workflows.evaluate import COPY_ROW, choose_clips, evaluate_run
from fcacli.workflows.evaluate_rows import BASE_ROW
from fcacli.workflows.scoring_plan import Scoring
from fcacli.workflows.trained import Trained
from fcacli.workflows.which_run import _identity
from fcacli.workspace import Workspace

FAST = Scoring(metrics=("psnr",))


@pytest.fixture
def workspace(tmp_path: Path, tiny_base_folder: Path) -> Workspace:
    return make_workspace(tmp_path, tiny_base_folder)


def _phases(events: list[Event]) -> dict[str, int]:
    """How many units each phase did."""
    return {event.phase: event.done for event in events if isinstance(event, Progress)}


def test_scores_the_run_beside_base_and_copy_last_frame(workspace: Workspace) -> None:
    result = evaluate_run(workspace)
    assert result.folder == workspace.runs / "first" / "eval" / "step-000004"
    numbers = json.loads((result.folder / "results.json").read_text())
    assert [row["name"] for row in numbers["rows"]] == ["fca, step 4", BASE_ROW, COPY_ROW]
    assert numbers["clips"] == VAL_CLIPS
    assert numbers["conditions"]["given_frames"] == 2
    assert len(numbers["metrics"]["psnr"]["per_frame"]) == 14
    assert all(name in result.table for name in ("PSNR", "SSIM", BASE_ROW, COPY_ROW))
    assert all(path.is_file() for path in result.files)
    assert len(list((result.folder / "comparisons").glob("*.mp4"))) == VAL_CLIPS
    assert len(list((result.folder / "comparisons").glob("*.gif"))) == VAL_CLIPS
    assert result.files[0] == result.folder / "report.html"
    page = result.files[0].read_text(encoding="utf-8")
    assert all(words in page for words in (*numbers["names"], "pushing cup 1", BASE_ROW, COPY_ROW))
    assert [row["role"] for row in numbers["rows"]] == ["method", "baseline", "baseline"]
    assert len(set(numbers["content"])) == VAL_CLIPS
    source = numbers["conditions"]["source"]
    assert "lossless" in source["predictions"] and "H.264 at crf 10" in source["truth"] and COPY_ROW in source["truth"]
    noise = "every clip is sampled from the same noise (seed 0); intervals are over clips, not over noise: --num 3"
    assert numbers["conditions"]["noise"] == noise and page.count(noise) == 2
    assert {one["metric"] for one in numbers["missing"]} >= {"fvd", "kvd", "fid"}


def test_an_evaluated_clip_is_bit_for_bit_what_predict_gives(workspace: Workspace, tmp_path: Path) -> None:
    from fcacli.data.dataset import sample_frames
    from fcacli.workflows.predict import predict

    folder = evaluate_run(workspace, limit=1).predictions
    assert folder is not None
    clip = choose_clips(read_split(workspace.data / "toy", "val"), 1)[0]
    write_pngs(tmp_path / "given", sample_frames(workspace.data / "toy", "val", clip, CLIP)[:2])
    predicted = predict(workspace, tmp_path / "given", clip.text)
    assert (read_pngs(predicted.folder / "frames") == read_pngs(folder / clip.id)).all()


def test_interrupted_evaluation_goes_on_and_scores_the_same(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = generation._generate, []

    def stopping(*args: object) -> None:
        if len(calls) == 4:
            raise KeyboardInterrupt
        calls.append(args)
        original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(generation, "_generate", stopping)
    with pytest.raises(KeyboardInterrupt):
        evaluate_run(workspace)
    monkeypatch.setattr(generation, "_generate", original)
    events: list[Event] = []
    continued = evaluate_run(workspace, report=events.append)
    assert _phases(events)["predict"] == 2 * VAL_CLIPS - 4
    again = evaluate_run(workspace)
    assert again.results == continued.results
    for folder in (workspace.runs / "first" / "eval", workspace.data / "toy" / "cache"):
        for path in sorted(folder.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    assert evaluate_run(workspace).results == continued.results


def test_nothing_is_generated_twice_and_the_base_row_is_shared(workspace: Workspace, tiny_base_folder: Path) -> None:
    evaluate_run(workspace)
    events: list[Event] = []
    evaluate_run(workspace, report=events.append)
    assert not {"predict", "predict, base alone"} & set(_phases(events))
    add_run(workspace, "second", tiny_base_folder, (3,), seed=1)
    events.clear()
    evaluate_run(workspace, run="second", report=events.append)
    assert _phases(events)["predict"] == VAL_CLIPS
    assert "predict, base alone" not in _phases(events)


def test_another_adapter_under_the_same_names_is_not_scored_from_the_old_clips(
    workspace: Workspace, tiny_base_folder: Path
) -> None:
    before = evaluate_run(workspace)
    shutil.rmtree(workspace.runs / "first" / "checkpoints")
    add_run(workspace, "first", tiny_base_folder, (4,), seed=5)
    after = evaluate_run(workspace)
    assert after.folder == before.folder
    assert after.results["adapter_sha256"] != before.results["adapter_sha256"]
    assert after.results["metrics"]["psnr"]["value"] != before.results["metrics"]["psnr"]["value"]


def test_a_damaged_frame_is_named(workspace: Workspace) -> None:
    folder = evaluate_run(workspace, limit=1).predictions
    assert folder is not None
    frame = next(folder.rglob("007.png"))
    frame.write_bytes(b"")
    with pytest.raises(FcaError, match=r"007\.png"):
        evaluate_run(workspace, limit=1)


def test_an_unreadable_clip_is_named_and_the_rest_is_scored(workspace: Workspace) -> None:
    (workspace.data / "toy" / "val" / "videos" / "clip1.mp4").write_bytes(b"no video")
    events: list[Event] = []
    result = evaluate_run(workspace, report=events.append)
    assert result.results["clips"] == VAL_CLIPS - 1
    assert result.results["conditions"]["left_out"] == ["clip1"]
    warnings = [event.text for event in events if isinstance(event, Message) and event.level == "warning"]
    assert len(warnings) == 1
    assert "clip1.mp4" in warnings[0]


def test_strict_stops_at_an_unreadable_clip(workspace: Workspace) -> None:
    (workspace.data / "toy" / "val" / "videos" / "clip1.mp4").write_bytes(b"no video")
    with pytest.raises(FcaError, match=r"clip1\.mp4"):
        evaluate_run(workspace, strict=True)


def test_other_runs_on_the_same_clips_get_a_row_and_those_on_others_are_named(
    workspace: Workspace, tiny_base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seed in (("second", 1), ("third", 2)):
        add_run(workspace, name, tiny_base_folder, (3,), seed=seed)
    config = json.loads((workspace.runs / "third" / "config.json").read_text())
    config["config"]["clip"]["fit"] = "pad"
    (workspace.runs / "third" / "config.json").write_text(json.dumps(config))
    events: list[Event] = []
    first = evaluate_run(workspace, run="first", limit=1, scoring=FAST, report=events.append)
    assert [row["name"] for row in first.results["rows"]] == ["fca, step 4", BASE_ROW, COPY_ROW, "second: fca, step 3"]
    assert [row["role"] for row in first.results["rows"]][-1] == "run"
    assert any("third predicts other clips (fit pad, here crop)" in e.text for e in events if isinstance(e, Message))
    events.clear()
    second = evaluate_run(workspace, run="second", limit=1, scoring=FAST, report=events.append)
    assert "predict" not in _phases(events)
    assert second.results["metrics"]["psnr"] == first.results["rows"][-1]["metrics"]["psnr"]
    alone = evaluate_run(workspace, run="first", limit=1, scoring=FAST, others=False)
    assert len(alone.results["rows"]) == 3
    shutil.rmtree(workspace.runs / "second" / "eval")
    monkeypatch.setattr(Trained, "load", _fail_for("second", Trained.load))
    events.clear()
    assert len(evaluate_run(workspace, run="first", limit=1, scoring=FAST, report=events.append).results["rows"]) == 3
    assert any("second has no row: damaged" in e.text for e in events if isinstance(e, Message) and e.level == "warning")


def _fail_for(run: str, load: Callable[..., object]) -> Callable[..., object]:
    def failing(trained: Trained, offload: Offload = "none") -> object:
        if trained.run.name == run:
            raise FcaError("damaged")
        return load(trained, offload)

    return failing


def test_several_samples_are_other_ones_and_only_the_new_are_generated(workspace: Workspace) -> None:
    one = evaluate_run(workspace, limit=1, scoring=FAST)
    events: list[Event] = []
    two = evaluate_run(workspace, limit=1, scoring=FAST, samples=2, report=events.append)
    assert (_phases(events)["predict"], _phases(events)["predict, base alone"]) == (1, 1)
    scores = [one.results["metrics"]["psnr"], two.results["metrics"]["psnr"]]
    assert scores[1]["best_of"]["value"] >= scores[1]["value"]
    assert scores[1]["best_of"]["value"] >= scores[0]["value"]
    assert scores[0]["value"] != scores[1]["value"]
    assert two.results["samples"] == 2
    assert "the same 2 noises (seeds 0 to 1)" in two.results["conditions"]["noise"]
    assert "best_of" not in scores[0]
    with pytest.raises(Misuse, match="--num"):
        evaluate_run(workspace, samples=0)


def test_features_behind_distances_of_sets_are_kept_in_the_order_of_names(workspace: Workspace) -> None:
    scoring = Scoring(metrics=("mini-fvd", "mini-kvd"))
    result = evaluate_run(workspace, scoring=scoring)
    assert result.folder is not None
    mini = MiniFeatures()
    for row in result.results["rows"]:
        assert row["features"]["mini-fvd"] == row["features"]["mini-kvd"]
        with np.load(result.folder / row["features"]["mini-fvd"]) as stored:
            assert stored["predicted"].shape == stored["true"].shape == (VAL_CLIPS, 64)
            if row["name"].startswith("fca"):
                videos = [read_pngs(result.folder / "clips" / name) for name in result.results["names"]]
                assert np.abs(stored["predicted"] - mini(videos)).max() < 1e-10
            value = frechet_distance(stored["predicted"], stored["true"])
        assert row["metrics"]["mini-fvd"]["value"] == pytest.approx(value, abs=1e-10)


def test_given_frames_in_front_of_the_base_change_its_distance_of_sets_alone(workspace: Workspace) -> None:
    scoring = Scoring(metrics=("psnr", "mini-fvd"))
    own = evaluate_run(workspace, scoring=scoring).results["rows"]
    true = evaluate_run(workspace, scoring=replace(scoring, prepend_given=True)).results["rows"]
    assert true[0]["metrics"]["mini-fvd"]["value"] == own[0]["metrics"]["mini-fvd"]["value"]
    assert true[1]["metrics"]["mini-fvd"]["value"] != own[1]["metrics"]["mini-fvd"]["value"]
    assert [row["metrics"]["psnr"] for row in true] == [row["metrics"]["psnr"] for row in own]


def test_seers_protocol_wants_seers_frames_and_keeps_its_numbers_apart(workspace: Workspace) -> None:
    scoring = Scoring(protocol="seer", metrics=("psnr", "kvd-seer"))
    with pytest.raises(FcaError, match="prepared with --protocol seer"):
        evaluate_run(workspace, limit=1, scoring=scoring)
    form = {"protocol": "seer", "frames": 16}
    (workspace.data / "toy" / "dataset.json").write_text(json.dumps({"name": "toy", "reader": "ssv2", "form": form}))
    events: list[Event] = []
    result = evaluate_run(workspace, limit=1, scoring=scoring, report=events.append)
    assert result.folder == workspace.runs / "first" / "eval" / "step-000004-seer-1"
    sampling = result.results["conditions"]["sampling"]
    assert (sampling["steps"], sampling["guidance"], sampling["sampler"]) == (30, 7.5, "ddim")
    assert result.results["protocol"] == "seer"
    said = " ".join(e.text for e in events if isinstance(e, Message) and e.level == "warning")
    assert "on ssv2 are of 2 given of 12 frames at 256x256, these of 2 of 16 at 32x32 do not compare" in said
    assert "fca prepare ssv2 RAW --protocol seer --frames 12 --name toy-12; fca train --new --data toy-12 --frames 12" in said
    assert "1 clips: FVD is the higher" in said and "--limit 2048" in said


def test_other_clips_or_samples_leave_the_default_evaluation_alone(workspace: Workspace) -> None:
    shutil.copytree(workspace.data / "toy" / "val", workspace.data / "toy" / "train")
    default = evaluate_run(workspace, scoring=FAST)
    assert default.folder is not None
    before = {path: path.read_bytes() for path in default.folder.rglob("*") if path.is_file() and path.name != ".lock"}
    folders = [
        evaluate_run(workspace, scoring=FAST, split="train", limit=2).folder,
        evaluate_run(workspace, scoring=FAST, limit=2).folder,
        evaluate_run(workspace, scoring=FAST, limit=2, samples=2).folder,
        evaluate_run(workspace, scoring=FAST, limit=64).folder,
    ]
    names = ["step-000004-train-2", "step-000004-2", "step-000004-2-num-2", "step-000004"]
    assert folders == [default.folder.with_name(name) for name in names]
    assert {path: path.read_bytes() for path in before} == before
    assert json.loads((default.folder.with_name(names[0]) / "results.json").read_text())["conditions"]["split"] == "train"


def test_fewer_metrics_do_not_take_the_place_of_more(workspace: Workspace) -> None:
    """More take the place of fewer."""
    first, second = (evaluate_run(workspace, scoring=Scoring(metrics=names)) for names in (("psnr",), ("psnr", "ssim")))
    assert first.folder is not None and first.folder == second.folder
    for _ in range(2):
        fewer = evaluate_run(workspace, scoring=Scoring(metrics=("ssim",)))
        assert fewer.folder == first.folder.with_name(f"{first.folder.name}-ssim")
    assert list(json.loads((first.folder / "results.json").read_text())["metrics"]) == ["psnr", "ssim"]


@pytest.mark.parametrize("change", ["a train clip less", "its val clips now train clips"])
def test_a_run_is_not_scored_on_a_dataset_that_it_was_not_trained_on(workspace: Workspace, change: str) -> None:
    dataset, path = workspace.data / "toy", workspace.runs / "first" / "config.json"
    clips = list(read_split(dataset, "val"))
    write_split(dataset, "train", [replace(clip, content=f"{clip.content}-train") for clip in clips])
    write_split(dataset, "test", clips)
    about = json.loads(path.read_text())
    about["dataset"] = about["clips"] = _identity(choose(dataset, CLIP))
    path.write_text(json.dumps(about))
    shutil.copytree(dataset / "val" / "videos", dataset / "test" / "videos")
    for split in SPLITS[1:]:
        evaluate_run(workspace, split=split, scoring=FAST, limit=1)
    write_split(dataset, "test", [])
    evaluate_run(workspace, scoring=FAST, limit=1)  # no clip of training
    write_split(dataset, "train", clips[:2] if change == "a train clip less" else clips)
    with pytest.raises(FcaError, match=r"toy has changed since run first was trained on it.*sha256") as refused:
        evaluate_run(workspace, scoring=FAST, limit=1)
    assert "fca train --new --data toy" in refused.value.hint

    add_run(workspace, "second", Path(about["config"]["base"]), (3,), seed=1)
    events: list[Event] = []
    result = evaluate_run(workspace, run="second", scoring=FAST, limit=1, report=events.append)
    assert [row["name"] for row in result.results["rows"]] == ["fca, step 3", BASE_ROW, COPY_ROW]
    assert any("run first has no row: " in e.text and "has changed" in e.text for e in events if isinstance(e, Message))

    del about["dataset"]  # of an earlier version
    path.write_text(json.dumps(about))
    evaluate_run(workspace, run="first", scoring=FAST, limit=1, report=events.append)
    assert any("has changed since" in e.text for e in events if isinstance(e, Message) and e.level == "warning")


def test_a_larger_limit_only_adds_clips() -> None:
    clips = list(range(50))
    assert choose_clips(clips, 20)[:5] == choose_clips(clips, 5)  # type: ignore[arg-type, comparison-overlap]
    assert sorted(choose_clips(clips, 99)) == clips  # type: ignore[arg-type, type-var]


def test_a_missing_gpu_is_no_hindrance_to_the_miniature_and_said(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    said: list[Event] = []
    with pytest.raises(Misuse, match=r"--gpus 1, but no CUDA device is available here, and .* is not for a CPU") as refused:
        choose_eval_device(workspace, "first", 1, None, said.append)
    assert refused.value.hint == "fca eval --gpus 0 (if it must be)"
    config = json.loads((workspace.runs / "first" / "config.json").read_text())
    config["config"]["base"] = "mini"
    (workspace.runs / "first" / "config.json").write_text(json.dumps(config))
    assert choose_eval_device(workspace, "first", 1, None, said.append) == "cpu"
    texts = [event.text for event in said if isinstance(event, Message) and event.level == "warning"]
    assert texts == ["--gpus 1, but no CUDA device is available here: the miniature predicts on the CPU"]
    assert choose_eval_device(workspace, "nothing", 0, None, said.append) == "cpu"


def test_missing_runs_data_and_checkpoints_are_named(workspace: Workspace, tmp_path: Path, tiny_base_folder: Path) -> None:
    with pytest.raises(FcaError, match="no run"):
        evaluate_run(Workspace(tmp_path / "empty"))
    add_run(workspace, "unborn", tiny_base_folder, (), seed=2)
    with pytest.raises(FcaError, match="no checkpoint yet"):
        evaluate_run(workspace, run="unborn")
    (workspace.data / "toy" / "dataset.json").unlink()
    with pytest.raises(FcaError, match="no prepared dataset 'toy'"):
        evaluate_run(workspace, run="first")
