"""The commands one after the other on real files, and what each says when something is wrong."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fcacli.cli.app import app

TEXT = "pushing red cup left"
SHORT = ["--steps", "2", "--batch-size", "2", "--sample-steps", "2", "--validate-clips", "1"]


def fca(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments], env={"COLUMNS": "200", "NO_COLOR": "1"})


@pytest.fixture(scope="module")
def walked(tmp_path_factory, tiny_base_folder):
    """A folder in which prepare and train have run: (folder, outcomes of the commands)."""
    folder = tmp_path_factory.mktemp("walked")
    before = Path.cwd()
    os.chdir(folder)
    try:
        outcomes = {
            "toy": fca("toy", "raw", "--clips", 8, "--seed", 3),
            "prepare": fca("prepare", "ssv2", "raw", "--workers", 1),
            "train": fca("train", "--gpus", 0, "--base", tiny_base_folder, *SHORT),
        }
    finally:
        os.chdir(before)
    for name, outcome in outcomes.items():
        assert outcome.exit_code == 0, f"{name}: {outcome.output}"
    return folder, outcomes


@pytest.fixture
def workspace(walked, monkeypatch):
    monkeypatch.chdir(walked[0])
    return walked[0]


@pytest.fixture
def empty(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given_video(workspace: Path) -> Path:
    return next((workspace / "data" / "ssv2" / "val" / "videos").glob("*.mp4"))


# ---------------------------------------------------------------- what each command prints


def test_each_command_prints_where_its_result_lies(walked):
    folder, outcomes = walked
    assert outcomes["toy"].stdout == "raw\n"
    assert outcomes["prepare"].stdout == "data/ssv2\n"
    run = outcomes["train"].stdout.strip()
    assert Path(run).parent == Path("runs")
    assert (folder / run / "config.json").is_file()


def test_the_first_line_of_train_says_which_base_and_why(walked, tiny_base_folder):
    first = walked[1]["train"].stderr.splitlines()[0]
    assert first.startswith("base ")
    assert str(tiny_base_folder) in first
    assert "chosen by --base" in first


def test_predict_prints_the_files_it_wrote(workspace):
    outcome = fca("predict", given_video(workspace), TEXT)
    assert outcome.exit_code == 0, outcome.output
    files = [Path(line) for line in outcome.stdout.splitlines()]
    assert files[0] == Path("predictions/pushing-red-cup-left/prediction.mp4")
    assert all(file.is_file() for file in files)


def test_predict_as_json_names_files_and_seeds(workspace):
    outcome = fca("predict", given_video(workspace), TEXT, "--num", 2, "--seed", 5, "--out", "two", "--json")
    assert outcome.exit_code == 0, outcome.output
    found = json.loads(outcome.stdout)
    assert found["seeds"] == [5, 6]
    assert Path(found["folder"]) == Path("two")


def test_eval_prints_a_table_or_one_json_document(workspace):
    outcome = fca("eval", "--limit", 1)
    assert outcome.exit_code == 0, outcome.output
    assert "copy last frame" in outcome.stdout
    assert "base, text only" in outcome.stdout
    again = fca("eval", "--limit", 1, "--json")
    assert {row["name"] for row in json.loads(again.stdout)["rows"]} >= {"copy last frame", "base, text only"}


def test_eval_of_two_folders_needs_no_run(workspace, monkeypatch, tmp_path):
    videos = workspace / "data" / "ssv2" / "val" / "videos"
    monkeypatch.chdir(tmp_path)
    outcome = fca("eval", "--pred", videos, "--real", videos, "--given", 2, "--json")
    assert outcome.exit_code == 0, outcome.output
    assert json.loads(outcome.stdout)["metrics"]["ssim"]["value"] == 1.0


def test_eval_of_two_folders_computes_what_is_named_and_writes_where_it_is_told(workspace, monkeypatch, tmp_path):
    videos = workspace / "data" / "ssv2" / "train" / "videos"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    words = ["--pred", videos, "--real", videos, "--given", 2, "--metrics", "mini-fvd,psnr", "--metrics", "flickering", "--ci"]
    outcome = fca("eval", *words, "--out", "scores", "--json")
    assert outcome.exit_code == 0, outcome.output
    found = json.loads(outcome.stdout)
    assert list(found["metrics"]) == ["psnr", "flickering", "mini-fvd"]
    assert found["metrics"]["mini-fvd"]["value"] == pytest.approx(0, abs=1e-6)
    assert json.loads(Path("scores/results.json").read_text()) == found
    assert Path("scores/report.html").stat().st_size > 1000
    assert "scores" in outcome.stderr


def test_quiet_leaves_only_the_data(workspace):
    outcome = fca("predict", given_video(workspace), TEXT, "-q")
    assert outcome.stderr == ""
    assert outcome.stdout


def test_prepare_for_a_base_encodes_at_once(workspace, tiny_base_folder):
    outcome = fca("prepare", "ssv2", "raw", "--base", tiny_base_folder)
    assert outcome.exit_code == 0, outcome.output
    assert f"base {tiny_base_folder}" in outcome.stderr
    assert list((workspace / "data" / "ssv2" / "cache").rglob("*.safetensors"))


# ---------------------------------------------------------------- what each says when something is wrong


def broken_labels(folder: Path, walked_folder: Path) -> None:
    shutil.copytree(walked_folder / "raw", folder / "raw")
    (folder / "raw" / "labels" / "train.json").write_text('[{"id": "1",')


def no_labels(folder: Path, walked_folder: Path) -> None:
    shutil.copytree(walked_folder / "raw", folder / "raw")
    shutil.rmtree(folder / "raw" / "labels")


def an_empty_folder(folder: Path, walked_folder: Path) -> None:
    (folder / "raw").mkdir()


def a_broken_picture(folder: Path, walked_folder: Path) -> None:
    with_a_run(folder, walked_folder)
    (folder / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\nnonsense")


def with_a_run(folder: Path, walked_folder: Path) -> None:
    for name in ("data", "runs"):
        (folder / name).symlink_to(walked_folder / name)


def one_picture(folder: Path, walked_folder: Path) -> None:
    import cv2

    with_a_run(folder, walked_folder)
    cv2.imwrite(str(folder / "one.png"), np.zeros((32, 32, 3), np.uint8))


def with_data(folder: Path, walked_folder: Path) -> None:
    (folder / "data").symlink_to(walked_folder / "data")


@pytest.mark.parametrize(
    ("before", "arguments", "code", "said"),
    [
        (None, ["prepare", "ssv2", "raw"], 1, ["raw does not exist"]),
        (an_empty_folder, ["prepare", "ssv2", "raw"], 1, ["raw is empty"]),
        (an_empty_folder, ["prepare", "ssv3", "raw"], 2, ["ssv3", "ssv2"]),
        (no_labels, ["prepare", "ssv2", "raw"], 1, ["labels"]),
        (broken_labels, ["prepare", "ssv2", "raw"], 1, ["train.json", "JSON"]),
        (None, ["train"], 1, ["no prepared data", "fca prepare"]),
        (with_data, ["train", "--data", "other"], 1, ["'other'", "ssv2"]),
        (with_data, ["train", "--data", "../x"], 2, ["--data"]),
        (with_data, ["train", "--base", "nonsense"], 2, ["unknown base 'nonsense'", "mini"]),
        (with_data, ["train", "--base", "."], 1, ["model_index.json"]),
        (with_data, ["train", "--base", "TINY", "--gpus", "0", "--frames", "64"], 1, ["64"]),
        (with_data, ["train", "--base", "TINY", "--gpus", "0", "--size", "50x50"], 2, ["50", "48"]),
        (with_data, ["train", "--base", "TINY", "--gpus", "0", "--init-frames", "16"], 2, ["--init-frames"]),
        (with_data, ["train", "--base", "TINY", "--gpus", "0", "--lr", "0"], 2, ["--lr"]),
        (with_data, ["train", "--base", "TINY", "--gpus", "0", "--adapter-width", "33"], 2, ["--adapter-width", "33"]),
        (with_data, ["train", "--base", "TINY", "--gpus", "0", "--lora-rank", "4"], 2, ["--lora-rank"]),
        (with_data, ["train", "--base", "TINY", "--gpus", "0", "--set", "colour=red"], 2, ["colour"]),
        (with_data, ["train", "--base", "TINY", "--gpus", "0", "--set", "mask=diagonal"], 2, ["mask"]),
        (with_data, ["train", "--base", "TINY", "--gpus", "0", "--set", "width=many"], 2, ["width"]),
        (with_data, ["train", "--gpus", "99"], 2, ["--gpus 99"]),
        (None, ["predict", "one.png", TEXT], 1, ["no run", "fca train"]),
        (None, ["eval"], 1, ["no run", "fca train"]),
        (with_a_run, ["eval", "--run", "other"], 1, ["'other'"]),
        (with_a_run, ["predict", "gone", TEXT], 1, ["gone", "exist"]),
        (an_empty_folder, ["predict", "raw", TEXT], 1, ["no run"]),
        (one_picture, ["predict", "one.png", TEXT], 1, ["one.png", "2"]),
        (one_picture, ["predict", "one.png", "  "], 2, ["text is empty"]),
        (one_picture, ["predict", "one.png", TEXT, "--checkpoint", "step-7"], 1, ["step-7", "step-000002"]),
        (one_picture, ["predict", "one.png", TEXT, "--device", "tpu9"], 2, ["tpu9"]),
        (a_broken_picture, ["predict", "bad.png", TEXT], 1, ["bad.png"]),
        (None, ["eval", "--pred", "a", "--real", "b"], 1, ["--pred a"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) and all(isinstance(v, str) for v in value) else None,
)
def test_a_failure_is_one_clear_error(before, arguments, code, said, empty, walked, tiny_base_folder):
    if before is not None:
        before(empty, walked[0])
    outcome = fca(*(str(tiny_base_folder) if a == "TINY" else a for a in arguments))
    assert outcome.exit_code == code, outcome.output
    errors = [line for line in outcome.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "unexpected" not in errors[0]
    for words in said:
        assert words in outcome.stderr
    assert outcome.stdout == ""


def test_gpus_without_a_cuda_device(empty, walked):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with_data(empty, walked[0])
    outcome = fca("train", "--gpus", 2)
    assert outcome.exit_code == 2
    assert "--gpus 2" in outcome.stderr
    assert "--gpus 0" in outcome.stderr


def test_a_corrupt_video_is_listed_and_the_rest_goes_on(empty, walked):
    shutil.copytree(walked[0] / "raw", empty / "raw")
    bad = min((empty / "raw" / "20bn-something-something-v2").glob("?.webm"))
    bad.write_bytes(bad.read_bytes()[:300])
    outcome = fca("prepare", "ssv2", "raw", "--workers", 1, "--json")
    assert outcome.exit_code == 0, outcome.output
    found = json.loads(outcome.stdout)
    assert [clip["id"] for clip in found["skipped"]] == [bad.stem]
    assert sum(found["counts"].values()) == 6
    assert bad.stem in (empty / "data" / "ssv2" / "skipped.json").read_text()
    assert bad.stem in outcome.stderr or "skipped.json" in outcome.stderr


@pytest.fixture
def raw_alone(empty, walked):
    """A folder with nothing but raw data."""
    shutil.copytree(walked[0] / "raw", empty / "raw")
    return empty


def test_check_prints_the_page_and_prepares_nothing(raw_alone):
    outcome = fca("prepare", "ssv2", "raw", "--check", "--workers", 1)
    assert (outcome.exit_code, outcome.stdout) == (0, "data/ssv2/audit.html\n"), outcome.output
    assert (raw_alone / "data" / "ssv2" / "audit.json").is_file() and not list(raw_alone.glob("data/**/*.mp4"))
    assert "nothing was prepared" in outcome.stderr


def test_what_clips_become_is_asked_for_at_the_command_line(raw_alone):
    options = ("--frames", 8, "--init-frames", 2, "--size", "32x32", "--fit", "pad", "--limit", 1, "--split", "train")
    outcome = fca("prepare", "ssv2", "raw", *options, "--filter", "x|.", "--workers", 1, "--name", "small")
    assert (outcome.exit_code, outcome.stdout) == (0, "data/small\n"), outcome.output
    row = json.loads((raw_alone / "data" / "small" / "train" / "metadata.jsonl").read_text())
    assert (row["frames"], row["width"], row["height"]) == (8, 32, 32)


def test_parts_of_a_job_at_the_command_line(raw_alone):
    first = fca("prepare", "ssv2", "raw", "--workers", 1, "--shard", "1/2")
    assert first.exit_code == 0 and "part 1 of 2 is done" in first.stderr, first.output
    second = fca("prepare", "ssv2", "raw", "--workers", 1, "--shard", "2/2")
    assert second.exit_code == 0 and "prepared" in second.stderr, second.output


def test_strict_ends_with_one_error(raw_alone):
    bad = min((raw_alone / "raw" / "20bn-something-something-v2").glob("?.webm"))
    bad.write_bytes(b"x")
    outcome = fca("prepare", "ssv2", "raw", "--workers", 1, "--strict")
    assert outcome.exit_code == 1 and "Invalid data" in outcome.stderr and "without --strict" in outcome.stderr


def test_a_video_with_too_few_frames_is_refused_by_predict(empty, walked):
    from fcacli.prediction.video import write_mp4

    with_a_run(empty, walked[0])
    write_mp4(empty / "short.mp4", np.zeros((1, 32, 32, 3), np.uint8), 8.0)
    outcome = fca("predict", "short.mp4", TEXT)
    assert outcome.exit_code == 1
    assert "short.mp4" in outcome.stderr


def program(*arguments, cwd: Path, **env: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "fcacli", *map(str, arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", **env},
    )


def test_a_hub_model_out_of_reach_says_how_to_fetch_it(empty, walked):
    with_data(empty, walked[0])
    started = program(
        "train", "--gpus", "0", "--base", "cogvideox-5b", cwd=empty, HF_HUB_OFFLINE="1", HF_HOME=str(empty / "hub")
    )
    out, err = started.communicate(timeout=300)
    assert started.returncode == 1, err
    assert out == ""
    assert "hf download zai-org/CogVideoX-5b" in err
    assert "--base FOLDER" in err
    assert err.count("error:") == 1


@pytest.mark.slow
def test_ctrl_c_saves_and_the_same_command_continues(empty, walked, tiny_base_folder):
    shutil.copytree(walked[0] / "data", empty / "data")
    command = ["train", "--gpus", 0, "--base", tiny_base_folder, *SHORT[2:], "--steps", 400]
    started = program(*command, cwd=empty)
    for line in started.stderr:
        if line.startswith("train: 0/"):
            break
    time.sleep(0.5)
    started.send_signal(signal.SIGINT)
    out, err = started.communicate(timeout=300)
    assert started.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
    assert "fca train" in err
    run = next((empty / "runs").iterdir())
    step = int(max((run / "checkpoints").iterdir()).name.removeprefix("step-"))
    again = program(*command, cwd=empty)
    for line in again.stderr:
        if line.startswith("train: "):
            assert line.startswith(f"train: {step}/400")
            break
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=300)
    assert again.returncode == 143
    assert len(list((empty / "runs").iterdir())) == 1
