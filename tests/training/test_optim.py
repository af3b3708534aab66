"""Claims about the optimizer: what decays, what is 8-bit, and that its saved state is exact."""

import io
from itertools import pairwise

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fcacli.training.optim import decays, learning_rate, make_optimizer, set_learning_rate


def test_schedule_warms_up_and_falls_to_a_tenth(make_config):
    rates = [learning_rate(step, make_config()) for step in range(100)]
    assert rates[0] == pytest.approx(1e-3)
    assert rates[9] == max(rates) == pytest.approx(1e-2)
    assert rates[10] == pytest.approx(1e-2)
    assert rates[99] == pytest.approx(1e-3)
    assert all(a >= b for a, b in pairwise(rates[10:]))


@pytest.mark.parametrize("steps, warmup", [(1, 0), (1, 10), (2, 1), (5, 5)])
def test_schedule_of_very_short_runs_stays_in_range(make_config, steps, warmup):
    for step in range(steps):
        assert 0 < learning_rate(step, make_config(steps=steps, warmup=warmup)) <= 1e-2


@pytest.mark.parametrize(
    "name, shape, expected",
    [
        ("blocks.0.to_q.weight", (8, 8), True),
        ("blocks.0.to_q.bias", (8,), False),
        ("blocks.0.norm.weight", (8,), False),
        ("text.queries", (4, 8), False),
        ("text.frame_position", (4, 8), False),
        ("transformer.lora_A.weight", (4, 8), True),
    ],
)
def test_only_matrices_decay(name, shape, expected):
    assert decays(name, torch.nn.Parameter(torch.zeros(shape))) is expected


def parameters() -> list[tuple[str, torch.nn.Parameter]]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"large.weight": (80, 80), "small.weight": (8, 8), "large.bias": (80,)}
    return [(name, torch.nn.Parameter(torch.randn(shape, generator=generator))) for name, shape in shapes.items()]


def step(optimizer, trainable: list, number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    for _, parameter in trainable:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    set_learning_rate(optimizer, 1e-2 / (1 + number))
    optimizer.step(number)


@pytest.mark.parametrize("kind", ["adamw8bit", "adamw", "muon"])
def test_saved_optimizer_state_is_exact(make_config, kind):
    straight, resumed = parameters(), parameters()
    optimizer = make_optimizer(straight, make_config(optimizer=kind))
    first = make_optimizer(resumed, make_config(optimizer=kind))
    for number in range(6):
        step(optimizer, straight, number)
    for number in range(3):
        step(first, resumed, number)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = make_optimizer(resumed, make_config(optimizer=kind))
    second.load_state_dict(torch.load(file, weights_only=True))
    for number in range(3, 6):
        step(second, resumed, number)
    for (name, a), (_, b) in zip(straight, resumed, strict=True):
        assert torch.equal(a, b), name


def test_eight_bit_state_is_for_large_tensors_only(make_config):
    trainable = parameters()
    optimizer = make_optimizer(trainable, make_config())
    step(optimizer, trainable, 0)
    saved = optimizer.state_dict()["state"]
    places = {id(parameter): place for place, parameter in enumerate(optimizer.weights.parameters)}
    kinds = {name: saved[places[id(parameter)]]["state1"].dtype for name, parameter in trainable}
    assert kinds == {"large.weight": torch.uint8, "small.weight": torch.float32, "large.bias": torch.float32}


@pytest.mark.parametrize("kind", ["adamw8bit", "adamw"])
@pytest.mark.parametrize("weights", ["fp32", "bf16", "bf16-stochastic"])
def test_a_weight_without_gradient_stays(make_config, kind, weights):
    """Though it is in a part with others that move, and weight decay is theirs."""
    trainable = [(f"{name}.weight", torch.nn.Parameter(torch.ones(70, 70))) for name in ("one", "other")]
    optimizer = make_optimizer(trainable, make_config(optimizer=kind, weights=weights, weight_decay=0.5))
    assert [len(part.places) for part in optimizer.parts] == [2]
    trainable[1][1].grad = torch.ones_like(trainable[1][1])
    optimizer.step(0)
    assert (trainable[0][1] == 1).all() and (trainable[1][1] != 1).all()
    assert "weights" not in optimizer.state_dict() or not optimizer.state_dict()["weights"][0]["remainder"].any()


def test_text_modules_have_their_own_learning_rate(make_config):
    """Every weight moves by its rate at the first step of AdamW; one scale makes the groups of before."""
    names = ("layers.0.to_out.weight", "text_modules.0.out.weight", "layers.0.to_out.bias", "text_modules.0.norm.bias")
    moved = {}
    for scale in (0.25, 1.0):
        shapes = [(4, 4) if name.endswith("weight") else (4,) for name in names]
        trainable = [(name, torch.nn.Parameter(torch.zeros(shape))) for name, shape in zip(names, shapes, strict=True)]
        optimizer = make_optimizer(trainable, make_config(optimizer="adamw", text_lr_scale=scale))
        assert len(optimizer.param_groups) == (4 if scale != 1.0 else 2)
        set_learning_rate(optimizer, 0.01)
        for _, parameter in trainable:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step(0)
        moved[scale] = {name: -float(parameter.detach().mean()) for name, parameter in trainable}
    assert moved[1.0] == pytest.approx(dict.fromkeys(names, 0.01), rel=1e-4)
    assert moved[0.25] == pytest.approx({name: 0.0025 if "text" in name else 0.01 for name in names}, rel=1e-4)


class Launches(TorchDispatchMode):
    """Counts operations that compute."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", ["adamw8bit", "adamw"])
@pytest.mark.parametrize("weights", ["fp32", "bf16", "bf16-stochastic"])
def test_more_tensors_do_not_mean_more_kernels(make_config, kind, weights):
    """An adapter of a real base has thousands, and a GPU waits while one after the other is launched."""
    counted = []
    for number in (10, 100):
        shapes = [(64, 80), (7, 9), (33,)] * number
        trainable = [
            (f"{n}.{'weight' if len(s) > 1 else 'bias'}", torch.nn.Parameter(torch.ones(s))) for n, s in enumerate(shapes)
        ]
        optimizer = make_optimizer(trainable, make_config(optimizer=kind, weights=weights))
        for call in range(2):
            for _, parameter in trainable:
                parameter.grad = torch.ones_like(parameter)
            with Launches() as launches:
                optimizer.step(call)
        counted.append(launches.count)
    assert counted[0] == counted[1] < 100
