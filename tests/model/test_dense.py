"""Adapters start from a quantised base's dequantised weights."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small import CLIP, fca_config, inputs
from torch import nn

from fcacli.errors import FcaError
from fcacli.model.attach import attach
from fcacli.model.bases import load_base, resolve_base
from fcacli.model.dense import dense_weight

bitsandbytes = pytest.importorskip("bitsandbytes")


def four_bit(linear: nn.Linear) -> nn.Module:
    new = bitsandbytes.nn.Linear4bit(linear.in_features, linear.out_features, quant_type="nf4", compute_dtype=torch.float32)
    new.load_state_dict(linear.state_dict())
    return new.to("cpu").requires_grad_(False).eval()


def eight_bit(linear: nn.Linear) -> nn.Module:
    new = bitsandbytes.nn.Linear8bitLt(linear.in_features, linear.out_features, has_fp16_weights=False)
    new.load_state_dict(linear.state_dict())
    return new.to("cpu").requires_grad_(False).eval()


@pytest.fixture(scope="module")
def wide_folder(tmp_path_factory: pytest.TempPathFactory, write_base: Callable[..., Path]) -> Path:
    """Wide enough for bitsandbytes' blocks of 64."""
    return write_base(tmp_path_factory.mktemp("base") / "wide", num_attention_heads=4, time_embed_dim=64)


@pytest.mark.parametrize(("quantise", "error"), [(four_bit, 0.2), (eight_bit, 0.01)])
def test_attach_copies_dequantised_weights(wide_folder: Path, quantise: Callable[..., nn.Module], error: float) -> None:
    base = load_base(resolve_base(str(wide_folder)))
    originals = []
    for block in base.transformer.transformer_blocks:
        originals.append({name: getattr(block.attn1, name).weight.clone() for name in ("to_q", "to_k", "to_v")})
        for name in ("to_q", "to_k", "to_v"):
            setattr(block.attn1, name, quantise(getattr(block.attn1, name)))
        block.norm1.linear = quantise(block.norm1.linear)
    if quantise is four_bit:
        base.transformer.train()  # on the CPU, 4-bit layers in eval mode repack themselves for inference alone
    adapter = attach(base, fca_config(width=16), CLIP)
    for layer, original in zip(adapter.layers, originals, strict=True):
        assert type(layer.norm.linear) is nn.Linear and layer.norm.linear.weight.dtype == torch.float32
        for name, weight in original.items():
            copied = getattr(layer, name).weight
            assert copied.dtype == torch.float32
            assert 0 < (copied - weight[:16]).abs().max() <= error * weight.abs().max()
    x_t, t, given = inputs(base)
    adapted = adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given))
    assert torch.equal(adapted, base.denoise(x_t, t, given.text, {"fca": None}))
    adapted.square().mean().backward()
    assert all(parameter.grad is not None for _, parameter in adapter.trainable())


def test_an_eight_bit_layer_that_was_called_is_still_read() -> None:
    linear = nn.Linear(64, 64)
    quantised = eight_bit(linear)
    before = dense_weight(quantised)
    quantised(torch.randn(2, 64))
    assert torch.equal(dense_weight(quantised), before)


def test_unknown_quantisation_is_named() -> None:
    linear = nn.Linear(4, 4)
    linear.weight = nn.Parameter(torch.zeros(4, 4, dtype=torch.int8), requires_grad=False)
    with pytest.raises(FcaError, match="int8"):
        dense_weight(linear)
