"""Muon in the parameters' own precision: the step of torch's, without its bfloat16."""

import pytest
import torch

from fcacli.mini.muon import Muon
from fcacli.training.muon import orthogonal


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason=f"torch {torch.__version__} has no Muon to compare with")
@pytest.mark.parametrize("shape", [(24, 24), (16, 48), (48, 16)])
def test_a_step_is_that_of_torchs_muon_up_to_bfloat16(shape):
    torch.manual_seed(0)
    start, grads = torch.randn(shape), torch.randn(3, *shape)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    settings = {"lr": 0.01, "weight_decay": 0.01}
    pairs = [
        (ours, Muon([ours], **settings)),
        (theirs, torch.optim.Muon([theirs], momentum=0.95, adjust_lr_fn="match_rms_adamw", **settings)),
    ]
    for grad in grads:
        for parameter, optimizer in pairs:
            parameter.grad = grad.clone()
            optimizer.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.02 * moved


@pytest.mark.parametrize("shape", [(32, 32), (12, 40), (40, 12)])
def test_singular_values_come_near_one(shape):
    torch.manual_seed(1)
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape) * 7.0))
    assert values.min() > 0.6 and values.max() < 1.3


def test_the_share_of_another_process_is_left_alone(monkeypatch):
    parameters = [torch.nn.Parameter(torch.zeros(8, 8)) for _ in range(3)]
    optimizer = Muon(parameters, lr=1.0, rank=1, world=2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda flat: None, raising=False)
    for parameter in parameters:
        parameter.grad = torch.eye(8)
    optimizer.step()
    assert [bool(parameter.any()) for parameter in parameters] == [False, True, False]
