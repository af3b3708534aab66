"""Claims about trained weights in bfloat16: no update is lost, and a naive control does lose them."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from fitting import clips, run_fit, weights

from fcacli.training import optim, parts, trained_weights
from fcacli.training.trained_weights import TrainedWeights, join, round_by_lot, split


class Nearest(TrainedWeights):
    """The control: rounded to the nearest bfloat16, the rest lost."""

    dtype = torch.bfloat16

    def __init__(self, parameters, in_parts, *_):
        super().__init__(parameters, in_parts)

    def write(self, number, master, places, step):
        self._scatter(number, master.bfloat16(), places)


@pytest.fixture
def nearest(monkeypatch):
    """Trains `bf16` as the control does."""
    return lambda: monkeypatch.setattr(optim, "hold", Nearest)


# ---------------------------------------------------------------- bits


def test_split_and_join_is_exact_and_the_half_is_the_nearest():
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(0)) * torch.logspace(-30, 30, 10_000)
    values = torch.cat([values, torch.tensor([0.0, -0.0, 1.0, -1.0, 1e-40, -1e-45, 3e38, math.inf, -math.inf])])
    rounded, remainder = split(values)
    assert (rounded.dtype, remainder.dtype) == (torch.bfloat16, torch.int16)
    assert torch.equal(join(rounded, remainder).view(torch.int32), values.view(torch.int32))
    finite = values.isfinite()
    assert torch.equal(rounded[finite], values[finite].bfloat16())
    assert split(torch.tensor([math.nan]))[0].isnan().all()


def test_lot_keeps_the_mean_and_takes_neighbours_only():
    value = torch.tensor(1 + 1 / 512)  # a quarter of the way from 1 to the next bfloat16
    drawn = round_by_lot(value.expand(40_000).contiguous(), torch.Generator().manual_seed(0)).float()
    assert set(drawn.tolist()) == {1.0, 1 + 1 / 128}
    assert (drawn > 1).float().mean() == pytest.approx(0.25, abs=0.01)  # 4.6 standard deviations
    exact = torch.tensor([0.0, -2.5, 1.0, 2.0**-126])
    assert torch.equal(round_by_lot(exact, torch.Generator().manual_seed(1)).float(), exact)


# ---------------------------------------------------------------- the optimizer alone


SHAPES = {"large.weight": (80, 80), "small.weight": (8, 8), "large.bias": (80,)}


def trainable(dtype=torch.float32, shapes=SHAPES):
    generator = torch.Generator().manual_seed(0)
    made = {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}
    return [(name, torch.nn.Parameter(tensor)) for name, tensor in made.items()]


def stepped(config, count, lr=1e-5, shapes=SHAPES):
    """Parameters after steps with seeded bfloat16 gradients at a rate whose updates bfloat16 cannot hold."""
    parameters = trainable(shapes=shapes)
    optimizer = optim.make_optimizer(parameters, config)
    optim.set_learning_rate(optimizer, lr)
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        for _, parameter in parameters:
            parameter.grad = (1 + torch.randn(parameter.shape, generator=generator)).bfloat16().to(parameter.dtype)
        optimizer.step(number)
    return parameters, optimizer


@pytest.mark.parametrize("kind", ["adamw8bit", "adamw"])
def test_bf16_with_its_remainder_is_fp32_bit_for_bit(make_config, kind):
    """Given the same gradients: the masters of 50 steps."""
    config = make_config(optimizer=kind, precision="bf16")
    full, _ = stepped(config, 50)
    half, optimizer = stepped(replace(config, weights="bf16"), 50)
    names = [name for name, _ in full]
    remainders = optimizer.state_dict()["weights"]
    for place, parameter in enumerate(optimizer.weights.parameters):
        name = next(name for name, own in half if own is parameter)
        master = join(parameter.data, remainders[place]["remainder"])
        assert torch.equal(master, full[names.index(name)][1]), name
        assert parameter.dtype == torch.bfloat16


def test_updates_below_the_precision_are_kept_by_both_and_lost_by_the_control(make_config, nearest):
    """400 updates of one direction: the mean way of weights that lie far from zero."""

    def way(config):
        start, (after, _) = trainable(), stepped(config, 400)
        far = start[0][1].abs() > 0.25
        return float((start[0][1] - after[0][1].float())[far].detach().mean())

    config = make_config(optimizer="adamw", precision="bf16", weight_decay=0.0)
    full = way(config)
    assert full > 2e-3
    assert way(replace(config, weights="bf16")) == pytest.approx(full, rel=0.02)
    assert way(replace(config, weights="bf16-stochastic")) == pytest.approx(full, rel=0.05)
    nearest()
    assert abs(way(replace(config, weights="bf16"))) < 0.05 * full


def test_lot_is_a_function_of_seed_step_and_place(make_config):
    config = make_config(weights="bf16-stochastic")
    one, same, other = (stepped(replace(config, seed=seed), 3)[0] for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(one, same, strict=True))
    assert any(not torch.equal(a, b) for (_, a), (_, b) in zip(one, other, strict=True))


def test_gradients_are_freed_part_by_part(make_config, monkeypatch):
    monkeypatch.setattr(parts, "PART", 64)
    parameters = trainable()
    optimizer = optim.make_optimizer(parameters, make_config(weights="bf16"))
    for _, parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    left, filled = [], []
    for inner in optimizer.inner:

        def step(inner_step=inner.step):
            left.append(sum(parameter.grad is not None for _, parameter in parameters))
            filled.append(sum(master.numel() for master in optimizer.masters))
            inner_step()

        monkeypatch.setattr(inner, "step", step)
    optimizer.step(0)
    assert left == [2, 1, 0] and sorted(filled) == [64, 80, 6400]
    assert all(parameter.grad is None for _, parameter in parameters)
    assert all(master.grad is None and not master.numel() for master in optimizer.masters)


@pytest.mark.parametrize("kind, weights", [("adamw8bit", "fp32"), ("adamw8bit", "bf16"), ("adamw", "bf16"), ("adamw", "fp32")])
def test_parts_change_no_bit(make_config, monkeypatch, kind, weights):
    """Each weight by itself is what several are in one flat tensor."""
    config = make_config(optimizer=kind, weights=weights)
    shapes = SHAPES | {"odd.weight": (67, 71), "odd.small.weight": (5, 3), "odd.bias": (7,)}
    whole, together = stepped(config, 4, shapes=shapes)
    assert [len(part.places) for part in together.parts] == [2, 2, 2]
    monkeypatch.setattr(parts, "PART", 1)
    parted, optimizer = stepped(config, 4, shapes=shapes)
    assert all(part.alone for part in optimizer.parts)
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(whole, parted, strict=True))
    assert_same(together.state_dict(), optimizer.state_dict())


def assert_same(one, other):
    """Nested mappings, bit by bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_same(one[name], other[name])
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other)
    else:
        assert one == other


# ---------------------------------------------------------------- training


def losses(base, config, run):
    """Of each step; with the trained weights."""
    run_fit(base, config, run, data=clips(2))
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


def furthest(one, other):
    return max(abs(a - b) / b for a, b in zip(one, other, strict=True))


@pytest.mark.usefixtures("bare")
def test_loss_tracks_fp32_weights_and_that_of_the_control_does_not(base, settings, tmp_path, nearest):
    """24 steps at a rate of 5e-4: within 0.05 % of the loss at every step; the control is off by more than 0.1 %."""
    config = replace(settings, precision="bf16", steps=24, lr=5e-4, batch_size=1, caption_dropout=0.0)
    full = losses(base, config, tmp_path / "fp32")
    assert len({f"{loss:.3f}" for loss in full}) > 10 and all(a != b for a, b in pairwise(full))
    for kind in ("bf16", "bf16-stochastic"):
        assert furthest(losses(base, replace(config, weights=kind), tmp_path / kind), full) < 5e-4, kind
        assert {tensor.dtype for tensor in weights(tmp_path / kind).values()} == {torch.bfloat16}
    nearest()
    assert furthest(losses(base, replace(config, weights="bf16"), tmp_path / "nearest"), full) > 1e-3


def test_config_of_before_trains_fp32_weights_on_the_device(make_config):
    from fcacli.config import TrainConfig, from_dict, to_dict

    old = {name: value for name, value in to_dict(make_config()).items() if name not in ("weights", "offload_optimizer")}
    config = from_dict(TrainConfig, old)
    assert (config.weights, config.offload_optimizer) == ("fp32", False)
    assert isinstance(trained_weights.hold([], [], config.weights, 0), trained_weights.Float32Weights)
