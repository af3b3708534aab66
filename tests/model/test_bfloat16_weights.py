"""Claims about adapters whose weights are kept in bfloat16: they compute as float32 ones do, up to rounding, and travel so."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small import CLIP, KINDS, MakeBase, fca_config, inputs, wake

from fcacli.config import AdapterConfig, InContextFCAConfig, LoRAConfig, to_dict
from fcacli.model.attach import attach, detach, load_adapter, save_adapter

FRONT = InContextFCAConfig(**{name: value for name, value in to_dict(fca_config()).items() if name != "kind"})
ADAPTERS: dict[str, AdapterConfig] = {
    "fca": fca_config(),
    "narrow": fca_config(width=16),
    "block": fca_config(modulation="block", text_modules="shared"),
    "no-text": fca_config(text_modules="none", mask="none"),
    "appended": fca_config(injection="text"),
    "front": FRONT,
    "lora": LoRAConfig(rank=4),
}
ROUNDING = 2e-2
"""Relative RMS difference that a few operations in bfloat16 make."""


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    one, other = one.double(), other.double()
    return float((one - other).norm() / other.norm())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize(
    "kind, name", [*(("rotary", name) for name in ADAPTERS), ("absolute", "fca"), ("temporal_patch", "fca")]
)
def test_prediction_is_that_of_float32_weights_and_reloads_bit_for_bit(
    make_base: MakeBase, tmp_path: Path, kind: str, name: str, dtype: torch.dtype
) -> None:
    base = make_base(kind, dtype)
    adapter = attach(base, ADAPTERS[name], CLIP)
    wake(adapter)
    x_t, t, given = inputs(base)

    def prediction(adapter):
        with torch.no_grad():
            return adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given))

    for _, parameter in adapter.trainable():
        parameter.data = parameter.data.bfloat16().float()
    full = prediction(adapter)
    adapter.to(torch.bfloat16)
    half = prediction(adapter)
    assert difference(half, full) < ROUNDING
    save_adapter(adapter, tmp_path, base.spec.name, base.fingerprint, CLIP)
    detach(base.transformer)
    loaded = load_adapter(base, tmp_path)
    assert {tensor.dtype for tensor in loaded.state().values()} == {torch.bfloat16}
    assert torch.equal(prediction(loaded), half)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind, name", [*((kind, "fca") for kind in KINDS), ("rotary", "block"), ("rotary", "lora")])
def test_gradients_are_bfloat16_and_those_of_float32_weights(
    make_base: MakeBase, kind: str, name: str, checkpointing: bool
) -> None:
    """Under the training step's autocast; of every trained tensor, in length and direction."""
    base = make_base(kind)
    adapter = attach(base, ADAPTERS[name], CLIP)
    wake(adapter)
    x_t, t, given = inputs(base)
    if checkpointing:
        base.transformer.enable_gradient_checkpointing()

    def gradients():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            output = adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given))
        (output.float() - x_t).square().mean().backward()
        found = {name: parameter.grad for name, parameter in adapter.trainable()}
        for _, parameter in adapter.trainable():
            parameter.grad = None
        return found

    for _, parameter in adapter.trainable():
        parameter.data = parameter.data.bfloat16().float()
    full = gradients()
    for _, parameter in adapter.trainable():
        parameter.data = parameter.data.bfloat16()
    half = gradients()
    assert {gradient.dtype for gradient in half.values()} == {torch.bfloat16}
    flat = [torch.cat([gradient.double().flatten() for gradient in found.values()]) for found in (half, full)]
    assert difference(*flat) < 5e-2


def test_mixed_files_are_read_in_float32(make_base: MakeBase, tmp_path: Path) -> None:
    """Only a file all of bfloat16 is an adapter that was trained so."""
    from safetensors.torch import load_file, save_file

    base = make_base()
    adapter = attach(base, replace(fca_config()), CLIP)
    save_adapter(adapter.to(torch.bfloat16), tmp_path, base.spec.name, base.fingerprint, CLIP)
    detach(base.transformer)
    tensors = load_file(tmp_path / "adapter.safetensors")
    first = next(iter(tensors))
    save_file(tensors | {first: tensors[first].float()}, tmp_path / "adapter.safetensors")
    assert {tensor.dtype for tensor in load_adapter(base, tmp_path).state().values()} == {torch.float32}
