"""`evaluate_folders`: whatever a tool wrote, matched by name, read exactly, and one clear error for what does not match."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from trained_run import source_video

from fcacli.errors import FcaError, Misuse
from fcacli.evaluation.frame import psnr
from fcacli.events import Event, Message
from fcacli.prediction.video import read_pngs, write_gif, write_mp4, write_png, write_pngs
from fcacli.workflows.evaluate import COPY_ROW
from fcacli.workflows.evaluate_folders import evaluate_folders
from fcacli.workflows.scoring_plan import Scoring

FAST = Scoring(metrics=("psnr",))


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


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
    source = result.results["conditions"]["source"]
    assert f"(.{suffix})" in source["predictions"] and "(images)" in source["truth"]


def _write_av(path: Path, frames: np.ndarray, codec: str, options: dict[str, str] | None = None) -> None:
    import av

    path.parent.mkdir(exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8, options=options or {})
        if options is None:
            stream.bit_rate = 4_000_000
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb24" if codec == "libx264rgb" else "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def test_arrays_are_scored_as_the_frames_they_hold(tmp_path: Path) -> None:
    pred, real = _folders(tmp_path)
    exact = evaluate_folders(pred, real, given=2).results
    (tmp_path / "arrays").mkdir()
    for number in range(3):
        video = read_pngs(pred / f"v{number}")
        np.save(tmp_path / "arrays" / f"v{number}.npy", video) if number else np.savez(tmp_path / "arrays" / "v0.npz", video)
    found = evaluate_folders(tmp_path / "arrays", real, given=2).results
    assert found["metrics"]["psnr"] == exact["metrics"]["psnr"]
    assert found["content"] == exact["content"]
    np.save(tmp_path / "arrays" / "v1.npy", read_pngs(pred / "v1") / 255.0)
    with pytest.raises(FcaError, match=r"v1: cannot read .*values are float64, not bytes"):
        evaluate_folders(tmp_path / "arrays", real, given=2, strict=True)


def test_names_that_differ_are_listed(tmp_path: Path) -> None:
    pred, real = _folders(tmp_path)
    (pred / "v1").rename(pred / "w1")
    with pytest.raises(FcaError, match=r"only in .*real: v1; 1 only in .*pred: w1"):
        evaluate_folders(pred, real)


def _warnings(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Message) and event.level == "warning"]


def test_intersect_scores_what_both_have_alike_and_names_the_rest(tmp_path: Path) -> None:
    pred, real = _folders(tmp_path, count=5)
    (pred / "v0").rename(pred / "w0")
    (pred / "v1" / "015.png").unlink()
    write_pngs(pred / "v2", source_video(2, 16)[:, :32])
    events: list[Event] = []
    found = evaluate_folders(pred, real, scoring=FAST, intersect=True, report=events.append).results
    assert found["names"] == ["v3", "v4"]
    assert found["conditions"]["left_out"] == ["v1", "v2"]
    said = " ".join(_warnings(events))
    assert all(words in said for words in ("real: v0", "pred: w0", "v1: 15 predicted", "v2: predicted 48x32"))
    (tmp_path / "other").mkdir()
    (pred / "v3").rename(tmp_path / "other" / "x")
    with pytest.raises(FcaError, match="no name in common"):
        evaluate_folders(tmp_path / "other", real, intersect=True)


def test_lengths_and_sizes_are_listed_together(tmp_path: Path) -> None:
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
    assert "--intersect" not in caught.value.hint


def test_one_unreadable_video_is_reported_and_the_rest_is_scored(tmp_path: Path) -> None:
    pred, real = _folders(tmp_path)
    (pred / "v2" / "003.png").write_bytes(b"broken")
    events: list[Event] = []
    found = evaluate_folders(pred, real, scoring=FAST, report=events.append).results
    assert found["names"] == ["v0", "v1"]
    assert found["conditions"]["left_out"] == ["v2"]
    assert len(_warnings(events)) == 1 and "003.png" in _warnings(events)[0]
    with pytest.raises(FcaError, match=r"1 of 3 videos cannot be scored; v2: .*003\.png"):
        evaluate_folders(pred, real, scoring=FAST, strict=True)


def test_true_given_frames_go_in_front_of_predictions_with_and_without_their_own(tmp_path: Path) -> None:
    pred, real = _folders(tmp_path)
    scoring = Scoring(metrics=("psnr", "mini-fvd"), prepend_given=True)
    own = evaluate_folders(pred, real, given=2, scoring=Scoring(metrics=("psnr", "mini-fvd"))).results["metrics"]
    replaced = evaluate_folders(pred, real, given=2, scoring=scoring).results["metrics"]
    for number in range(3):
        write_pngs(tmp_path / "short" / f"v{number}", read_pngs(pred / f"v{number}")[2:])
    added = evaluate_folders(tmp_path / "short", real, given=2, scoring=scoring).results["metrics"]
    assert added == replaced
    assert replaced["psnr"] == own["psnr"]
    assert replaced["mini-fvd"]["value"] != own["mini-fvd"]["value"]
    assert "2 given ones too (the true ones" in replaced["mini-fvd"]["conditions"]["frames"]
    with pytest.raises(FcaError, match="14 predicted and 16 true frames"):
        evaluate_folders(tmp_path / "short", real, given=2)
    with pytest.raises(Misuse, match="--given"):
        evaluate_folders(tmp_path / "short", real, scoring=scoring)


@pytest.mark.parametrize(("files", "shown"), [("pngs", 1), ("pngs", 2), ("mp4", 2)])
def test_given_frames_that_were_not_named_are_noticed(tmp_path: Path, files: str, shown: int) -> None:
    for number in range(3):
        truth = source_video(number, frames=8)
        video = np.clip(truth.astype(int) + 9, 0, 255).astype(np.uint8)
        same = {1: shown + 1, 2: 8}.get(number, shown)  # a scene may stand still a little longer, or to its end
        video[:same] = truth[:same]
        write_pngs(tmp_path / "real" / f"v{number}", truth)
        if files == "mp4":
            _write_av(tmp_path / "pred" / f"v{number}.mp4", video, "libx264rgb", {"crf": "4"})
        else:
            write_pngs(tmp_path / "pred" / f"v{number}", video)
    events: list[Event] = []
    evaluate_folders(tmp_path / "pred", tmp_path / "real", scoring=FAST, report=events.append)
    said = _warnings(events)
    assert len(said) == 1 and f"--given {shown} leaves them out" in said[0] and f"the first {shown} frame" in said[0]
    events.clear()
    evaluate_folders(tmp_path / "pred", tmp_path / "real", given=shown, scoring=FAST, report=events.append)
    assert _warnings(events) == []


def test_predictions_of_their_own_and_equal_folders_are_no_given_frames(tmp_path: Path) -> None:
    pred, real = _folders(tmp_path)
    write_pngs(pred / "v0", source_video(0, 16))
    events: list[Event] = []
    evaluate_folders(pred, real, scoring=FAST, report=events.append)
    evaluate_folders(real, real, scoring=FAST, report=events.append)
    assert _warnings(events) == []


def test_under_seers_protocol_another_size_and_few_clips_are_said(tmp_path: Path) -> None:
    pred, real = _folders(tmp_path)
    events: list[Event] = []
    evaluate_folders(pred, real, given=2, scoring=Scoring(metrics=("psnr",), protocol="seer"), report=events.append)
    size, few = _warnings(events)
    assert "of 256x256 pixels, these of 48x40" in size and few.startswith("3 clips: FVD is the higher")


def test_prompts_beside_the_true_videos_are_read_where_a_metric_needs_them(tmp_path: Path) -> None:
    pred, real = _folders(tmp_path, count=2)
    scoring = Scoring(metrics=("psnr", "mini-clip-text"))
    (real / "v0.txt").write_text("pushing red cup left")
    lost = evaluate_folders(pred, real, scoring=scoring).results["missing"]
    assert [one["metric"] for one in lost] == ["mini-clip-text"]
    (real / "v1.txt").write_text("pushing red cup left")
    found = evaluate_folders(pred, real, scoring=scoring).results
    assert found["missing"] == []
    assert all(-1 <= value <= 1 for value in found["metrics"]["mini-clip-text"]["per_clip"])


def test_out_holds_results_page_and_features(tmp_path: Path) -> None:
    import json

    pred, real = _folders(tmp_path)
    result = evaluate_folders(
        pred, real, given=2, scoring=Scoring(metrics=("psnr", "mini-fvd"), intervals=True), out=tmp_path / "out"
    )
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == result.results
    assert result.results["metrics"]["mini-fvd"]["interval"][0] < result.results["metrics"]["mini-fvd"]["interval"][1]
    assert all(path.is_file() for path in result.files)
    for row in result.results["rows"]:
        assert (tmp_path / "out" / row["features"]["mini-fvd"]).is_file()
    assert evaluate_folders(pred, real, given=2, scoring=FAST).files == []


def test_a_video_of_more_pixels_than_are_scored_at_once_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pred, real = _folders(tmp_path, count=1)
    monkeypatch.setattr("fcacli.evaluation.pairs.MOST_PIXELS", 16 * 40 * 48)
    evaluate_folders(pred, real, scoring=FAST)
    monkeypatch.setattr("fcacli.evaluation.pairs.MOST_PIXELS", 16 * 40 * 48 - 1)
    with pytest.raises(FcaError, match="over 15 frames of 48x40, more than is scored at once"):
        evaluate_folders(pred, real, scoring=FAST)


def test_features_are_kept_by_content_and_a_cache_that_cannot_be_written_is_no_hindrance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fcacli.mini import features

    pred, real = _folders(tmp_path)
    scoring = Scoring(metrics=("mini-fvd",))
    found = evaluate_folders(pred, real, given=2, scoring=scoring).results["metrics"]
    seen: list[int] = []
    of = features.features_of
    monkeypatch.setattr(features, "features_of", lambda videos: seen.append(len(videos)) or of(videos))
    (pred / "v1").rename(pred / "w1"), (real / "v1").rename(real / "w1")
    assert evaluate_folders(pred, real, given=2, scoring=scoring).results["metrics"]["mini-fvd"]["value"] == pytest.approx(
        found["mini-fvd"]["value"], abs=1e-10
    )
    assert seen == []
    write_pngs(pred / "v0", source_video(7, 16))
    evaluate_folders(pred, real, given=2, scoring=scoring)
    assert seen == [1]
    (tmp_path / "no-folder").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "no-folder"))
    evaluate_folders(pred, real, given=2, scoring=scoring)
    assert len(seen) == 1 + 9


def test_two_videos_of_one_name_are_refused(tmp_path: Path) -> None:
    pred, real = _folders(tmp_path, count=1)
    shutil.rmtree(pred / "v0")
    write_mp4(pred / "v0.mp4", source_video(0, 16), 8)
    (pred / "v0.mov").write_bytes((pred / "v0.mp4").read_bytes())
    with pytest.raises(FcaError, match=r"two videos named .v0.: v0\.mov and v0\.mp4"):
        evaluate_folders(pred, real)


def test_of_several_forms_of_one_video_the_most_exact_is_scored(tmp_path: Path) -> None:
    pred, real = _folders(tmp_path, count=1)
    exact = evaluate_folders(pred, real, given=2, scoring=FAST).results["metrics"]
    frames, other = read_pngs(pred / "v0"), source_video(1, 16)
    write_gif(pred / "v0.gif", other, 8, hold=0)
    write_mp4(pred / "v0.mp4", other, 8)
    np.save(pred / "v0.npy", other)
    assert evaluate_folders(pred, real, given=2, scoring=FAST).results["metrics"] == exact
    shutil.rmtree(pred / "v0")
    np.save(pred / "v0.npy", frames)
    assert evaluate_folders(pred, real, given=2, scoring=FAST).results["metrics"] == exact
    (pred / "v0.npy").unlink()
    write_mp4(pred / "v0.mp4", frames, 8)
    found = evaluate_folders(pred, real, given=2, scoring=FAST).results
    assert "(.mp4)" in found["conditions"]["source"]["predictions"]
    assert found["metrics"]["psnr"]["value"] == pytest.approx(exact["psnr"]["value"], abs=1)


def test_what_predict_and_a_validation_leave_can_be_scored(tmp_path: Path) -> None:
    pred, real = _folders(tmp_path, count=1)
    exact = evaluate_folders(pred, real, given=2, scoring=FAST).results["metrics"]
    frames, other = read_pngs(pred / "v0"), source_video(1, 16)
    predicted = tmp_path / "predictions" / "v0"
    write_pngs(predicted / "frames", frames)
    write_mp4(predicted / "prediction.mp4", other, 8)
    write_gif(predicted / "prediction.gif", other, 8)
    write_png(predicted / "contact_sheet.png", other[0])
    assert evaluate_folders(tmp_path / "predictions", real, given=2, scoring=FAST).results["metrics"] == exact
    validation = tmp_path / "validation"
    write_pngs(validation / "v0", frames)
    write_mp4(validation / "v0.mp4", other, 8)
    write_png(validation / "clips.png", other[0])
    (validation / "v0.json").write_text("{}")
    assert evaluate_folders(validation, real, given=2, scoring=FAST).results["metrics"] == exact
    write_png(validation / "v0" / "contact_sheet.png", other[0])
    assert evaluate_folders(validation, real, given=2, scoring=FAST).results["metrics"] == exact


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


def test_a_folder_of_something_else_is_not_written_into(tmp_path: Path) -> None:
    pred, real = _folders(tmp_path, 2)
    out = tmp_path / "out"
    evaluate_folders(pred, real, given=2, scoring=FAST, out=out)
    evaluate_folders(pred, real, given=3, scoring=FAST, out=out)  # scores of before are replaced
    (out / "results.json").write_text('{"mine": 1}')
    with pytest.raises(FcaError, match="holds something else"):
        evaluate_folders(pred, real, given=2, scoring=FAST, out=out)
    assert (out / "results.json").read_text() == '{"mine": 1}'
