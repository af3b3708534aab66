"""Inputs of checkpointed blocks wait in main memory: the same bits, the same memory at every step."""

import pytest
import torch

from fcacli.config import ClipConfig, FCAConfig, LoRAConfig
from fcacli.model.attach import attach, detach
from fcacli.model.bases import load_base, resolve_base
from fcacli.model.conditioning import Given
from fcacli.training import activations
from fcacli.training.activations import Buffers, keep_inputs_in_main_memory

CLIP = ClipConfig(frames=16, init_frames=2, width=32, height=32, fps=8)
FCA = FCAConfig(width=32, tokens_per_frame=2, text_width=16, text_heads=2, text_blocks=1)
LAYERS = 2


@pytest.fixture
def base(tiny_base_folder):
    return load_base(resolve_base(str(tiny_base_folder)))


def step(base, adapter):
    """Gradients of one training step."""
    torch.manual_seed(1)
    given = Given(
        init_latents=torch.randn(2, 1, 4, 8, 8),
        text=torch.randn(2, 12, 24),
        text_mask=torch.ones(2, 12, dtype=torch.bool),
        image=torch.randn(2, 32, 16),
    )
    x_t, t = torch.randn(2, 4, 4, 8, 8), torch.tensor([3, 800])
    adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given)).square().mean().backward()
    return [parameter.grad.clone() for _, parameter in adapter.trainable()]


def adapted(base, config):
    torch.manual_seed(0)
    adapter = attach(base, config, CLIP)
    for name, parameter in adapter.named_parameters():
        if "to_out" in name or name.startswith("matrices"):
            torch.nn.init.normal_(parameter, std=0.2)
    return adapter


@pytest.mark.parametrize("config", [FCA, LoRAConfig(rank=4)], ids=["fca", "lora"])
@pytest.mark.parametrize("autocast", [False, True])
def test_gradients_are_the_same_bits(base, config, autocast, monkeypatch):
    kept = []
    keep = Buffers.keep
    monkeypatch.setattr(Buffers, "keep", lambda self, tensor: kept.append(tuple(tensor.shape)) or keep(self, tensor))
    found = []
    for enable in (base.transformer.enable_gradient_checkpointing, lambda: keep_inputs_in_main_memory(base.transformer)):
        enable()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found.append(step(base, adapted(base, config)))
        detach(base.transformer)
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    kept = [shape for shape in kept if all(shape)]  # older versions of torch keep an empty one besides
    video, text, temb = (shape for shape in dict.fromkeys(kept))  # of each block, nothing else
    assert len(kept) == 3 * LAYERS and (len(video), len(text), len(temb)) == (3, 3, 2)


def test_memory_is_taken_once_and_used_again(base, monkeypatch):
    taken = []
    page_locked = activations.page_locked

    def noted(size, device):
        taken.extend([size] if size else [])  # older versions of torch keep an empty one besides
        return page_locked(size, device)

    monkeypatch.setattr(activations, "page_locked", noted)
    keep_inputs_in_main_memory(base.transformer)
    adapter = adapted(base, FCA)
    first = step(base, adapter)
    assert len(taken) == 3 * LAYERS
    adapter.zero_grad()
    assert all(torch.equal(one, other) for one, other in zip(first, step(base, adapter), strict=True))
    assert len(taken) == 3 * LAYERS


def test_a_buffer_in_use_is_not_given_away():
    buffers = Buffers()
    one = buffers.keep(torch.ones(4))
    other = buffers.keep(torch.zeros(4))
    assert one.back().sum() == 4 and other.back().sum() == 0
    where = one.buffer.data_ptr()
    del one
    third = buffers.keep(torch.full((2, 2), 3.0))
    assert third.buffer.data_ptr() == where and third.back().sum() == 12 and other.back().sum() == 0


def test_what_comes_back_lies_in_memory_as_it_did():
    """Compiled blocks go by strides: the video behind the text, of two clips, is no dense tensor."""
    kept = torch.randn(2, 7, 4)[:, 3:]
    back = Buffers().keep(kept).back()
    assert back.stride() == kept.stride() and torch.equal(back, kept)
