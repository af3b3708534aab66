"""`fca plan` and what `fca train` asks of it: the phases, what fits, and what is not known."""

import json
import shlex
import shutil
from dataclasses import replace

import pytest
from trained_run import add_run
from typer.main import get_command
from typer.testing import CliRunner

from fcacli.cli.app import app
from fcacli.cli.plan import ASKED, parse_bytes
from fcacli.errors import FcaError, Misuse
from fcacli.model.bases import load_base, resolve_base
from fcacli.planning.memory import Memory, Phase, Planner
from fcacli.training.checkpoint import read_config
from fcacli.workflows import plan as planning
from fcacli.workflows.encode.encode import all_encoded
from fcacli.workflows.pace import seconds_per_step
from fcacli.workflows.plan import plan
from fcacli.workflows.room import free_memory
from fcacli.workflows.train import TrainOptions, train
from fcacli.workflows.train_options import resolve
from fcacli.workspace import Workspace

PHASES = [
    *("encoding captions", "encoding videos", "encoding images", "loading", "training step"),
    *("validation: sampling", "validation: decoding", "saving"),
]


@pytest.fixture(scope="module")
def workspace_here(tmp_path_factory, prepared, tiny_base_folder):
    """A workspace with a dataset, its encodings for the CPU, and a run."""
    root = tmp_path_factory.mktemp("planned")
    shutil.copytree(prepared / "data", root / "data")
    add_run(Workspace(root), "first", tiny_base_folder, (4,))
    return Workspace(root)


@pytest.fixture(scope="module")
def options(tiny_base_folder):
    return TrainOptions(base=str(tiny_base_folder), batch_size=2, accumulate=1)


@pytest.fixture(scope="module")
def planned(workspace_here, options):
    return plan(workspace_here, options, gpus=1)


@pytest.fixture
def untraced(monkeypatch):
    """A memory that is worked out, not traced: 2 GB, 1 more for 16 of the adapter's width, 1 less with checkpointing, 1 less
    with a base that is shared out."""

    def memory(planner, config):
        size = 1_000_000_000 * (2 + config.adapter.width // 16 - config.checkpointing - config.shard_base)
        on_cuda = planner.kind == "cuda"
        phase = Phase("training step", size * on_cuda, size * on_cuda, size * (not on_cuda), size * (not on_cuda))
        return Memory(planner.kind, (phase,), {"adapter": 1}, 1)

    monkeypatch.setattr(Planner, "memory", memory)
    monkeypatch.setattr(Planner, "estimate", lambda planner, config: memory(planner, config).needed)


def test_every_phase_is_planned_and_the_worst_one_named(planned):
    memory = planned.memory
    assert [phase.name for phase in memory.phases] == PHASES
    assert all(0 < phase.device_least <= phase.device and phase.host > 0 for phase in memory.phases)
    assert memory.needed == max(phase.device_least for phase in memory.phases)
    assert planned.card > memory.needed
    resident = sum(memory.parts[part] for part in ("base", "adapter", "optimizer"))
    assert all(phase.device > resident for phase in memory.phases[4:7])


def test_on_the_cpu_all_is_main_memory(workspace_here, options):
    memory = plan(workspace_here, options, gpus=0).memory
    assert memory.kind == "cpu"
    assert all(phase.device == 0 and phase.host_least > 0 for phase in memory.phases)


@pytest.mark.parametrize(
    ("size", "changes"),
    [
        (5.0, {"checkpointing": False}),
        (4.0, {"checkpointing": True}),
        (3.0, {"adapter_width": 16, "checkpointing": True}),
    ],
)
def test_the_least_costly_options_that_fit_are_found(workspace_here, options, untraced, size, changes):
    found = plan(workspace_here, options, gpu_memory=int(size * 1e9))
    assert found.tried[-1]["options"] == changes and found.card <= size * 1e9
    words = shlex.split(found.command)
    assert words[:2] == ["fca", "train"]
    said = CliRunner().invoke(app, ["plan", "--json", *words[2:]])
    assert json.loads(said.stdout)["card"] == found.card, "the line is complete: planned again, it needs the same"


def test_an_optimizer_for_cuda_alone_is_planned_for_a_card_and_refused_for_the_cpu(workspace_here, options):
    paged = replace(options, optimizer="paged-adamw8bit")
    assert plan(workspace_here, paged, gpu_memory=int(12e9)).config.optimizer == "paged-adamw8bit"
    with pytest.raises(Misuse, match="and this is the CPU"):
        plan(workspace_here, paged, gpus=0)


def test_several_cards_share_the_base_where_that_helps(workspace_here, options, untraced):
    asked, tight = replace(options, adapter_width=16, batch_size=2), int(1.9e9)  # 1 GB of tensors, and what is assumed besides
    found = plan(workspace_here, asked, gpus=2, gpu_memory=tight)
    assert found.tried[-1]["options"] == {"checkpointing": True, "shard_base": True}
    assert "--gpus 2" in found.command and "--shard-base" in found.command
    for gpus, clips in ((1, 2), (2, 3)):  # one has nobody to share with; three clips are uneven shares, which would hang
        with pytest.raises(FcaError, match="nothing that was tried fits"):
            plan(workspace_here, replace(asked, batch_size=clips), gpus=gpus, gpu_memory=tight)


def test_what_was_asked_for_stays(workspace_here, options, untraced):
    with pytest.raises(FcaError, match=r"needs 1\.5 GB more"):
        plan(workspace_here, replace(options, adapter_width=32), gpu_memory=int(2.4e9))


def test_where_nothing_fits_it_says_by_how_much_and_what_was_tried(workspace_here, options, untraced):
    with pytest.raises(
        FcaError, match=r"nothing that was tried fits 1\.0 GB: training step needs 1\.9 GB more with .*"
    ) as error:
        plan(workspace_here, options, gpu_memory=int(1e9))
    assert "width 32" in error.value.message and "width 16, 16x32x32, batch 2" in error.value.message
    assert error.value.code == 1


def test_hours_come_from_a_run_here_or_are_not_known(workspace_here, planned):
    assert planned.hours is None
    run = workspace_here.all_runs()[-1]
    config = read_config(run)
    lines = [json.dumps({"step": step, "seconds": 9.0 if step < 3 else 2.0}) for step in range(8)]
    (run / "speed.jsonl").write_text("\n".join(lines) + "\n")
    assert seconds_per_step(workspace_here, config, "cpu") == 2.0
    assert seconds_per_step(workspace_here, config, "cuda") is None
    assert seconds_per_step(workspace_here, replace(config, batch_size=3), "cpu") is None
    assert seconds_per_step(workspace_here, config, "cpu", processes=2) is None
    lines += [json.dumps({"step": step, "seconds": 1.5, "processes": 2}) for step in range(8, 16)]
    (run / "speed.jsonl").write_text("\n".join(lines) + "\n")
    assert [seconds_per_step(workspace_here, config, "cpu", count) for count in (1, 2)] == [2.0, 1.5]


def test_disk_is_that_of_the_prepared_data(workspace_here, options, untraced):
    planned = plan(workspace_here, options, gpus=0)
    kinds = [path for path in (workspace_here.dataset() / "cache").rglob("*") if path.is_file()]
    assert 0 < planned.disk.encodings <= sum(path.stat().st_size for path in kinds)
    assert planned.disk.checkpoints == 4 * planned.memory.checkpoint


def test_nothing_prepared_is_no_obstacle(tmp_path, options, untraced):
    disk = plan(Workspace(tmp_path), options, gpus=1).disk
    assert disk.encodings is None and "no prepared data here; 1,000 clips" in disk.encodings_said


# ---------------------------------------------------------------- train


def test_train_refuses_what_cannot_fit_with_a_line_that_does_unless_forced(workspace_here, options, untraced, monkeypatch):
    small = replace(options, steps=1, validate_clips=0)
    monkeypatch.setattr(planning, "fits_easily", lambda *_: False)
    monkeypatch.setattr(planning, "free_memory", lambda: int(3.5e9))
    before = workspace_here.all_runs()
    with pytest.raises(FcaError, match=r"training step needs 4\.0 GB of memory, 3\.5 GB are free") as error:
        train(workspace_here, small, gpus=0, new=True, besides=["--keep", "1"])
    line, force = error.value.hint.splitlines()
    assert line.startswith("fca train --base") and "--checkpointing" in line and "--force" in force
    assert line.endswith(" --new --keep 1"), "the same run, in less memory"
    assert workspace_here.all_runs() == before
    assert train(workspace_here, small, gpus=0, new=True, force=True).finished


def test_the_line_for_a_fork_is_a_fork_and_keeps_its_adapter(workspace_here, options, untraced, monkeypatch):
    monkeypatch.setattr(planning, "fits_easily", lambda *_: False)
    again = TrainOptions(steps=1, validate_clips=0)
    train(workspace_here, replace(options, steps=1, validate_clips=0), gpus=0, run="source", force=True)
    monkeypatch.setattr(planning, "free_memory", lambda: int(3.5e9))
    with pytest.raises(FcaError) as error:
        train(workspace_here, again, gpus=0, run="other", fork="source")
    assert error.value.hint.splitlines()[0].endswith("--checkpointing --run other --fork source")
    monkeypatch.setattr(planning, "free_memory", lambda: int(2.6e9))
    with pytest.raises(FcaError) as error:
        train(workspace_here, again, gpus=0, fork="source")
    assert "fca train" not in error.value.hint, "a narrower adapter would fit, and is not the fork's"


def test_where_no_line_fits_none_is_given(workspace_here, options, untraced, monkeypatch):
    monkeypatch.setattr(planning, "fits_easily", lambda *_: False)
    monkeypatch.setattr(planning, "free_memory", lambda: 1000)
    with pytest.raises(FcaError) as error:
        train(workspace_here, options, gpus=0, new=True)
    assert "fca train" not in error.value.hint and "--force" in error.value.hint


def test_beside_a_gpu_main_memory_has_to_do_too(planned):
    memory = planned.memory
    peak = memory.host_peak
    planning._require_main_memory(memory, peak.host_least)
    with pytest.raises(FcaError, match=f"{peak.name} needs .* of main memory beside the GPU, 0.0 GB are free"):
        planning._require_main_memory(memory, peak.host_least // 2)


def test_small_trainings_are_not_traced(workspace_here, options, monkeypatch):
    """Planning must cost a small training nothing."""

    def never(*_: object) -> None:
        raise AssertionError("traced")

    monkeypatch.setattr(Planner, "memory", never)
    assert train(workspace_here, replace(options, steps=1, validate_clips=0), gpus=0, new=True).step == 1


def test_what_is_encoded_is_not_planned_again(workspace_here, options):
    base = load_base(resolve_base(options.base))
    clip = resolve(options, base.spec, "", "", True).clip
    dataset = workspace_here.dataset()
    assert all_encoded(base, dataset, clip)
    assert not all_encoded(base, dataset, replace(clip, frames=8))


def test_free_memory_is_less_than_there_is():
    free = free_memory()
    assert free is None or 0 < free < 2**45


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        (
            "0::/job/step\n",
            {"job/memory.max": 5000, "job/memory.current": 2500, "job/memory.stat": "anon 1\ninactive_file 500\n"},
        ),
        (
            "4:memory:/job\n1:cpu:/\n0::/\n",
            {
                "memory/job/memory.limit_in_bytes": 5000,
                "memory/job/memory.usage_in_bytes": 2500,
                "memory/job/memory.stat": "cache 900\ntotal_inactive_file 500\n",
            },
        ),
        ("0::/\n", {"memory.max": 5000, "memory.current": 2000, "memory.stat": ""}),  # as a container sees itself
    ],
)
def test_what_a_container_or_a_job_may_have_is_all_that_is_free(tmp_path, groups, files):
    written = {"proc/meminfo": "MemTotal: 90 kB\nMemAvailable: 80 kB\n", "proc/self/cgroup": groups}
    unlimited = {"sys/fs/cgroup/job/step/memory.max": "max", "sys/fs/cgroup/job/step/memory.current": 1}
    written |= unlimited | {f"sys/fs/cgroup/{name}": content for name, content in files.items()}
    for name, content in written.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(str(content))
    assert free_memory(tmp_path) == 3000
    (tmp_path / "proc/self/cgroup").unlink()
    assert free_memory(tmp_path) == 80 * 1024


# ---------------------------------------------------------------- the command


def test_plan_takes_the_options_that_decide_what_train_does():
    commands = get_command(app).commands
    train_has, plan_has = ({p.name: p.opts for p in commands[name].params} for name in ("train", "plan"))
    assert {name: train_has[name] for name in train_has if name in ASKED}.items() <= plan_has.items()
    assert {"adapter_width", "checkpointing", "size", "adapter_set", "gpus", "gpu_memory"} <= plan_has.keys()
    assert not {"fork", "new", "workers"} & plan_has.keys()


def test_sizes_have_units():
    assert [parse_bytes("--gpu-memory", text) for text in ("12GB", "12GiB", "12000MB", "0.5 gb")] == [
        12_000_000_000,
        12 * 2**30,
        12_000_000_000,
        500_000_000,
    ]
    for text in ("12", "GB", "0GB", "-1GB", "12 parsecs"):
        with pytest.raises(Misuse, match="--gpu-memory takes a size with its unit"):
            parse_bytes("--gpu-memory", text)


def test_the_table_is_for_people_and_json_for_programs(workspace_here, options, untraced, monkeypatch):
    monkeypatch.chdir(workspace_here.root)
    asked = ["plan", "--gpus", "1", "--base", options.base]
    table = CliRunner().invoke(app, asked).stdout
    assert "training step" in table
    assert "as on an H200" in table and "hours: not known" in table
    assert table.splitlines()[-1].startswith("fca train --base")
    values = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    assert [phase["name"] for phase in values["memory"]["phases"]] == ["training step"]
