"""The benchmark: end to end in small, gone on with after a stop in every phase, what it refuses."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fcacli.errors import FcaError, Misuse
from fcacli.events import Event, Progress
from fcacli.workflows.benchmark import run as running
from fcacli.workflows.benchmark.arms import ARMS, Settings, choose_arms, jobs, trials
from fcacli.workflows.benchmark.benchmark import BenchmarkResult, benchmark

ARMS_HERE = ("base", "copy", "fca", "lora-64")
TIMES = ("seconds_per_clip", "seconds_per_step", "made", "config")


@pytest.fixture(scope="module")
def settings(tiny_base_folder: Path) -> Settings:
    return Settings(base=str(tiny_base_folder), steps=2, clips=4, scored=2, sample_steps=1)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, settings: Settings) -> BenchmarkResult:
    """Finished without a stop; read it, do not write into it."""
    return benchmark(tmp_path_factory.mktemp("benchmark") / "whole", settings, only=ARMS_HERE, seeds=1, gpus=0)


def rows(folder: Path) -> dict[str, dict]:
    """All rows, without what was measured."""
    found = {path.stem: json.loads(path.read_text()) for path in (folder / "rows").glob("*.json")}
    return {run: {name: value for name, value in row.items() if name not in TIMES} for run, row in found.items()}


def test_every_arm_has_its_line_and_the_files_are_there(done: BenchmarkResult) -> None:
    assert done.left == []
    assert {path.name for path in done.files} == {"contact_sheet.png", "quality.png", "benchmark.md", "benchmark.json"}
    assert all(path.stat().st_size > 0 for path in done.files)
    assert [line["arm"] for line in done.results["lines"]] == ["base", "copy", "fca", "lora-64"]
    for name in ("base, text only", "copy last frame", "FCA", "LoRA, rank 64"):
        assert name in done.table
    lines = {line["arm"]: line for line in done.results["lines"]}
    assert lines["copy"]["parameters"] == lines["base"]["parameters"] == 0
    assert lines["fca"]["parameters"] > 0
    assert lines["fca"]["multiply_adds"] > lines["base"]["multiply_adds"] > 0
    assert lines["fca"]["seconds_per_step"] > 0
    assert lines["copy"]["seconds_per_clip"] is None
    assert len(lines["fca"]["psnr"]["per_frame"]) == 14
    assert [found["other"] for found in done.results["differences"]] == ["base", "copy", "lora-64"]
    said = (done.folder / "benchmark.md").read_text()
    assert done.results["settings"]["base_fingerprint"] in said
    assert "commit" in said and "learning rate" in said
    sample = lines["fca"]["config"]["sample"]
    assert f"| {sample['steps']} | {sample['guidance']} | {sample['sampler']} |" in said


def test_the_first_seed_is_validated_on_the_way(done: BenchmarkResult) -> None:
    steps = sorted(path.name for path in (done.folder / "runs" / "fca-seed0" / "validation").iterdir())
    assert steps == ["step-000001", "step-000002"]


def test_again_nothing_is_computed(done: BenchmarkResult, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "score", lambda *_: pytest.fail("scored again"))
    again = benchmark(done.folder, settings, only=ARMS_HERE, seeds=1, gpus=0)
    assert again.table == done.table


def stopped_once_in(seen: set[str]) -> Callable[[Event], None]:
    """A report that ends the work once in the middle of every phase, as a kill does."""

    def report(event: Event) -> None:
        if isinstance(event, Progress) and event.phase != "runs" and event.phase not in seen and event.done > 0:
            seen.add(event.phase)
            raise KeyboardInterrupt

    return report


def test_stopped_in_every_phase_it_goes_on_and_ends_the_same(tmp_path: Path, done: BenchmarkResult, settings: Settings) -> None:
    folder, seen, predicted = tmp_path / "stopped", set(), {}
    report = stopped_once_in(seen)
    for _ in range(40):
        try:
            benchmark(folder, settings, only=("copy", "fca"), seeds=1, gpus=0, report=report)
            break
        except KeyboardInterrupt:
            predicted |= {path: path.stat().st_mtime_ns for path in folder.glob("clips/*/*.png") if path not in predicted}
    phases = {phase.partition(": ")[2] for phase in seen if phase.startswith("fca-seed0: ")}
    assert {"encode videos", "train", "predict", "judge"} <= phases
    assert any(phase.startswith("validation") for phase in phases)
    assert {"draw clips", "preparing clips"} <= seen
    assert predicted and all(path.stat().st_mtime_ns == made for path, made in predicted.items()), "a clip was made again"
    assert rows(folder) == {run: row for run, row in rows(done.folder).items() if run in ("copy", "fca-seed0")}


def test_when_the_time_is_up_it_says_what_is_left(tmp_path: Path, settings: Settings) -> None:
    result = benchmark(tmp_path / "short", settings, only=("copy", "fca"), seeds=2, gpus=0, minutes=0)
    assert result.left == ["copy", "fca-seed0", "fca-seed1"]
    assert result.table == "no run is finished yet"


def test_time_up_in_training_keeps_the_steps(tmp_path: Path, done: BenchmarkResult, settings: Settings) -> None:
    folder = tmp_path / "short"
    shutil.copytree(done.folder, folder)
    shutil.rmtree(folder / "runs")
    (folder / "rows" / "fca-seed0.json").unlink()
    clock = running.Clock
    left = iter([100.0, 1e-6])

    class Ending(clock):
        def left(self) -> float | None:
            return next(left, 100.0)

    from fcacli.workflows.benchmark.processes import OutOfTime
    from fcacli.workspace import Workspace

    job = jobs(choose_arms(["fca"]), settings, 1, {})[0]
    with pytest.raises(OutOfTime):
        running.run_job(Workspace(folder), settings, "cpu", Ending(None), job, lambda event: None)
    assert list((folder / "runs" / "fca-seed0" / "checkpoints").iterdir())
    assert not (folder / "rows" / "fca-seed0.json").is_file()


# ---------------------------------------------------------------- what it refuses


def test_other_settings_and_another_base_are_refused(tmp_path: Path, settings: Settings) -> None:
    folder = tmp_path / "b"
    benchmark(folder, settings, only=("copy",), minutes=0, gpus=0)
    before = (folder / "settings.json").read_text()
    with pytest.raises(Misuse, match=r"other settings: steps: 2 -> 3"):
        benchmark(folder, Settings(**{**settings.__dict__, "steps": 3}), gpus=0)
    (folder / "settings.json").write_text(before.replace('"base_fingerprint": "', '"base_fingerprint": "x'))
    with pytest.raises(Misuse, match="base_fingerprint"):
        benchmark(folder, settings, gpus=0)


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, settings: Settings) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(FcaError, match="holds something else"):
        benchmark(tmp_path, settings, gpus=0)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_an_unknown_arm_is_refused(tmp_path: Path, settings: Settings) -> None:
    with pytest.raises(Misuse, match="--only ia3: there is no such arm"):
        benchmark(tmp_path / "b", settings, only=("ia3",), gpus=0)
    assert not (tmp_path / "b").exists()


# ---------------------------------------------------------------- jobs


def test_first_seeds_come_first_and_ablations_have_one() -> None:
    settings = Settings()
    found = jobs(ARMS, settings, 3, {"fca": 0.5})
    runs = [job.run for job in found]
    assert len(set(runs)) == len(runs)
    assert runs.index("fca-seed1") > max(i for i, run in enumerate(runs) if run.endswith("seed0"))
    assert "no-x-init-seed1" not in runs and "fca-seed2" in runs
    by_run = {job.run: job for job in found}
    assert by_run["no-x-init-seed0"].lr == by_run["fca-17-seed0"].lr == by_run["fca-seed2"].lr == 0.5
    assert by_run["lora-64-seed0"].lr is None
    assert {(job.arm.frames, job.arm.given) for job in found} == {(16, 2), (17, 1), (17, 9)}
    assert by_run["fca-seed0"].clips == slice(64, 320) and by_run["no-mask-seed0"].clips == slice(64, 128)


def test_trials_are_scored_on_reserved_clips_alone() -> None:
    settings = Settings()
    found = trials(choose_arms(["no-mask", "lora-16"]), settings, {})
    assert {job.arm.name for job in found} == {"fca", "lora-16"}
    assert len({job.lr for job in found if job.arm.name == "fca"}) == 3
    reserved = range(*found[0].clips.indices(10**6))
    assert all(job.clips == found[0].clips and job.steps == 500 for job in found)
    assert not set(reserved) & {i for job in jobs(ARMS, settings, 3, {}) for i in range(*job.clips.indices(10**6))}


def test_while_the_best_rate_is_at_the_edge_one_beyond_is_tried() -> None:
    def tried(best: dict[str, float]) -> list[float | None]:
        return [job.lr for job in trials(choose_arms(["lora-16"]), Settings(), best)]

    assert tried({}) == tried({"lora-16": 9e-3}) == [3e-3, 9e-3, 0.03]
    assert tried({"lora-16": 0.03}) == [3e-3, 9e-3, 0.03, 0.08]
    assert tried({"lora-16": 0.08}) == [3e-3, 9e-3, 0.03, 0.08, 0.2] == tried({"lora-16": 0.2}), "not for ever"
    assert tried({"lora-16": 3e-3}) == [1e-3, 3e-3, 9e-3, 0.03]


def test_every_arm_is_a_configuration_of_the_bundled_base() -> None:
    from fcacli.model.bases import resolve_base
    from fcacli.workflows.train_options import TrainOptions, resolve

    spec = resolve_base("mini")
    configs = [
        resolve(TrainOptions(base="mini", frames=arm.frames, init_frames=arm.given, **arm.options), spec, "x", "toy", True)
        for arm in ARMS
        if arm.method == "trained"
    ]
    assert len({str(config) for config in configs}) == len(configs)


# ---------------------------------------------------------------- the command


def test_the_command_prints_json_or_the_table_and_says_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from fcacli.cli.app import app

    monkeypatch.chdir(tmp_path)
    line = ["benchmark", "b", "--only", "fca", "--only", "copy", "--seeds", "1", "--gpus", "0", "--minutes", "0"]
    outcome = CliRunner().invoke(app, [*line, "--json"])
    assert outcome.exit_code == 0, outcome.output
    assert json.loads(outcome.stdout)["left"] == ["copy", "fca-seed0"]
    assert json.loads(outcome.stdout)["results"]["settings"]["steps"] == 2000
    assert "2 runs are left: the same line goes on" in outcome.stderr
    assert CliRunner().invoke(app, line).stdout == "no run is finished yet\n"
    refused = CliRunner().invoke(app, [*line, "--steps", "7"])
    assert refused.exit_code == 2 and "steps: 2000 -> 7" in refused.stderr
