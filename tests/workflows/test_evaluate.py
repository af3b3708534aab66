"""`evaluate_run` and `evaluate_folders`: rows, resuming, never stale, and one clear error for what does not match."""

import json
from pathlib import Path

import numpy as np
import pytest
from trained_run import CLIP, VAL_CLIPS, add_run, make_workspace, source_video

from fcacli.errors import FcaError, Misuse
from fcacli.evaluation.frame import psnr
from fcacli.events import Event, Message, Progress
from fcacli.prediction.video import read_pngs, write_gif, write_mp4, write_pngs
from fcacli.workflows import evaluate
from fcacli.workflows.evaluate import BASE_ROW, COPY_ROW, choose_clips, evaluate_run
from fcacli.workflows.evaluate_folders import evaluate_folders
from fcacli.workspace import Workspace


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


def test_an_evaluated_clip_is_bit_for_bit_what_predict_gives(workspace: Workspace, tmp_path: Path) -> None:
    from fcacli.data.dataset import sample_frames
    from fcacli.data.manifest import read_split
    from fcacli.workflows.predict import predict

    folder = evaluate_run(workspace, limit=1).folder
    assert folder is not None
    clip = choose_clips(read_split(workspace.data / "toy", "val"), 1)[0]
    write_pngs(tmp_path / "given", sample_frames(workspace.data / "toy", "val", clip, CLIP)[:2])
    predicted = predict(workspace, tmp_path / "given", clip.text)
    assert (read_pngs(predicted.folder / "frames") == read_pngs(folder / "clips" / clip.id)).all()


def test_interrupted_evaluation_goes_on_and_scores_the_same(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = evaluate._generate, []

    def stopping(*args: object) -> None:
        if len(calls) == 4:
            raise KeyboardInterrupt
        calls.append(args)
        original(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluate, "_generate", stopping)
    with pytest.raises(KeyboardInterrupt):
        evaluate_run(workspace)
    monkeypatch.setattr(evaluate, "_generate", original)
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
    import shutil

    before = evaluate_run(workspace)
    shutil.rmtree(workspace.runs / "first" / "checkpoints")
    add_run(workspace, "first", tiny_base_folder, (4,), seed=5)
    after = evaluate_run(workspace)
    assert after.folder == before.folder
    assert after.results["adapter_sha256"] != before.results["adapter_sha256"]
    assert after.results["metrics"]["psnr"]["value"] != before.results["metrics"]["psnr"]["value"]


def test_a_damaged_frame_is_named(workspace: Workspace) -> None:
    folder = evaluate_run(workspace, limit=1).folder
    assert folder is not None
    frame = next((folder / "clips").rglob("007.png"))
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


def test_a_larger_limit_only_adds_clips() -> None:
    clips = list(range(50))
    assert choose_clips(clips, 20)[:5] == choose_clips(clips, 5)  # type: ignore[arg-type, comparison-overlap]
    assert sorted(choose_clips(clips, 99)) == clips  # type: ignore[arg-type, type-var]


def test_missing_runs_data_and_checkpoints_are_named(workspace: Workspace, tmp_path: Path, tiny_base_folder: Path) -> None:
    with pytest.raises(FcaError, match="no run"):
        evaluate_run(Workspace(tmp_path / "empty"))
    add_run(workspace, "unborn", tiny_base_folder, (), seed=2)
    with pytest.raises(FcaError, match="no checkpoint yet"):
        evaluate_run(workspace, run="unborn")
    (workspace.data / "toy" / "dataset.json").unlink()
    with pytest.raises(FcaError, match="no prepared dataset 'toy'"):
        evaluate_run(workspace, run="first")


# ---------------------------------------------------------------- any two folders


def _folders(root: Path, count: int = 3) -> tuple[Path, Path]:
    for number in range(count):
        truth = source_video(number, frames=16)
        write_pngs(root / "real" / f"v{number}", truth)
        write_pngs(root / "pred" / f"v{number}", np.clip(truth.astype(int) + 9, 0, 255).astype(np.uint8))
    return root / "pred", root / "real"


def test_folders_are_scored_frame_by_frame(tmp_path: Path) -> None:
    pred, real = _folders(tmp_path)
    result = evaluate_folders(pred, real, given=2)
    expected = np.mean([psnr(read_pngs(pred / f"v{n}"), read_pngs(real / f"v{n}"))[2:].mean() for n in range(3)])
    assert result.results["metrics"]["psnr"]["value"] == pytest.approx(expected, abs=1e-12)
    assert [row["name"] for row in result.results["rows"]] == ["prediction", COPY_ROW]
    assert [row["name"] for row in evaluate_folders(pred, real).results["rows"]] == ["prediction"]


@pytest.mark.parametrize("suffix", ["mp4", "webm", "avi", "mov", "gif"])
def test_every_kind_of_video_is_matched_with_pngs_by_name(tmp_path: Path, suffix: str) -> None:
    _, real = _folders(tmp_path, count=1)
    (tmp_path / "theirs").mkdir()
    path = tmp_path / "theirs" / f"v0.{suffix}"
    if suffix == "gif":
        write_gif(path, source_video(0, 16), 8, hold=0)
    elif suffix in ("mp4", "mov"):
        write_mp4(tmp_path / "v0.mp4", source_video(0, 16), 8)
        (tmp_path / "v0.mp4").rename(path)
    else:
        _write_av(path, source_video(0, 16), "libvpx-vp9" if suffix == "webm" else "mpeg4")
    result = evaluate_folders(tmp_path / "theirs", real)
    assert result.results["metrics"]["psnr"]["value"] > 28
    assert f".{suffix}" in result.results["conditions"]["source"]


def _write_av(path: Path, frames: np.ndarray, codec: str) -> None:
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8)
        stream.bit_rate = 4_000_000
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def test_names_that_differ_are_listed(tmp_path: Path) -> None:
    pred, real = _folders(tmp_path)
    (pred / "v1").rename(pred / "w1")
    with pytest.raises(FcaError, match=r"only in .*real: v1; 1 only in .*pred: w1"):
        evaluate_folders(pred, real)


def test_lengths_sizes_and_unreadable_videos_are_listed_together(tmp_path: Path) -> None:
    pred, real = _folders(tmp_path)
    (pred / "v0" / "015.png").unlink()
    write_pngs(pred / "v1", source_video(1, 16)[:, :32])
    (pred / "v2" / "003.png").write_bytes(b"broken")
    with pytest.raises(FcaError) as caught:
        evaluate_folders(pred, real)
    message = caught.value.message
    assert "3 of 3" in message
    assert "v0: 15 predicted and 16 true frames" in message
    assert "v1: predicted 48x32, true 48x40" in message
    assert "003.png" in message


def test_two_videos_of_one_name_are_refused(tmp_path: Path) -> None:
    pred, real = _folders(tmp_path, count=1)
    write_mp4(pred / "v0.mp4", source_video(0, 16), 8)
    with pytest.raises(FcaError, match="two videos named 'v0'"):
        evaluate_folders(pred, real)


def test_empty_and_missing_folders_are_named(tmp_path: Path) -> None:
    pred, _ = _folders(tmp_path, count=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FcaError, match="holds no videos"):
        evaluate_folders(pred, tmp_path / "empty")
    with pytest.raises(FcaError, match="does not exist"):
        evaluate_folders(tmp_path / "nowhere", pred)


def test_more_given_frames_than_there_are_is_refused(tmp_path: Path) -> None:
    pred, real = _folders(tmp_path, count=1)
    with pytest.raises(FcaError, match="16 frames, of which 16 are given"):
        evaluate_folders(pred, real, given=16)
    with pytest.raises(Misuse, match="--given"):
        evaluate_folders(pred, real, given=-1)
