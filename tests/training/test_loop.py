"""Claims about the loop: resume is exact, only the adapter changes, faults stop it with what one needs to know.

On the tiny random base; clips are random encodings in memory.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fitting import FCA, LORA, StopAt, assert_same_run, clips, run_fit, weights

from fcacli.errors import FcaError, Interrupted
from fcacli.events import Message, Progress
from fcacli.model.attach import attach, detach
from fcacli.training import checkpoint, loop

pytestmark = pytest.mark.usefixtures("bare")


@pytest.mark.parametrize("optimizer", ["adamw8bit", "adamw"])
@pytest.mark.parametrize("adapter", [FCA, LORA], ids=["fca", "lora"])
def test_resume_matches_uninterrupted_run(base, settings, tmp_path, optimizer, adapter):
    """Bitwise: weights and log, with accumulation, killed between two checkpoints."""
    config = replace(settings, optimizer=optimizer, adapter=adapter, accumulate=2, validate_every=3, caption_dropout=0.4)
    run_fit(base, config, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        run_fit(base, config, tmp_path / "resumed", StopAt(5))
    assert checkpoint.step_of(checkpoint.latest(tmp_path / "resumed")) == 3
    run_fit(base, config, tmp_path / "resumed")
    assert_same_run(tmp_path / "straight", tmp_path / "resumed")
    steps = [json.loads(line)["step"] for line in (tmp_path / "resumed" / "log.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 3, 4, 5, 6, 6]


class FromDisk(torch.utils.data.Dataset):
    """Five clips that have to be loaded; one of them cannot be if it is named."""

    def __init__(self, vanished: int | None = None):
        self.clips, self.vanished = clips(5), vanished

    def __len__(self):
        return 5

    def __getitem__(self, index):
        if index == self.vanished:
            raise FcaError(f"clip {index} has vanished", "look for it")
        return self.clips[index]


@pytest.fixture
def from_disk(monkeypatch):
    monkeypatch.setattr(loop, "in_memory", lambda dataset: dataset)


def test_resume_with_workers_recomputed_activations_and_bf16_is_exact(base, settings, tmp_path, from_disk):
    config = replace(settings, checkpointing=True, precision="bf16")
    run_fit(base, config, tmp_path / "straight", data=FromDisk())
    with pytest.raises(KeyboardInterrupt):
        run_fit(base, config, tmp_path / "resumed", StopAt(3), data=FromDisk(), workers=2, checkpoint_seconds=0)
    run_fit(base, config, tmp_path / "resumed", data=FromDisk(), workers=1)
    assert_same_run(tmp_path / "straight", tmp_path / "resumed")


@pytest.mark.parametrize("workers", [0, 1])
def test_clip_that_vanishes_while_training_is_named_and_the_run_saved_and_exact(base, settings, tmp_path, from_disk, workers):
    """In the second half of an accumulated step: the gradients of its first half are forgotten."""
    config = replace(settings, batch_size=1, accumulate=2)
    vanished = loop.order(0, 0, 5)[3]  # read as the last of step 2
    with pytest.raises(FcaError) as stopped:
        run_fit(base, config, tmp_path / "run", data=FromDisk(vanished), workers=workers)
    assert f"clip {vanished} has vanished; stopped at step 1, saved in" in stopped.value.message
    assert (stopped.value.hint, stopped.value.code) == ("look for it", 1)
    assert checkpoint.step_of(checkpoint.latest(tmp_path / "run")) == 1
    run_fit(base, config, tmp_path / "run", data=FromDisk())
    run_fit(base, config, tmp_path / "straight", data=FromDisk())
    assert_same_run(tmp_path / "straight", tmp_path / "run")


class Deadly(FromDisk):
    """The process that loads the fourth clip dies, as of the kernel's out-of-memory killer."""

    def __getitem__(self, index):
        import os
        import signal

        if index == loop.order(0, 0, 5)[3]:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def test_a_loader_process_that_dies_is_said(base, settings, tmp_path, from_disk):
    with pytest.raises(FcaError, match="a process that loads clips has died") as stopped:
        run_fit(base, settings, tmp_path / "run", data=Deadly(), workers=1)
    assert "--workers 0" in stopped.value.hint and "saved in" in stopped.value.message


def test_workers_survive_the_signal_that_stops_the_run(base, settings, tmp_path, from_disk):
    """Ctrl-C goes to all processes of the terminal; the step under way still needs its clips."""
    import multiprocessing
    import os
    import signal

    def interrupt_all(event):
        if isinstance(event, Progress) and event.phase == "train" and event.done == 1:
            for process in multiprocessing.active_children():
                os.kill(process.pid, signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match="Ctrl-C at step 1 of 6"):
        run_fit(base, settings, tmp_path / "run", interrupt_all, data=FromDisk(), workers=2)


def test_accumulation_changes_no_draw(base, settings, tmp_path):
    """Four clips at once or two and two: equal up to the order of additions."""
    run_fit(base, replace(settings, batch_size=4, steps=2), tmp_path / "whole")
    run_fit(base, replace(settings, batch_size=2, accumulate=2, steps=2), tmp_path / "split")
    for one, other in zip(weights(tmp_path / "whole").values(), weights(tmp_path / "split").values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("adapter", [FCA, LORA], ids=["fca", "lora"])
def test_only_the_adapter_changes(base, settings, tmp_path, adapter):
    before = {name: parameter.clone() for name, parameter in base.transformer.state_dict().items()}
    run_fit(base, replace(settings, adapter=adapter, steps=3), tmp_path / "run")
    started = weights_at_start(base, replace(settings, adapter=adapter))
    detach(base.transformer)
    after = base.transformer.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in base.transformer.parameters())
    trained = weights(tmp_path / "run")
    changed = [name for name in trained if not torch.equal(trained[name], started[name])]
    assert len(changed) > 0.9 * len(trained)


def weights_at_start(base, config) -> dict[str, torch.Tensor]:
    detach(base.transformer)
    torch.manual_seed(config.seed)
    return {name: tensor.clone() for name, tensor in attach(base, config.adapter, config.clip).state().items()}


def test_loss_falls_on_a_clip_learned_by_heart(base, settings, tmp_path):
    run_fit(base, replace(settings, steps=60, lr=1e-2, caption_dropout=0.0, batch_size=4), tmp_path / "run", data=clips(1))
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()[:60]]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_non_finite_stops_with_step_clips_and_last_checkpoint(base, settings, tmp_path, where, monkeypatch):
    data = clips(5)
    config = replace(settings, steps=9)
    with pytest.raises(KeyboardInterrupt):
        run_fit(base, config, tmp_path / "run", StopAt(2), data=data, checkpoint_seconds=0)
    before = weights(tmp_path / "run")
    if where == "loss":
        data[3]["latents"] = data[3]["latents"] * float("nan")
        expected = "clip-0-3"
    else:
        inner = loop.diffusion_loss
        monkeypatch.setattr(loop, "diffusion_loss", lambda *args: (inner(*args) * 1e-30).sqrt() * 1e30 * 1e30)
        expected = "clip-0-"
    with pytest.raises(FcaError, match="not finite") as stopped:
        run_fit(base, config, tmp_path / "run", data=data)
    assert expected in stopped.value.message
    assert "step " in stopped.value.message
    assert "step-000001" in stopped.value.message
    after = weights(tmp_path / "run")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_weights_that_the_optimizer_spoils_are_not_saved(base, settings, tmp_path, monkeypatch):
    inner = loop.make_optimizer

    def spoiling(trainable, config):
        optimizer, calls = inner(trainable, config), []
        step = optimizer.step

        def then_spoil(number):
            step(number)
            calls.append(None)
            if len(calls) == 3:
                with torch.no_grad():
                    trainable[0][1].view(-1)[0] = float("inf")

        optimizer.step = then_spoil
        return optimizer

    monkeypatch.setattr(loop, "make_optimizer", spoiling)
    with pytest.raises(FcaError, match=r"step 3: weights are not finite: layers\.0") as stopped:
        run_fit(base, settings, tmp_path / "run", checkpoint_seconds=0)
    assert "last good checkpoint: " in stopped.value.message and "step-000002" in stopped.value.message
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path / "run").values())


def test_held_out_loss_that_is_not_finite_stops_the_run(base, settings, tmp_path, monkeypatch):
    inner = loop.held_out_loss
    monkeypatch.setattr(loop, "held_out_loss", lambda *given: inner(*given) | {"held_out/0.9": float("nan")})
    with pytest.raises(FcaError, match=r"step 6: not finite: held_out/0\.9; last good checkpoint: "):
        run_fit(base, settings, tmp_path / "run")
    assert not list((tmp_path / "run" / "validation").iterdir())


def test_speed_log_has_each_step_once_after_a_crash_in_the_middle_of_a_line(base, settings, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run_fit(base, settings, tmp_path / "run", StopAt(4), checkpoint_seconds=0)
    with (tmp_path / "run" / "speed.jsonl").open("ab") as file:
        file.write(b'{"step": 5, "sec')
    run_fit(base, settings, tmp_path / "run")
    lines = [json.loads(line) for line in (tmp_path / "run" / "speed.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert {"seconds", "clips_per_s", "host_gb", "disk_gb", "waited"} <= lines[0].keys()


def test_progress_line_shows_loss_speed_memory_and_disk(base, settings, tmp_path):
    events = []
    run_fit(base, settings, tmp_path / "run", events.append)
    shown = [event.info for event in events if isinstance(event, Progress) and event.phase == "train"][-1]
    assert list(shown) == ["loss", "clips/s", "memory", "disk left"]
    assert float(shown["memory"].removesuffix(" GB")) > 0.1 and shown["disk left"].endswith(" GB")


@pytest.mark.parametrize("where", ["full", "unwritable"])
def test_tensorboard_that_cannot_be_written_costs_the_curves_only(base, settings, tmp_path, where, monkeypatch):
    from fcacli.training import board

    run = tmp_path / "run"
    if where == "full":
        monkeypatch.setattr(board, "_open", lambda folder: Path("/dev/full").open("wb"))  # noqa: SIM115
    else:
        run.mkdir()
        (run / "tensorboard").write_text("in the way")
    events = []
    state = run_fit(base, replace(settings, validate_every=2), run, events.append)
    assert state.step == settings.steps
    said = [event.text for event in events if isinstance(event, Message) and event.level == "warning"]
    assert len(said) == 1 and said[0].startswith("TensorBoard is off: cannot write ")
    assert len((run / "log.jsonl").read_text().splitlines()) == 9


def test_full_disk_for_a_log_is_one_error(base, settings, tmp_path, monkeypatch):
    from fcacli.training import log

    inner = log._open_at

    def open_at(path, length):
        return Path("/dev/full").open("wb") if path.name == "speed.jsonl" else inner(path, length)

    monkeypatch.setattr(log, "_open_at", open_at)
    with pytest.raises(FcaError, match=r"cannot write /dev/full: No space left on device") as stopped:
        run_fit(base, settings, tmp_path / "run")
    assert "fca train goes on from the last checkpoint" in stopped.value.hint


def test_held_out_loss_does_not_depend_on_what_was_drawn_before(base, settings, tmp_path):
    config = replace(settings, steps=1, lr=1e-9)
    run_fit(base, config, tmp_path / "one")
    torch.rand(7)
    run_fit(base, replace(config, seed=0, caption_dropout=0.5), tmp_path / "other")
    logs = [json.loads((tmp_path / run / "log.jsonl").read_text().splitlines()[-1]) for run in ("one", "other")]
    assert logs[0]["held_out"] == pytest.approx(logs[1]["held_out"], rel=1e-6)
    assert len([name for name in logs[0] if name.startswith("held_out/")]) == 5


def test_signal_finishes_the_step_saves_and_continues(base, settings, tmp_path):
    import os
    import signal

    def at_three(event):
        if isinstance(event, Progress) and event.phase == "train" and event.done == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Interrupted, match="SIGTERM at step 3 of 6") as stopped:
        run_fit(base, settings, tmp_path / "run", at_three)
    assert stopped.value.code == 143
    assert checkpoint.step_of(checkpoint.latest(tmp_path / "run")) == 3
    run_fit(base, settings, tmp_path / "run")
    run_fit(base, settings, tmp_path / "straight")
    assert_same_run(tmp_path / "straight", tmp_path / "run")


def test_signal_during_validation_makes_it_again(base, settings, tmp_path):
    import os
    import signal

    calls = []

    def validate(step, folder, report):
        calls.append(step)
        (folder / "clip.txt").write_text("half")
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        report(Message("one clip done"))
        return {"psnr": 20.0}

    config = replace(settings, validate_every=2, steps=4)
    with pytest.raises(Interrupted, match="validation"):
        run_fit(base, config, tmp_path / "run", validate=validate)
    assert not checkpoint.validation_folder(tmp_path / "run", 2).exists()
    run_fit(base, config, tmp_path / "run", validate=validate)
    assert calls == [2, 2, 4]
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "psnr" in line] == [2, 4]


def test_validation_that_is_there_is_not_made_again(base, settings, tmp_path):
    calls = []

    def validate(step, folder, report):
        calls.append(step)
        return {"psnr": 20.0}

    config = replace(settings, validate_every=2, steps=4)
    with pytest.raises(KeyboardInterrupt):
        run_fit(base, config, tmp_path / "run", StopAt(3), validate=validate)
    run_fit(base, config, tmp_path / "run", validate=validate)
    assert calls == [2, 4]
    run_fit(base, config, tmp_path / "straight", validate=validate)
    assert_same_run(tmp_path / "straight", tmp_path / "run")


def test_time_limit_saves_and_leaves_the_run_unfinished(base, settings, tmp_path):
    state = run_fit(base, settings, tmp_path / "run", max_seconds=0.0)
    assert state.step < settings.steps
    assert checkpoint.latest(tmp_path / "run") is not None
    assert run_fit(base, settings, tmp_path / "run").step == settings.steps


def test_checkpoints_are_pruned(base, settings, tmp_path):
    run_fit(base, settings, tmp_path / "run", checkpoint_seconds=0, keep=2)
    assert [checkpoint.step_of(path) for path in checkpoint.all_checkpoints(tmp_path / "run")] == [5, 6]


def test_all_checkpoints_damaged_is_an_error(base, settings, tmp_path):
    run_fit(base, replace(settings, steps=2), tmp_path / "run")
    for folder in checkpoint.all_checkpoints(tmp_path / "run"):
        (folder / "optimizer.pt").write_bytes(b"")
    with pytest.raises(FcaError, match="no checkpoint of run is readable"):
        run_fit(base, replace(settings, steps=2), tmp_path / "run")
