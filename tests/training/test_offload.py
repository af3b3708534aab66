"""Claims about where the optimizer's state is: in host memory between steps, away in validation, back as it was."""

import copy
import gc
import io
import weakref
from dataclasses import replace
from itertools import product

import bitsandbytes
import pytest
import torch
from fitting import LORA, StopAt, assert_same_run, run_fit

from fcacli.training import checkpoint, loop, offload, parts
from fcacli.training.footprint import trained_memory
from fcacli.training.offload import SMALL, InHostMemory
from fcacli.training.optim import decays, make_optimizer, set_learning_rate

WEIGHTS = ("fp32", "bf16", "bf16-stochastic")
OPTIMIZERS = ("adamw8bit", "paged-adamw8bit", "adamw", "muon")
WAYS = [
    {"optimizer": optimizer, "weights": weights, "offload_optimizer": offloaded}
    for optimizer, weights, offloaded in product(OPTIMIZERS, WEIGHTS, (False, True))
    if not (offloaded and optimizer == "paged-adamw8bit")
]
"""All that can be asked for."""


def name_of(way):
    return "-".join([way["optimizer"], way["weights"], *["offloaded"] * way["offload_optimizer"]])


each_way = pytest.mark.parametrize("way", WAYS, ids=name_of)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(parts, "PART", 7000)


def trainable():
    generator = torch.Generator().manual_seed(0)
    shapes = {"large.weight": (320, 320), "middle.weight": (40, 160), "small.weight": (8, 8), "large.bias": (80,)}
    return [(name, torch.nn.Parameter(torch.randn(shape, generator=generator))) for name, shape in shapes.items()]


def step(optimizer, parameters, numbers):
    for number in numbers:
        generator = torch.Generator().manual_seed(number)
        for _, parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
        set_learning_rate(optimizer, 1e-2 / (1 + number))
        optimizer.step(number)


def tensors(optimizer):
    """All of the state, with what is kept of the weights."""
    kept = [*optimizer.state, *optimizer.weights.kept]
    return [value for values in kept for value in values.values() if isinstance(value, torch.Tensor)]


def large(optimizer):
    return [tensor for tensor in tensors(optimizer) if tensor.nbytes > SMALL]


@pytest.fixture
def hosted(monkeypatch):
    """The tensors that were made in host memory, by identity."""
    made, inner = {}, InHostMemory._host

    def host(self, like):
        tensor = inner(self, like)
        made[id(tensor)] = tensor  # and so no other has this identity
        return tensor

    monkeypatch.setattr(InHostMemory, "_host", host)
    return made


@pytest.mark.parametrize("optimizer, weights", list(product(("adamw8bit", "adamw", "muon"), WEIGHTS)))
def test_offloading_changes_no_bit_and_leaves_no_state_behind(make_config, hosted, optimizer, weights):
    """Everything large is in host memory between steps; on the device there is one part at a time."""
    config = make_config(optimizer=optimizer, weights=weights)
    plain, moved = trainable(), trainable()
    step(make_optimizer(plain, config), plain, range(5))
    offloaded = make_optimizer(moved, replace(config, offload_optimizer=True))
    most = []
    for inner in offloaded.inner:

        def counting(inner_step=inner.step):
            inner_step()
            most.append(sum(id(tensor) not in hosted for tensor in large(offloaded)))

        inner.step = counting
    step(offloaded, moved, range(5))
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(plain, moved, strict=True))
    assert len(large(offloaded)) >= (2 if optimizer == "muon" else 4) and all(
        id(tensor) in hosted for tensor in large(offloaded)
    )
    in_a_part = len(large(offloaded)) / 2  # two large weights, each a part of its own
    assert max(most) <= in_a_part


@each_way
def test_saved_state_is_exact(make_config, way):
    """Six steps, or three, saved, read into a new optimizer, and three: the same bits, in masters and weights."""
    config = make_config(**way)
    straight, resumed = trainable(), trainable()
    one, first = make_optimizer(straight, config), make_optimizer(resumed, config)
    step(one, straight, range(6))
    step(first, resumed, range(3))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    again = [(name, torch.nn.Parameter(parameter.data.clone())) for name, parameter in resumed]
    second = make_optimizer(again, config)
    second.load_state_dict(torch.load(file, weights_only=True))
    step(second, again, range(3, 6))
    assert all(torch.equal(a, b) and a.dtype == b.dtype for (_, a), (_, b) in zip(straight, again, strict=True))
    for a, b in zip(one.weights.kept, second.weights.kept, strict=True):
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    if way["weights"] == "bf16":
        assert any(kept["remainder"].any() for kept in second.weights.kept)


@pytest.mark.parametrize("kind", ["adamw", "adamw8bit"])
def test_state_of_before_parts_and_bfloat16_is_read(make_config, kind):
    """What an optimizer over all weights itself writes, as checkpoints before this one did."""
    made = {"adamw": torch.optim.AdamW, "adamw8bit": bitsandbytes.optim.AdamW8bit}[kind]
    parameters, again = trainable(), trainable()
    groups = [[p for n, p in parameters if decays(n, p)], [p for n, p in parameters if not decays(n, p)]]
    plain = made([{"params": groups[0], "weight_decay": 1e-4}, {"params": groups[1], "weight_decay": 0.0}])
    for number in range(3):
        generator = torch.Generator().manual_seed(number)
        for _, parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        for group in plain.param_groups:
            group["lr"] = 1e-2 / (1 + number)
        plain.step()
        if number == 1:
            optimizer = make_optimizer(again, make_config(optimizer=kind))
            optimizer.load_state_dict(copy.deepcopy(plain.state_dict()))
            for (_, a), (_, b) in zip(again, parameters, strict=True):
                a.data.copy_(b.data)
    step(optimizer, again, [2])
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(parameters, again, strict=True))


def test_state_goes_to_the_host_and_back_to_the_device():
    """With a device on which nothing can be computed; small tensors stay."""
    device = torch.device("meta")
    kept = [{"moment": torch.rand(5000), "table": torch.rand(10), "step": 3}]
    with offload.BesideWeights(device).away(kept):
        assert kept[0]["moment"].device.type == "cpu" and kept[0]["moment"].all()
    assert (kept[0]["moment"].device, kept[0]["table"].device.type, kept[0]["step"]) == (device, "cpu", 3)
    kept = [{"moment": torch.rand(5000), "table": torch.rand(10)}]
    with pytest.raises(NotImplementedError, match="no data"), InHostMemory(device).here(kept):
        assert (kept[0]["moment"].device, kept[0]["table"].device.type) == (device, "cpu")


def test_state_without_the_remainders_is_an_error(make_config):
    optimizer = make_optimizer(trainable(), make_config(weights="bf16"))
    saved = optimizer.state_dict()
    del saved["weights"]
    with pytest.raises(KeyError):
        optimizer.load_state_dict(saved)


# ---------------------------------------------------------------- how much it is


@each_way
def test_planned_bytes_are_the_counted_ones(make_config, hosted, way):
    config = make_config(**way)
    parameters = trainable()
    optimizer = make_optimizer(parameters, config)
    step(optimizer, parameters, range(2))
    for _, parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    planned = trained_memory(optimizer.parts, config)
    assert planned.weights == sum(parameter.nbytes for _, parameter in parameters)
    assert planned.gradients == sum(parameter.grad.nbytes for _, parameter in parameters)
    counted = {id(tensor): tensor for tensor in tensors(optimizer) if tensor.ndim and tensor.numel() != 256}  # no tables
    on_host = sum(tensor.nbytes for tensor in counted.values() if id(tensor) in hosted)
    if config.optimizer == "paged-adamw8bit":  # pages are CUDA's
        on_host = sum(tensor.nbytes for tensor in counted.values() if tensor.numel() == 320 * 320 and tensor.itemsize == 1)
    assert planned.host == on_host
    assert planned.state == sum(tensor.nbytes for tensor in counted.values()) - on_host


def test_a_step_needs_no_more_float32_than_planned(make_config):
    """Masters and gradients of a part in float32 for those in bfloat16, its state where that is fetched, AdamW's own tensor."""
    config = make_config(optimizer="adamw", weights="bf16", offload_optimizer=True)
    assert trained_memory(parts_of_sizes(4000, 4000, 2000), config).step == (6 + 8 + 2 + 4) * (4096 + 2048)
    plain = replace(config, weights="fp32", offload_optimizer=False)
    assert trained_memory(parts_of_sizes(4000, 4000, 1000), plain).step == (4 + 4) * (4096 + 1024)
    assert trained_memory(parts_of_sizes(6000), plain).step == 4 * 6000


def parts_of_sizes(*sizes):
    return parts.cut([(size,) for size in sizes], [(False, 1.0)] * len(sizes), [False] * len(sizes))


# ---------------------------------------------------------------- in the loop


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize(
    "way, adapter",
    [
        ({"optimizer": "adamw8bit", "weights": "bf16", "offload_optimizer": True}, None),
        ({"optimizer": "adamw", "weights": "bf16-stochastic", "offload_optimizer": True}, None),
        ({"optimizer": "paged-adamw8bit", "weights": "bf16"}, LORA),
        ({"optimizer": "paged-adamw8bit", "weights": "bf16-stochastic"}, None),
        ({"optimizer": "adamw", "weights": "bf16"}, LORA),
        ({"optimizer": "muon", "weights": "bf16", "offload_optimizer": True}, None),
    ],
    ids=lambda value: None if not isinstance(value, dict) else name_of({"offload_optimizer": False} | value),
)
def test_resume_matches_uninterrupted_run(base, settings, tmp_path, way, adapter):
    """Bitwise: weights, log and optimizer, with accumulation, killed between two checkpoints."""
    config = replace(settings, **way, adapter=adapter or settings.adapter, precision="bf16", steps=4, batch_size=1)
    config = replace(config, accumulate=2, validate_every=2)
    run_fit(base, config, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        run_fit(base, config, tmp_path / "resumed", StopAt(3))
    run_fit(base, config, tmp_path / "resumed")
    assert_same_run(tmp_path / "straight", tmp_path / "resumed")
    one, other = (torch.load(checkpoint.latest(tmp_path / run) / "optimizer.pt") for run in ("straight", "resumed"))
    assert ("weights" in one) == (way["weights"] == "bf16")
    for saved in (one, other):
        assert saved.keys() == one.keys()
    torch.testing.assert_close(other, one, rtol=0, atol=0, equal_nan=True)


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("weights", WEIGHTS)
def test_gradients_in_main_memory_change_no_bit(base, settings, tmp_path, weights):
    """With accumulation and clipping; the weights and the log of the run are the same, its norms too."""
    config = replace(settings, weights=weights, precision="bf16", steps=3, batch_size=1, accumulate=2, clip_norm=1e-3)
    run_fit(base, config, tmp_path / "plain")
    run_fit(base, replace(config, offload_gradients=True), tmp_path / "waiting")
    assert_same_run(tmp_path / "plain", tmp_path / "waiting")


def test_gradients_leave_the_parameters_as_the_backward_pass_goes(make_config):
    """At most one is there at a time, and the planned bytes wait in main memory; what is fetched is used up."""
    parameters, at_once = trainable(), []
    config = make_config(offload_gradients=True)
    optimizer = make_optimizer(parameters, config)
    for _, parameter in parameters:
        parameter.register_post_accumulate_grad_hook(lambda _: at_once.append(sum(p.grad is not None for _, p in parameters)))
    for _ in range(2):
        sum((parameter * 3).sum() for _, parameter in parameters).backward()
    assert at_once == [0] * 2 * len(parameters)
    sizes = [parameter.numel() for parameter in optimizer.weights.parameters]
    planned = trained_memory(optimizer.parts, config)
    assert sum(home.nbytes for home in optimizer.gradients._homes) == planned.host_gradients == 4 * sum(sizes)
    assert float(optimizer.gradients.clip(1.0)) == pytest.approx(6 * sum(sizes) ** 0.5)
    assert optimizer.gradients.fetch([0, 1]) == [0, 1]
    norms = [optimizer.weights.parameters[place].grad.norm() for place in (0, 1)]
    assert [float(norm) for norm in norms] == pytest.approx([(sizes[place] / sum(sizes)) ** 0.5 for place in (0, 1)], rel=1e-4)
    assert optimizer.weights.parameters[2].grad is None
    optimizer.step(0)
    assert all(parameter.grad is None for _, parameter in parameters)
    assert optimizer.gradients.fetch(range(len(sizes))) == []


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("weights", ["fp32", "bf16"])
def test_state_is_away_in_validation_and_back_as_it_was(base, settings, tmp_path, monkeypatch, weights):
    """None of the tensors that were there at the last step lives on while clips are made; what is there is its copy on the
    host; afterwards the same values are on the device again, and the run ends as one without validation."""
    monkeypatch.setattr(offload, "SMALL", 64)  # the weights are small
    made, seen = [], []
    make = loop.make_optimizer

    def remember(*arguments):
        made.append(make(*arguments))
        away = made[-1].away

        def watched():
            before.extend(weakref.ref(tensor) for tensor in tensors(made[-1]) if tensor.nbytes > 64)
            return away()

        made[-1].away = watched
        return made[-1]

    before: list = []
    monkeypatch.setattr(loop, "make_optimizer", remember)

    def validate(step, folder, report):
        gc.collect()
        there = [tensor for tensor in tensors(made[-1]) if tensor.nbytes > 64]
        seen.append((step, len(before), sum(reference() is not None for reference in before), len(there)))
        assert {tensor.device.type for tensor in there} == {"cpu"}
        before.clear()
        return {"psnr": 1.0}

    config = replace(settings, weights=weights, precision="bf16" if weights == "bf16" else "fp32", steps=2, validate_every=1)
    run_fit(base, config, tmp_path / "with", validate=validate)
    assert [step for step, *_ in seen] == [1, 2]
    for _, count, alive, copies in seen:
        assert count == copies > 10 and alive == 0
    run_fit(base, replace(config, validate_every=0), tmp_path / "without")
    one, other = (torch.load(checkpoint.latest(tmp_path / run) / "optimizer.pt") for run in ("with", "without"))
    torch.testing.assert_close(one, other, rtol=0, atol=0)
