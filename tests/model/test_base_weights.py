"""The frozen base in fewer bits: what it computes, what it keeps, and that only the base is touched."""

import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small import CLIP, fca_config, inputs, wake
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

from fcacli.config import BaseWeights, FCAConfig, Keeping, LoRAConfig
from fcacli.model.attach import attach, detach, load_adapter, save_adapter
from fcacli.model.base_weights import FrozenLinear, NormalFloat4, RowScaled, store
from fcacli.model.bases import load_base, resolve_base
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.model.frozen_memory import frozen_bytes

ERRORS: dict[BaseWeights, float] = {"int8": 0.005, "fp8": 0.02, "nf4": 0.08}
"""Relative RMS error of a random weight, half of what is measured below and a little more."""
LORA = LoRAConfig(rank=4)
MakeKept = Callable[..., CogVideoX]


@pytest.fixture
def make_kept(kind_folders: dict[str, Path]) -> MakeKept:
    """A fresh base of a kind, kept as told."""

    def make(kind: str = "absolute", **fields: object) -> CogVideoX:
        base = load_base(resolve_base(str(kind_folders[kind])))
        base.keep(Keeping(**fields))  # type: ignore[arg-type]
        return base

    return make


def held(weights: str, linear: nn.Linear) -> FrozenLinear:
    return NormalFloat4(linear) if weights == "nf4" else RowScaled(linear, weights)


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / other.norm())


def output_and_gradients(base: CogVideoX, config: FCAConfig | LoRAConfig) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    adapter = attach(base, config, CLIP)
    wake(adapter)
    x_t, t, given = inputs(base)
    output = adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given))
    output.square().mean().backward()
    return output.detach(), {name: parameter.grad for name, parameter in adapter.trainable()}


@pytest.mark.parametrize("weights", ERRORS)
def test_no_more_than_one_whole_layer_is_kept_while_the_base_is_rounded(weights: BaseWeights, monkeypatch) -> None:
    """On a GPU, where the whole base may have no room."""
    blocks = nn.ModuleList(nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)) for _ in range(3)).requires_grad_(False)
    whole = [weakref.ref(layer) for block in blocks for layer in block]
    left = []
    for kind in (NormalFloat4, RowScaled):
        made = kind.__init__
        monkeypatch.setattr(
            kind, "__init__", lambda *args, made=made: (left.append(sum(ref() is not None for ref in whole)), made(*args))[1]
        )
    store(blocks, weights, torch.device("cpu"))
    assert len(left) == 6 and all(count <= 7 - number for number, count in enumerate(left))  # bitsandbytes keeps one longer


@pytest.mark.parametrize("weights", ERRORS)
def test_a_weight_comes_back_within_its_error(weights: BaseWeights) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(192, 256).requires_grad_(False)
    error = difference(held(weights, linear).dense(), linear.weight)
    assert ERRORS[weights] / 4 < error < 2 * ERRORS[weights]


@pytest.mark.parametrize(("rows", "columns"), [(96, 48), (7, 48), (4, 200), (5, 13), (128, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_four_bits_come_back_by_blocks_whatever_the_length_of_a_row(rows: int, columns: int, dtype: torch.dtype) -> None:
    """On CPUs with AVX-512 bitsandbytes has rows shorter than a block wrong, if it is asked for rows."""
    torch.manual_seed(0)
    linear = nn.Linear(columns, rows, bias=False).requires_grad_(False).to(dtype)
    largest = functional.pad(linear.weight.float().flatten(), (0, -rows * columns % 64)).view(-1, 64).abs().amax(1)
    allowed = (
        largest.repeat_interleave(64)[: rows * columns].view(rows, columns) * 0.16
    )  # half of NF4's widest gap, and rounding
    assert bool(((NormalFloat4(linear).dense() - linear.weight).abs().float() <= allowed).all())


def test_outputs_far_smaller_than_others_keep_their_precision() -> None:
    """Why each output has a scale: as it stands, float8 loses what is below 0.002, int8 what is below a 127th."""
    torch.manual_seed(0)
    linear = nn.Linear(64, 2).requires_grad_(False)
    linear.weight[1] *= 1e-4
    for weights in ("fp8", "int8"):
        assert difference(held(weights, linear).dense()[1], linear.weight[1]) < 0.05


@pytest.mark.parametrize("weights", ERRORS)
def test_a_product_saves_only_what_is_stored(weights: BaseWeights) -> None:
    linear = held(weights, nn.Linear(64, 64).requires_grad_(False))
    saved: list[torch.Tensor] = []
    x = torch.randn(2, 3, 64, requires_grad=True)
    with saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor):
        output = linear(x)
    assert {tensor.data_ptr() for tensor in saved} == {linear.weight.data_ptr(), linear.scale.data_ptr()}
    (gradient,) = torch.autograd.grad(output.sum(), x)
    expected = torch.ones(2, 3, 64) @ linear.dense()
    assert torch.allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize("weights", ERRORS)
def test_under_autocast_a_product_is_that_of_the_dense_weight(weights: BaseWeights) -> None:
    linear = held(weights, nn.Linear(64, 64).requires_grad_(False))
    x = torch.randn(2, 3, 64, requires_grad=True)
    found = []
    for product in (linear, lambda x: functional.linear(x, linear.dense(), linear.bias)):
        with torch.autocast("cpu", torch.bfloat16):
            output = product(x)
        found.append((output, *torch.autograd.grad(output.float().square().sum(), x)))
    (output, gradient), (expected, expected_gradient) = found
    assert output.dtype == torch.bfloat16 and gradient.dtype == torch.float32
    assert torch.equal(output, expected) and difference(gradient, expected_gradient) < 1e-3


@pytest.mark.parametrize("weights", ERRORS)
@pytest.mark.parametrize("config", [fca_config(), LORA], ids=["fca", "lora"])
def test_outputs_and_gradients_are_those_of_a_base_with_these_very_weights(
    make_kept: MakeKept, weights: BaseWeights, config: FCAConfig | LoRAConfig
) -> None:
    kept, plain = make_kept("rotary", base_weights=weights), make_kept("rotary")
    for name, module in kept.transformer.named_modules():
        if isinstance(module, FrozenLinear):
            plain.transformer.get_submodule(name).weight.data.copy_(module.dense())
    kept.transformer.enable_gradient_checkpointing()
    expected, expected_gradients = output_and_gradients(plain, config)
    output, gradients = output_and_gradients(kept, config)
    assert difference(output, expected) < 1e-5
    for name, gradient in gradients.items():
        assert difference(gradient, expected_gradients[name]) < 1e-4, name


@pytest.mark.parametrize("weights", ERRORS)
def test_every_linear_layer_of_the_blocks_is_held_so_and_nothing_else(make_kept: MakeKept, weights: BaseWeights) -> None:
    transformer = make_kept(base_weights=weights).transformer
    linears = {name: module for name, module in transformer.named_modules() if isinstance(module, nn.Linear)}
    for name, module in linears.items():
        assert isinstance(module, FrozenLinear) == name.startswith("transformer_blocks."), name
    assert any("norm1.linear" in name for name in linears)
    assert not [name for name, parameter in transformer.named_parameters() if parameter.requires_grad]


@pytest.mark.parametrize("weights", ERRORS)
def test_a_fresh_adapter_is_the_base_and_a_saved_one_comes_back(
    make_kept: MakeKept, weights: BaseWeights, tmp_path: Path
) -> None:
    base = make_kept(base_weights=weights)
    x_t, t, given = inputs(base)
    alone = base.denoise(x_t, t, given.text)
    adapter = attach(base, fca_config(), CLIP)
    assert {parameter.dtype for _, parameter in adapter.trainable()} == {torch.float32}
    assert torch.equal(adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given)), alone)
    wake(adapter)
    adapted = adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given))
    save_adapter(adapter, tmp_path, base.spec.name, base.fingerprint, CLIP)
    detach(base.transformer)
    assert torch.equal(base.denoise(x_t, t, given.text), alone)
    loaded = load_adapter(base, tmp_path)
    assert torch.equal(loaded.denoise(base, x_t, t, given.text, loaded.condition(base, given)), adapted)


@pytest.mark.parametrize("weights", ERRORS)
def test_lora_matrices_stay_float32_and_come_off(make_kept: MakeKept, weights: BaseWeights) -> None:
    base = make_kept(base_weights=weights)
    x_t, t, given = inputs(base)
    alone = base.denoise(x_t, t, given.text)
    adapter = attach(base, LORA, CLIP)
    assert {parameter.dtype for _, parameter in adapter.trainable()} == {torch.float32}
    assert all(len(parameter.unique()) > 100 for name, parameter in adapter.trainable() if "lora_A" in name)
    detach(base.transformer)
    assert torch.equal(base.denoise(x_t, t, given.text), alone)


def storages(transformer: nn.Module) -> int:
    """Bytes of the distinct storages of all parameters and buffers."""
    tensors = [*transformer.parameters(), *transformer.buffers()]
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("swapped", [0, 1, 2])
@pytest.mark.parametrize("weights", ["full", *ERRORS])
def test_the_bytes_that_are_planned_are_those_that_are_there(
    kind_folders: dict[str, Path], weights: BaseWeights, swapped: int, dtype: torch.dtype
) -> None:
    keeping = Keeping(base_weights=weights, block_swap=swapped)
    for folder in kind_folders.values():
        bare, base = (load_base(resolve_base(str(folder)), dtype=dtype) for _ in range(2))
        base.keep(keeping)
        planned = frozen_bytes(bare.transformer, keeping, dtype)
        assert planned.device + planned.host == storages(base.transformer)
        assert bool(planned.host) == bool(swapped)
        assert bool(planned.passing) == (weights != "full" or swapped > 0)
