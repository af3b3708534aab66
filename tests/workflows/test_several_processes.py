"""Claims about `fca train` by several processes as a whole, and about starting them."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from listening import equal, weights
from typer.testing import CliRunner

from fcacli.cli.app import app
from fcacli.errors import FcaError, Misuse
from fcacli.events import Message, Progress
from fcacli.training.loader import micro_batches
from fcacli.workflows import launch, launch_script, meeting, ranks
from fcacli.workflows.accelerate_config import read_layout
from fcacli.workflows.launch import Layout, layout
from fcacli.workflows.meeting import await_meeting
from fcacli.workflows.shares import enough_for, require_shares
from fcacli.workflows.train import train
from fcacli.workflows.train_options import TrainOptions

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from several import apart, ranks_of


def test_two_processes_leave_the_run_of_one(workspace, asked, tmp_path):
    """Found, encoded, trained, validated, saved."""
    options = replace(asked, accumulate=2, validate_clips=2)
    one = apart(tmp_path / "alone", lambda: train(workspace, options, gpus=0, run="one"))
    cache, said = workspace.dataset() / "cache", []
    encoded = {path: path.read_bytes() for path in cache.rglob("*.safetensors")}
    shutil.rmtree(cache)
    two = ranks_of(2, tmp_path / "answers", lambda: train(workspace, options, gpus=0, run="two", report=said.append))
    assert two[0] == two[1] and two[0].finished and two[0].train_loss == one.train_loss
    assert encoded == {path: path.read_bytes() for path in cache.rglob("*.safetensors")}
    assert equal(weights(one.run), weights(two[0].run))
    assert (one.run / "log.jsonl").read_bytes() == (two[0].run / "log.jsonl").read_bytes()
    shown = [
        {path.relative_to(run): path.read_bytes() for path in (run / "validation").rglob("*.[pj][ns]*")}
        for run in (one.run, two[0].run)
    ]
    assert shown[0] == shown[1] and len(shown[0]) == 2 * (2 * 17 + 2) + 1  # clips, clips.png, figures; parity.json
    configs = [json.loads((run / "config.json").read_text())["config"] for run in (one.run, two[0].run)]
    assert configs[0] == configs[1]


def test_two_processes_that_share_the_base_leave_the_run_of_one_and_one_goes_on(workspace, asked, tmp_path):
    """Validated and stopped on the way, too."""
    options = replace(asked, accumulate=2, validate_clips=1, shard_base=True)
    one = apart(tmp_path / "alone", lambda: train(workspace, replace(options, shard_base=None), gpus=0, run="one"))
    two = ranks_of(2, tmp_path / "answers", lambda: train(workspace, options, gpus=0, run="two"))
    assert two[0].finished and two[0].train_loss == one.train_loss and two[0].held_out_loss == one.held_out_loss
    assert equal(weights(one.run), weights(two[0].run))
    shown = [{path.name: path.read_bytes() for path in (run / "validation").rglob("*.png")} for run in (one.run, two[0].run)]
    assert shown[0] == shown[1] and shown[0]

    def stop(event):
        if isinstance(event, Progress) and event.phase == "train" and event.done == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    stopped = ranks_of(2, tmp_path / "more", lambda: train(workspace, options, gpus=0, run="three", report=stop))
    assert {kind for kind, _ in stopped} == {"Interrupted"} and "at step 3 of 4, saved" in stopped[0][1]
    three = apart(tmp_path / "last", lambda: train(workspace, TrainOptions(), gpus=0, run="three"))
    assert three.finished and equal(weights(one.run), weights(three.run))


def test_a_wrong_option_is_said_by_all_alike(workspace, asked, tmp_path):
    wrong = replace(asked, adapter_width=33)
    ended = ranks_of(2, tmp_path / "answers", lambda: train(workspace, wrong, gpus=0))
    assert {kind for kind, _ in ended} <= {"Misuse", "FcaError"} and len({message for _, message in ended}) == 1
    assert not list(workspace.runs.glob("*/config.json"))


def test_a_step_has_a_clip_for_each_process(make_train_config):
    config = make_train_config(batch_size=2, accumulate=2)
    assert enough_for(4, TrainOptions(), config) == config
    assert enough_for(5, TrainOptions(), config).accumulate == 3
    assert enough_for(5, TrainOptions(accumulate=2), config) == config
    with pytest.raises(Misuse, match=r"a step has 4 clips \(--batch-size 2 x --accumulate 2\), too few for 5 processes"):
        require_shares(TrainOptions(), config, 5, lambda event: None)
    with pytest.raises(Misuse, match="--offload-gradients is for one process, and these are 2"):
        require_shares(TrainOptions(), replace(config, offload_gradients=True), 2, lambda event: None)
    said: list[Message] = []
    with pytest.raises(Misuse, match="--shard-base shares the frozen base out among processes, and this is one"):
        require_shares(TrainOptions(shard_base=True), config, 1, lambda event: None)
    sharded = make_train_config(batch_size=1, accumulate=4, shard_base=True)
    with pytest.raises(Misuse, match="in unequal numbers of batches for 3 processes") as refused:
        require_shares(TrainOptions(), sharded, 3, lambda event: None)
    assert "--accumulate 6" in refused.value.hint and enough_for(3, TrainOptions(), sharded).accumulate == 6
    for processes in (1, 2, 4, 5, 7):
        shared = enough_for(processes, TrainOptions(), sharded)
        assert len({len(micro_batches(shared, rank, processes)) for rank in range(processes)}) == 1
    require_shares(TrainOptions(), config, 3, said.append)
    assert said[0].level == "warning" and "cannot share evenly" in said[0].text


@pytest.fixture
def make_train_config(workspace, asked):
    """The configuration of `asked` on the tiny base, with other fields."""
    from fcacli.model.bases import resolve_base
    from fcacli.workflows.train_options import resolve

    config = resolve(asked, resolve_base(asked.base), "0", "ssv2", False)
    return lambda **changes: replace(config, **changes)


def test_who_trains(monkeypatch):
    assert layout(None, None, 1, None, None) is None and layout(1, None, 1, None, None) is None
    assert layout(0, 2, 1, None, None) == Layout(processes=2, device="cpu")
    assert layout(3, None, command="eval") == Layout(command="eval", processes=3, device="cuda")
    assert layout(4, None, 2, "node1:29500", None) == Layout(processes=4, nodes=2, rendezvous="node1:29500", device="cuda")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert layout(4, None, 1, None, None) is None and not ranks.is_main() and ranks.here() == 1
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert ranks.here() == 2


CONFIG = """
compute_environment: LOCAL_MACHINE
distributed_type: {kind}
num_machines: {machines}
num_processes: 8
main_process_ip: node1
main_process_port: 4000
mixed_precision: 'no'
use_cpu: {cpu}
"""


def test_an_accelerate_config_says_how_many_and_where(tmp_path):
    path = tmp_path / "accelerate.yaml"
    path.write_text(CONFIG.format(kind="MULTI_GPU", machines=2, cpu="false"))
    found = read_layout(path, None, None, 1, None)
    assert found == Layout(processes=4, nodes=2, rendezvous="node1:4000", accelerate_config=path, device="cuda")
    assert read_layout(path, 2, None, 1, "other:1").processes == 2
    path.write_text(CONFIG.format(kind="MULTI_CPU", machines=1, cpu="true"))
    assert read_layout(path, 0, 3, 1, None) == Layout(processes=3, accelerate_config=path, device="cpu")
    assert read_layout(path, None, None, 1, None).more == ("--gpus", "0"), "its processes are told so"
    path.write_text(CONFIG.format(kind="FSDP", machines=1, cpu="false"))
    assert read_layout(path, None, None, 1, None).more == ("--shard-base",) and not read_layout(path, 1, None, 1, None).more
    path.write_text(CONFIG.format(kind="FSDP", machines=1, cpu="false").replace("'no'", "bf16"))
    assert read_layout(path, None, None, 1, None).more == ("--shard-base", "--precision", "bf16")
    path.write_text(CONFIG.format(kind="MULTI_GPU", machines=1, cpu="false").replace("'no'", "fp16"))
    with pytest.raises(Misuse, match="has mixed_precision fp16; fca computes in bf16 or fp32"):
        read_layout(path, None, None, 1, None)
    path.write_text(CONFIG.format(kind="DEEPSPEED", machines=1, cpu="false"))
    with pytest.raises(Misuse, match="has distributed_type DEEPSPEED"):
        read_layout(path, None, None, 1, None)
    path.write_text("- nonsense")
    with pytest.raises(Misuse, match="is no file of `accelerate config`"):
        read_layout(path, None, None, 1, None)


@pytest.mark.parametrize(("kind", "cpu", "gpus"), [("'NO'", "false", None), ("MULTI_GPU", "false", 1), ("'NO'", "true", 0)])
def test_an_accelerate_config_of_one_process_trains_here(tmp_path, monkeypatch, kind, cpu, gpus):
    path = tmp_path / "accelerate.yaml"
    path.write_text(CONFIG.format(kind=kind, machines=1, cpu=cpu).replace("num_processes: 8", "num_processes: 1"))
    monkeypatch.setattr("fcacli.workflows.launch.launch", lambda *_: pytest.fail("a launcher for one process"))
    taken = []

    def train_here(_, options, *, gpus, **__):
        taken.append((gpus, options.precision))
        raise FcaError("far enough")

    monkeypatch.setattr("fcacli.workflows.train.train", train_here)
    words = ["train", "--accelerate-config", str(path), *(["--gpus", "1"] if gpus == 1 else [])]
    assert CliRunner().invoke(app, words).exit_code == 1 and taken == [(gpus, None)]
    path.write_text(path.read_text().replace("'no'", "bf16"))
    for more in ([], ["--precision", "fp32"]):
        assert CliRunner().invoke(app, [*words, *more]).exit_code == 1
    assert taken[1:] == [(gpus, "bf16"), (gpus, "fp32")], "what the command itself says holds"


def test_several_machines_meet_by_torchs_launcher(tmp_path, monkeypatch):
    """In the file that machines share nothing says which one each is."""
    from torch.distributed.launcher import api

    path = tmp_path / "accelerate.yaml"
    path.write_text(CONFIG.format(kind="MULTI_GPU", machines=2, cpu="false"))
    taken = []
    monkeypatch.setattr(api, "elastic_launch", lambda config, _: lambda *words: taken.append((config, words)))
    launch._start(["train"], read_layout(path, None, None, 1, None))()
    ((config, words),) = taken
    assert (config.min_nodes, config.max_nodes, config.nproc_per_node, config.rdzv_endpoint) == (2, 2, 4, "node1:4000")
    assert words == ("-m", "fcacli", "train")


def test_what_is_said_besides_the_options_of_a_run_is_passed_on(monkeypatch):
    """For the line that a refused training proposes."""
    taken = []

    def train_here(*_, besides, **__):
        taken.append(besides)
        raise FcaError("far enough")

    monkeypatch.setattr("fcacli.workflows.train.train", train_here)
    for words in (["--keep", "3", "--steps", "9"], ["--keep", "1", "--max-minutes", "2.5", "--workers", "0"]):
        assert CliRunner().invoke(app, ["train", *words]).exit_code == 1
    assert taken == [[], ["--keep", "1", "--workers", "0", "--max-minutes", "2.5"]]


def test_options_of_the_command_hold_over_those_of_the_file(monkeypatch):
    taken = []
    monkeypatch.setattr(launch, "_start", lambda words, _: taken.append(words) or (lambda: None))
    launch.launch(
        ["train", "--precision", "fp32"], Layout(processes=2, device="cpu", more=("--precision", "bf16")), lambda _: None
    )
    assert taken == [["train", "--precision", "bf16", "--precision", "fp32"]]


@pytest.mark.parametrize("kind", ["MULTI_GPU", "FSDP"])
def test_accelerate_launch_gets_file_processes_and_command(tmp_path, monkeypatch, kind):
    from accelerate.commands import launch as theirs

    from fcacli.workflows.accelerate_config import accelerate_launch

    path = tmp_path / "accelerate.yaml"
    path.write_text(CONFIG.format(kind=kind, machines=1, cpu="false"))
    taken = []
    monkeypatch.setattr(theirs, "multi_gpu_launcher", taken.append)
    accelerate_launch(["train", "--gpus", "4"], read_layout(path, None, None, 1, None))()
    (given,) = taken
    assert (given.num_processes, given.num_machines, given.main_process_ip, given.main_process_port) == (8, 1, "node1", 4000)
    assert not given.use_fsdp, "its processes would be told to spread the adapter"
    assert given.module and [given.training_script, *given.training_script_args] == ["fcacli", "train", "--gpus", "4"]


def test_a_launcher_that_spreads_the_model_is_refused(workspace, asked, monkeypatch, tmp_path):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    ended = ranks_of(2, tmp_path, lambda: train(workspace, asked, gpus=0))
    assert all(kind == "Misuse" and "ACCELERATE_USE_FSDP is set" in message for kind, message in ended)


def test_the_script_is_sound_and_names_machines_devices_and_the_way_on(tmp_path):
    words = ["train", "--gpus", "4", "--nodes", "2", "--rendezvous=a:1", "--print-launch", "--data", "it's here"]
    script = launch_script.slurm_script(words, Layout(processes=4, nodes=2, device="cuda"))
    for line in ("#SBATCH --nodes=2", "#SBATCH --gpus-per-node=4", "#SBATCH --signal=TERM@120", "#SBATCH --requeue"):
        assert line in script.splitlines()
    assert script.splitlines()[-1].endswith(
        """fcacli train --gpus 4 --data 'it'"'"'s here' --nodes 2 --rendezvous "$head:$((10000 + SLURM_JOB_ID % 20000))\""""
    )
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    for begins in (["--new"], ["--fork", "latest"], ["--fork=latest"]):
        again = launch_script.slurm_script([*words, *begins], Layout(processes=4, device="cuda")).splitlines()
        assert "#SBATCH --requeue" not in again and any(line.startswith("#SBATCH --no-requeue") for line in again)
    alone = launch_script.slurm_script(words, Layout(processes=4, device="cuda"))
    assert "# on one machine without SLURM: torchrun --standalone --nproc-per-node 4 -m fcacli train --gpus 4" in alone


def test_the_printed_script_starts_the_command_under_slurm(tmp_path):
    """With an `srun` and a `scontrol` that stand for SLURM's."""
    for name, body in (("srun", 'shift; printf "%s\\n" "$@"'), ("scontrol", "printf 'node1\\nnode2\\n'")):
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    script = launch_script.slurm_script(["train", "--gpus", "2"], Layout(processes=2, nodes=2, device="cuda"))
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_NODELIST": "node[1-2]", "SLURM_JOB_ID": "4100123"}
    done = subprocess.run(["bash"], input=script, text=True, capture_output=True, env=environment)
    expected = ["python", "-m", "fcacli", "train", "--gpus", "2", "--nodes", "2", "--rendezvous", "node1:10123"]
    assert done.stdout.split() == expected


class Failed(Exception):
    """As torch's launcher raises it."""

    def __init__(self, *failures):
        super().__init__("many lines")
        self.failures = dict(enumerate(failures))


class Failure:
    def __init__(self, exitcode: int, timestamp: int, **about):
        self.exitcode, self.timestamp = exitcode, timestamp
        self.error_file_data = {"fca": {"hint": "", "code": 1, "lost": False} | about} if about else {"message": "<N/A>"}

    def signal_name(self):
        return "SIGKILL"


def reason(*failures, received=None, layout=None) -> FcaError:
    parent = launch._Parent(
        lambda event: None, layout or Layout(processes=len(failures), device="cpu"), ["train", "--steps", "9"]
    )
    parent._received = received
    return parent._reason(Failed(*failures))


def test_of_several_failures_the_cause_is_told():
    lost = Failure(1, 5, message="another process of this run has ended; stopped at step 3, saved in x", lost=True)
    killed = Failure(-9, 9)
    assert reason(lost, killed).message == "process 1 of 2 of this run was killed by SIGKILL; stopped at step 3, saved in x"
    own = Failure(2, 7, message="no such option", hint="another", code=2)
    told = reason(lost, own, killed)
    assert (told.message, told.hint, told.code) == ("no such option", "another", 2)
    stopped = Failure(143, 5, message="stopped by SIGTERM at step 4, saved in x", code=143)
    assert reason(stopped, killed, received=15).message == "stopped by SIGTERM at step 4, saved in x"
    early = reason(Failure(143, 5, message="stopped by SIGTERM; run the same command to continue", code=143), received=2)
    assert (early.message, early.hint, early.code) == ("stopped by Ctrl-C", "fca train --steps 9", 130)
    assert reason(killed, killed, received=15).code == 143
    assert reason(lost, lost).message.startswith("another process of this run has ended; stopped at step 3")
    ended_by_launcher = Failure(-15, 9)
    assert "process 1 of 2 of this run was killed by SIGKILL" in reason(ended_by_launcher, killed).message
    said_and_ended = Failure(-15, 5, message="another process of this run has ended; stopped at step 3, saved in x", lost=True)
    assert "process 1 of 2 of this run was killed by SIGKILL; stopped" in reason(said_and_ended, killed).message
    assert "process 0 of 1 of this run ended with status 3" in reason(Failure(3, 5)).message


def test_processes_of_all_machines_are_counted_and_go_on_as_they_were():
    two_machines = Layout(processes=1, nodes=2, rendezvous="node1:4000", device="cpu")
    killed = reason(
        Failure(1, 5, message="another process of this run has ended", lost=True), Failure(-9, 9), layout=two_machines
    )
    assert killed.message == "process 1 of 2 of this run was killed by SIGKILL"
    assert killed.hint.startswith("fca train --gpus 0 --nodes 2 --rendezvous node1:4000   (continues it")
    saved = Failure(1, 5, message="loss is not finite; saved in x", hint="fca train --run first   (continues it)")
    assert reason(saved, saved).hint == "fca train --run first --gpus 0 --processes 2   (continues it)"
    assert reason(Failure(2, 5, message="no", hint="fca train --new")).hint == "fca train --new"


def test_machines_that_do_not_meet_are_one_error():
    class RendezvousTimeoutError(Exception):
        pass

    parent = launch._Parent(lambda event: None, Layout(processes=1, nodes=2, rendezvous="node1:4000", device="cpu"), [])
    told = parent._reason(RendezvousTimeoutError("too long"))
    assert told.message == "the 2 machines have not met at node1:4000: too long" and "the same line on all of them" in told.hint


def test_a_host_that_is_not_known_is_named_at_once():
    with pytest.raises(FcaError, match="is no host that is known here"):
        await_meeting("no-such-host.invalid:4000", lambda event: None)


def test_the_machine_of_the_meeting_does_not_wait_and_the_others_wait_for_it(monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    said, waited = [], []
    await_meeting(f"127.0.0.1:{port}", said.append, sleep=waited.append)
    await_meeting(f"[::1]:{port}", said.append, sleep=waited.append)
    assert not said and not waited, "it is here"
    monkeypatch.setattr(meeting, "_is_here", lambda *place: False)
    with socket.socket() as other:

        def come_up(seconds: float) -> None:
            waited.append(seconds)
            if len(waited) == 3:
                other.bind(("127.0.0.1", port))
                other.listen()

        await_meeting(f"127.0.0.1:{port}", said.append, sleep=come_up)
    assert len(waited) == 3 and [event.text for event in said] == [f"waiting for 127.0.0.1 to answer on port {port}"]
    with pytest.raises(FcaError, match="no machine has answered at --rendezvous") as silent:
        await_meeting(f"127.0.0.1:{port}", said.append, patience=0, sleep=waited.append)
    assert f"port {port} has to be open" in silent.value.hint


@pytest.mark.parametrize("base", [None, "cogvideox-2b"])
def test_a_script_is_checked_before_it_is_printed(workspace, base):
    said = []
    options = TrainOptions(base=base)
    launch_script.check(workspace, options, Layout(processes=4, nodes=2, device="cuda"), said.append)
    assert any("checked as for cogvideox-2b" in event.text for event in said) == (base is None)
    with pytest.raises(Misuse, match="--offload-gradients is for one process, and these are 8"):
        asked = replace(options, offload_gradients=True)
        launch_script.check(workspace, asked, Layout(processes=4, nodes=2, device="cuda"), said.append)


def test_the_script_of_a_run_that_goes_on_is_checked_by_its_own_options(workspace, asked):
    options = replace(asked, batch_size=2, accumulate=1)
    run = train(workspace, replace(options, steps=2), gpus=0, run="short", max_seconds=0).run
    two, four = (Layout(processes=count, device="cpu") for count in (2, 4))
    launch_script.check(workspace, TrainOptions(), two, lambda event: None, run=run.name)
    with pytest.raises(Misuse, match="a step has 2 clips"):
        launch_script.check(workspace, TrainOptions(), four, lambda event: None, run=run.name)
    with pytest.raises(Misuse, match="steps: 2 -> 9"):
        launch_script.check(workspace, TrainOptions(steps=9), two, lambda event: None, run=run.name)
    train(workspace, gpus=0, run="short")
    with pytest.raises(FcaError, match="run 'short' exists already"):
        launch_script.check(workspace, TrainOptions(steps=9), two, lambda event: None, run=run.name)
    launch_script.check(workspace, TrainOptions(steps=9), four, lambda event: None, fork=run.name)
    with pytest.raises(Misuse, match="a step has 2 clips"):
        launch_script.check(workspace, TrainOptions(accumulate=1), four, lambda event: None, fork=run.name)
    with pytest.raises(FcaError, match="no run 'nosuch'"):
        launch_script.check(workspace, TrainOptions(), two, lambda event: None, fork="nosuch")


def test_a_script_is_checked_with_what_a_file_adds(workspace):
    shared = Layout(processes=3, device="cuda", more=("--shard-base",))
    with pytest.raises(Misuse, match="in unequal numbers of batches for 3 processes"):
        launch_script.check(workspace, TrainOptions(base="cogvideox-2b", accumulate=4), shared, lambda event: None)
