"""fca-lora: FCA, and LoRA on the frozen attention; x_init, and whatever asks for the base, still gets the base."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small import CLIP, fca_config, inputs, wake

from fcacli.config import FCALoRAConfig, Keeping, to_dict
from fcacli.errors import Misuse
from fcacli.model.attach import adapter_off, attach, detach, load_adapter, save_adapter, set_aside
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.model.fca_lora import FCALoRAAdapter

MakeBase = Callable[..., CogVideoX]
KINDS = ["absolute", "rotary", "temporal_patch"]


def both(**fields: object) -> FCALoRAConfig:
    shared = {name: value for name, value in to_dict(fca_config(**fields)).items() if name != "kind"}
    return FCALoRAConfig(**shared, rank=2)


def attached(base: CogVideoX) -> FCALoRAAdapter:
    adapter = attach(base, both(), CLIP)
    assert isinstance(adapter, FCALoRAAdapter)
    return adapter


@pytest.mark.parametrize("kind", KINDS)
def test_at_step_zero_it_is_the_base(make_base: MakeBase, kind: str) -> None:
    base = make_base(kind)
    x_t, t, given = inputs(base)
    expected = base.denoise(x_t, t, given.text)
    adapter = attached(base)
    assert torch.equal(adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given)), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_it_trains_and_nothing_else(make_base: MakeBase, kind: str) -> None:
    base = make_base(kind)
    x_t, t, given = inputs(base)
    frozen = {name for name, _ in base.transformer.named_parameters()}
    adapter = attached(base)
    layers = base.layers
    assert sorted(adapter.lora)[0] == "0-to_k-A" and len(adapter.lora) == 4 * 2 * layers
    wake(adapter)
    adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for _, p in adapter.trainable())
    ours = {id(p) for _, p in adapter.trainable()}
    others = [p for p in base.transformer.parameters() if id(p) not in ours]
    assert len(others) == len(frozen) and all(p.grad is None and not p.requires_grad for p in others)


def test_awake_it_changes_the_output_by_both_and_neither_x_init_nor_the_base(make_base: MakeBase) -> None:
    base = make_base("rotary")
    x_t, t, given = inputs(base)
    alone = base.denoise(x_t, t, given.text)
    adapter = attached(base)
    before = adapter.initial_features(base, given.init_latents, given.text)
    fresh = adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given))
    with torch.no_grad():
        for name, matrix in adapter.lora.items():
            matrix.normal_() if name.endswith("B") else None
        by_lora = adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given))
        assert not torch.allclose(by_lora, fresh)
        wake(adapter)
        assert not torch.allclose(adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given)), by_lora)
    after = adapter.initial_features(base, given.init_latents, given.text)
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
    assert torch.equal(base.denoise(x_t, t, given.text, adapter_off(base.transformer)), alone)
    with set_aside(base.transformer):
        assert torch.equal(base.denoise(x_t, t, given.text), alone)
    assert all(parameter.requires_grad for _, parameter in adapter.trainable())
    detach(base.transformer)
    assert torch.equal(base.denoise(x_t, t, given.text), alone)


@pytest.mark.parametrize("keeping", [{}, {"block_swap": 1}, {"base_weights": "int8"}], ids=["plain", "swapped", "int8"])
def test_it_comes_back_from_its_file_and_from_being_set_aside(make_base: MakeBase, tmp_path: Path, keeping: dict) -> None:
    base = make_base("absolute")
    base.keep(Keeping(**keeping))
    x_t, t, given = inputs(base)
    adapter = attached(base)
    wake(adapter)
    with torch.no_grad():
        expected = adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given))
        save_adapter(adapter, tmp_path, base.spec.name, base.fingerprint, CLIP)
        state = {name: tensor.clone() for name, tensor in adapter.state().items()}
        with set_aside(base.transformer):
            loaded = load_adapter(base, tmp_path)
            assert loaded.config == both()
            assert loaded.state().keys() == state.keys()
            assert torch.equal(loaded.denoise(base, x_t, t, given.text, loaded.condition(base, given)), expected)
        assert torch.equal(adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given)), expected)


def test_a_rank_of_zero_is_refused() -> None:
    with pytest.raises(Misuse, match="--lora-rank must be between 1 and 16,384, got 0"):
        FCALoRAConfig(width=32, rank=0)
