"""Claims about several processes: the run is that of one; each failure ends all of them with the run saved.

Forks of this process meet on gloo; every one computes its share of each step.
"""

import json
import os
import signal
from dataclasses import replace

import pytest
import torch
from fitting import FCA, LORA, StopAt, assert_same_run, clips, run_fit, weights
from several import run_ranks
from test_loop import FromDisk, from_disk

from fcacli.errors import FcaError, ProcessLost
from fcacli.events import Progress
from fcacli.model.host_memory import in_main_memory
from fcacli.training import checkpoint, loop
from fcacli.training.loader import micro_batches
from fcacli.training.team import Together

__all__ = ["from_disk"]
pytestmark = pytest.mark.usefixtures("bare")


@pytest.fixture
def several(base, tmp_path):
    """`several(2, config, run)`: fit by two processes, the first two with this report; returns what each gave."""
    assert base.transformer is not None  # loaded once, before the forks

    def fit(size, config, run, report=lambda team, event: None, before=lambda team: None, **session):
        def work(team):
            before(team)
            return run_fit(base, config, run, lambda event: report(team, event), team=team, **session)

        run.mkdir(exist_ok=True)
        return run_ranks(size, tmp_path / "answers", work)

    return fit


def losses(run) -> list[float]:
    return [line["loss"] for line in map(json.loads, (run / "log.jsonl").read_text().splitlines()) if "loss" in line]


def at(rank: int, step: int, act):
    """A report that acts in one process after a step."""

    def report(team, event):
        if team.rank == rank and isinstance(event, Progress) and event.phase == "train" and event.done == step:
            act()

    return report


@pytest.mark.parametrize("adapter", [FCA, LORA], ids=["fca", "lora"])
def test_two_processes_train_what_one_does(base, settings, tmp_path, several, adapter):
    """Here bit for bit: the same micro-batches, and two addends have one order."""
    config = replace(settings, adapter=adapter, accumulate=2, validate_every=3, caption_dropout=0.4)
    run_fit(base, config, tmp_path / "one")
    states = several(2, config, tmp_path / "two")
    assert states[0] == states[1] and states[0].step == 6
    assert_same_run(tmp_path / "one", tmp_path / "two")
    assert (tmp_path / "two" / "validation" / "step-000003" / "validation.json").exists()


def test_uneven_shares_change_the_loss_by_less_than_1e_5(base, settings, tmp_path, several):
    """Four clips over three processes: sums are formed in another order."""
    config = replace(settings, batch_size=4, optimizer="adamw8bit")
    run_fit(base, config, tmp_path / "one")
    several(3, config, tmp_path / "three")
    assert losses(tmp_path / "three") == pytest.approx(losses(tmp_path / "one"), rel=1e-5)
    assert losses(tmp_path / "three") != [losses(tmp_path / "one")[0]] * 6


def test_three_processes_add_up_gradients_in_the_same_order_at_every_step(tmp_path):
    """So that the first step of a continued run, which is the first of its processes, is that of the uninterrupted one."""

    def work(team):
        torch.manual_seed(0)
        layers = torch.nn.Sequential(*[torch.nn.Linear(64, 64) for _ in range(8)])
        averaged = team.averaging(lambda x: layers(x).square().mean(dim=1), layers.parameters())
        x = torch.randn(4, 64, generator=torch.Generator().manual_seed(team.rank))
        seen = []
        for _ in range(3):
            averaged(x).mean().backward()
            seen.append([parameter.grad.clone() for parameter in layers.parameters()])
            for parameter in layers.parameters():
                parameter.grad = None
        return [sum(not torch.equal(*pair) for pair in zip(seen[0], other, strict=True)) for other in seen[1:]]

    assert run_ranks(3, tmp_path / "answers", work) == [[0, 0]] * 3


def test_gradients_are_averaged_after_weights_have_been_away_too(tmp_path):
    """As the parity gate has them, between two steps."""

    def work(team):
        torch.manual_seed(0)
        layer = torch.nn.Linear(8, 8)
        averaged = team.averaging(lambda x: layer(x).square().mean(dim=1), layer.parameters())
        x = torch.randn(4, 8, generator=torch.Generator().manual_seed(team.rank))
        seen = []
        for _ in range(2):
            averaged(x).mean().backward()
            seen.append(layer.weight.grad.tolist())
            layer.weight.grad = layer.bias.grad = None
            with in_main_memory(list(layer.parameters())):
                pass
        return seen

    (one, again), (other, other_again) = run_ranks(2, tmp_path / "answers", work)
    assert one == other == again == other_again


def test_resume_with_another_number_of_processes_is_the_same_run(base, settings, tmp_path, several):
    config = replace(settings, accumulate=2, validate_every=2)
    run_fit(base, config, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        run_fit(base, config, tmp_path / "resumed", StopAt(3))
    die = at(0, 5, lambda: os._exit(9))
    ended = several(2, config, tmp_path / "resumed", die)
    assert ended[0] == 9 and ended[1][0] == "ProcessLost"
    assert checkpoint.step_of(checkpoint.latest(tmp_path / "resumed")) == 4
    run_fit(base, config, tmp_path / "resumed")
    assert_same_run(tmp_path / "straight", tmp_path / "resumed")


def test_a_process_that_is_killed_ends_the_others_with_the_run_saved_and_exact(base, settings, tmp_path, several):
    config = replace(settings, accumulate=2)
    killed = at(1, 3, lambda: os.kill(os.getpid(), signal.SIGKILL))
    ended = several(2, config, tmp_path / "run", killed)
    assert ended[1] == -signal.SIGKILL
    kind, message = ended[0]
    assert kind == "ProcessLost" and "stopped at step 3, saved in" in message
    run_fit(base, config, tmp_path / "run")
    run_fit(base, config, tmp_path / "straight")
    assert_same_run(tmp_path / "straight", tmp_path / "run")


def test_a_signal_to_any_process_stops_all_at_the_same_step_saved(settings, tmp_path, several):
    """Twice, as a scheduler and a launcher send it."""
    config = replace(settings, accumulate=2)
    signalled = at(1, 2, lambda: [os.kill(os.getpid(), signal.SIGTERM) for _ in range(2)])
    ended = several(2, config, tmp_path / "run", signalled)
    assert {kind for kind, _ in ended} == {"Interrupted"}
    assert all("stopped by SIGTERM at step 2 of 6, saved in" in message for _, message in ended)
    assert checkpoint.step_of(checkpoint.latest(tmp_path / "run")) == 2


def test_a_process_whose_launcher_has_gone_saves_and_stops(settings, tmp_path, several, monkeypatch):
    parent = os.getppid
    gone = at(0, 2, lambda: monkeypatch.setattr(os, "getppid", lambda: parent() + 1))
    ended = several(2, settings, tmp_path / "run", gone)
    assert all("stopped by SIGTERM at step 2" in message for _, message in ended)


def test_a_clip_that_one_process_cannot_load_stops_all_with_the_run_saved(settings, tmp_path, several, base, from_disk):
    config = replace(settings, batch_size=1, accumulate=2)
    vanished = loop.order(0, 0, 5)[3]  # the second process's of step 2
    ended = several(2, config, tmp_path / "run", data=FromDisk(vanished))
    assert ended[1] == ("Unloadable", f"clip {vanished} has vanished")
    assert ended[0][0] == "Unloadable" and ended[0][1].startswith(f"clip {vanished} has vanished; stopped at step 1, saved in")
    assert checkpoint.step_of(checkpoint.latest(tmp_path / "run")) == 1


def test_a_loss_that_is_not_finite_in_one_process_is_named_in_all(settings, tmp_path, several):
    data = clips(5)
    bad = loop.order(0, 0, 5)[3]
    data[bad]["latents"] = data[bad]["latents"] * float("nan")
    ended = several(2, replace(settings, batch_size=4), tmp_path / "run", data=data)
    assert [kind for kind, _ in ended] == ["NotFinite", "NotFinite"]
    assert all(f"step 1: the loss is not finite for clip-0-{bad}" in message for _, message in ended)


def test_only_the_first_process_writes(settings, tmp_path, several):
    def forbid(team):
        def fail(*_):
            raise AssertionError("another process than the first writes")

        if not team.main:
            loop.RunLog = loop.checkpoint.save = loop.checkpoint.clean = loop.checkpoint.prune = fail
            loop.atomic_folder = loop.write_json = fail

    ended = several(2, replace(settings, validate_every=3), tmp_path / "run", before=forbid)
    assert [state.step for state in ended] == [6, 6]


def in_validation(rank: int, act):
    """A report that acts in one process while the held-out loss is computed."""

    def report(team, event):
        if team.rank == rank and isinstance(event, Progress) and event.phase == "held-out loss" and event.done == 0:
            act()

    return report


def test_held_out_clips_are_shared_and_the_loss_is_that_of_one(base, settings, tmp_path, several, monkeypatch):
    """Three batches over two processes, the last one by both; the numbers are those of one, to the bit."""
    config = replace(settings, batch_size=1, accumulate=2, steps=2, validate_every=0)
    run_fit(base, config, tmp_path / "one")
    inner, counts = loop.held_out_loss, tmp_path / "counts"
    counts.mkdir()

    def counted(base, adapter, batches, team, count):
        batches = list(batches)
        (counts / str(team.rank)).write_text(str([batch["ids"] for batch in batches]))
        return inner(base, adapter, batches, team, count)

    monkeypatch.setattr(loop, "held_out_loss", counted)
    several(2, config, tmp_path / "two")
    assert (counts / "0").read_text() == "[['clip-1-0'], ['clip-1-2']]"
    assert (counts / "1").read_text() == "[['clip-1-1'], ['clip-1-2']]"
    assert_same_run(tmp_path / "one", tmp_path / "two")


def test_a_signal_or_a_death_in_a_validation_stops_all_saved(base, settings, tmp_path, several):
    config = replace(settings, batch_size=1, accumulate=2, steps=4, validate_every=2)
    signalled = several(2, config, tmp_path / "run", in_validation(1, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert all("stopped by SIGTERM at step 2 of 4, saved; its validation will be made" in message for _, message in signalled)
    assert not checkpoint.validation_folder(tmp_path / "run", 2).exists()
    died = several(2, config, tmp_path / "run", in_validation(1, lambda: os._exit(9)))
    assert died[1] == 9 and "stopped at step 2, saved in" in died[0][1]
    several(2, config, tmp_path / "run")
    run_fit(base, config, tmp_path / "straight")
    assert_same_run(tmp_path / "straight", tmp_path / "run")


def test_what_one_process_finds_wrong_reaches_all(tmp_path):
    def one(team):
        if team.rank == 1:
            raise FcaError("a clip cannot be read")
        return team.rank

    assert run_ranks(3, tmp_path, lambda team: team.by_all(one, team)) == [("FcaError", "a clip cannot be read")] * 3
    assert run_ranks(3, tmp_path, lambda team: team.own(lambda: team.rank)) == [0, 1, 2]
    in_turn = run_ranks(3, tmp_path, lambda team: team.in_turn(7, lambda: team.share(range(7))))
    assert in_turn == [list(range(7))] * 3
    assert run_ranks(2, tmp_path, lambda team: team.to_main(team.rank)) == [[0, 1], []]


def test_where_none_can_go_on_alone_the_one_that_fails_ends_at_once_and_the_others_after_it(tmp_path):
    """As where they share the base: another may wait for weights that this one will never send."""

    def waits(team):
        team.in_step = True

        def work():
            if team.rank == 1:
                raise FcaError("out of memory")
            torch.distributed.all_reduce(torch.ones(1))  # as a gathering does

        with team.naming_lost():
            team.own(work)

    first, second = run_ranks(2, tmp_path, waits)
    assert second == ("FcaError", "out of memory") and first == ("ProcessLost", "another process of this run has ended")


def test_what_the_first_process_finds_wrong_reaches_all(tmp_path):
    def refuse():
        raise FcaError("no room", "free some", code=2)

    assert run_ranks(3, tmp_path, lambda team: team.by_main(refuse)) == [("FcaError", "no room")] * 3
    assert run_ranks(3, tmp_path, lambda team: team.by_main(lambda: team.rank)) == [0] * 3
    assert run_ranks(3, tmp_path, lambda team: (team.most(team.rank, 5), team.gathered(team.rank))) == [((2, 5), [0, 1, 2])] * 3


def test_offloaded_state_and_recomputed_activations_work_in_two_processes(base, settings, tmp_path, several):
    config = replace(settings, accumulate=2, checkpointing=True, offload_optimizer=True, steps=3)
    run_fit(base, config, tmp_path / "one")
    several(2, config, tmp_path / "two")
    assert_same_run(tmp_path / "one", tmp_path / "two")


def test_every_slot_of_a_step_is_computed_once(make_config):
    for batch_size, accumulate, size in ((1, 1, 1), (2, 3, 1), (2, 3, 2), (2, 3, 4), (4, 1, 3), (1, 8, 8)):
        config = make_config(batch_size=batch_size, accumulate=accumulate)
        shares = [micro_batches(config, rank, size) for rank in range(size)]
        assert [slot for share in shares for part in share for slot in part] == list(range(batch_size * accumulate))
        assert all(share and max(map(len, share)) <= batch_size for share in shares)
    assert micro_batches(make_config(batch_size=2, accumulate=3)) == [range(0, 2), range(2, 4), range(4, 6)]


def test_weights_are_those_of_the_first_process(base, settings, tmp_path, several):
    """A process that starts from others, by another machine's arithmetic, takes them over."""

    def other(team):
        if team.rank == 1:
            inner = torch.manual_seed
            torch.manual_seed = lambda seed: inner(seed + 1)

    several(2, replace(settings, accumulate=2, steps=2), tmp_path / "two", before=other)
    run_fit(base, replace(settings, accumulate=2, steps=2), tmp_path / "one")
    assert all(
        torch.equal(a, b) for a, b in zip(weights(tmp_path / "one").values(), weights(tmp_path / "two").values(), strict=True)
    )


@pytest.mark.parametrize(
    "said, kind, expected",
    [
        ("[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:41", ProcessLost, "has ended"),
        (
            "NCCL error in: x.cpp:1, remote process exited or a network error\nncclRemoteError",
            ProcessLost,
            "has ended",
        ),
        ("NCCL error in: x.cpp:1\nLast error:\nDuplicate GPU detected : rank 1 and rank 0", FcaError, "Duplicate GPU detected"),
        (
            "NCCL error\nLast error:\nError while creating shared memory segment /dev/shm/nccl-x",
            FcaError,
            "shared memory",
        ),
        ("NCCL error\nLast error:\nCuda failure 2 'out of memory'", RuntimeError, "out of memory"),
        ("expected all tensors on one device", RuntimeError, "one device"),
    ],
)
def test_what_torch_says_of_other_processes_is_told_apart(said, kind, expected):
    team = object.__new__(Together)
    team._again = "fca train"
    with pytest.raises(kind, match=expected) as raised, team.naming_lost():
        raise RuntimeError(said)
    assert type(raised.value) is kind
