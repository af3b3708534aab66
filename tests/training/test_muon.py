"""Claims about Muon beside AdamW: matrices are stepped as torch's own Muon does, all else as torch's AdamW."""

from dataclasses import replace

import pytest
import torch

from fcacli.training.optim import make_optimizer


def weights():
    generator = torch.Generator().manual_seed(0)
    shapes = {"to_q.weight": (24, 24), "norm.weight": (16, 48), "out.weight": (48, 16), "bias": (24,), "queries": (4, 8)}
    return {name: torch.nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in shapes.items()}


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason=f"torch {torch.__version__} has no Muon to compare with")
def test_each_weight_is_stepped_by_its_own_rule(make_config):
    """Up to the bfloat16 of torch's Muon; a learned query is no matrix."""
    config = replace(make_config(optimizer="muon"), lr=0.01, weight_decay=0.01)
    ours, theirs, start = weights(), weights(), weights()
    matrices = [theirs[name] for name in ours if name.endswith(".weight")]
    rest = [theirs["bias"], theirs["queries"]]
    others = [
        torch.optim.Muon(matrices, lr=0.01, momentum=0.95, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=0.01, betas=(0.9, 0.999), weight_decay=0.0),
    ]
    optimizer = make_optimizer(list(ours.items()), config)
    for number in range(3):
        generator = torch.Generator().manual_seed(number)
        for name, parameter in ours.items():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            theirs[name].grad = parameter.grad.clone()
        optimizer.step(number)
        for other in others:
            other.step()
    for name, parameter in ours.items():
        moved = (theirs[name] - start[name]).norm()
        assert moved > 0.01
        assert (parameter - theirs[name]).norm() <= (0.02 * moved if name.endswith(".weight") else 0), name


def test_it_keeps_one_number_a_weight_of_a_matrix(make_config):
    trainable = weights()
    optimizer = make_optimizer(list(trainable.items()), make_config(optimizer="muon"))
    for parameter in trainable.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step(0)
    saved = optimizer.state_dict()["state"]
    places = {id(parameter): place for place, parameter in enumerate(optimizer.weights.parameters)}
    kept = {name: sum(t.numel() for t in saved[places[id(p)]].values() if t.ndim) for name, p in trainable.items()}
    expected = {name: p.numel() * (1 if name.endswith(".weight") else 2) for name, p in trainable.items()}
    assert kept == expected


@pytest.mark.parametrize("name", ["to_q.weight", "bias"])
def test_a_weight_without_gradient_stays(make_config, name):
    trainable, before = weights(), weights()
    optimizer = make_optimizer(list(trainable.items()), make_config(optimizer="muon"))
    for other, parameter in trainable.items():
        parameter.grad = None if other == name else torch.ones_like(parameter)
    optimizer.step(0)
    assert [other for other, p in trainable.items() if torch.equal(p, before[other])] == [name]
