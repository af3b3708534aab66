"""Every ablation is one config field that changes what its name says, and trains."""

from collections.abc import Callable

import pytest
import torch
from small import CLIP, fca_config, inputs, wake

from fcacli.config import FCAConfig
from fcacli.errors import Misuse
from fcacli.model.attach import attach
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.model.conditioning import FCAConditioning, Given
from fcacli.model.fca import FCAAdapter

MakeBase = Callable[..., CogVideoX]
FIELDS = [
    {"init_features": "patch"},
    {"init_features": "none"},
    {"text_modules": "shared"},
    {"text_modules": "none"},
    {"image_features": "none"},
    {"mask": "none"},
    {"modulation": "block"},
    {"projections": "random"},
    {"width": 16},
    {"init_timestep": 500},
    {"injection": "text"},
]


def adapted(base: CogVideoX, **fields: object) -> FCAAdapter:
    torch.manual_seed(0)
    adapter = attach(base, fca_config(**fields), CLIP)
    wake(adapter)
    return adapter


@pytest.mark.parametrize("fields", FIELDS, ids=lambda fields: next(f"{k}={v}" for k, v in fields.items()))
def test_each_ablation_changes_the_output_and_trains(make_base: MakeBase, fields: dict[str, object]) -> None:
    base = make_base("rotary")
    x_t, t, given = inputs(base)
    adapter = adapted(base, **fields)
    output = adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given))
    output.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for _, p in adapter.trainable())
    full_base = make_base("rotary")
    full = adapted(full_base)
    assert not torch.allclose(full.denoise(full_base, x_t, t, given.text, full.condition(full_base, given)), output)


def keys(base: CogVideoX, adapter: FCAAdapter, given: Given) -> FCAConditioning:
    with torch.no_grad():
        return adapter.condition(base, given)


def test_what_each_ablation_leaves_out(make_base: MakeBase) -> None:
    _, _, given = inputs(make_base())
    moved = Given(given.init_latents + 1, given.text, given.text_mask, given.image)
    seen = Given(given.init_latents, given.text, given.text_mask, given.image + torch.randn_like(given.image))

    base = make_base()
    no_init = keys(base, adapted(base, init_features="none"), given)
    assert all(layer.key_init.shape[2] == 0 for layer in no_init.layers)

    base = make_base()
    no_text = keys(base, adapted(base, text_modules="none"), given)
    assert all(layer.key_frames.shape[3] == 0 for layer in no_text.layers)

    base = make_base()
    blind = adapted(base, image_features="none")
    assert torch.equal(keys(base, blind, given).layers[0].key_frames, keys(base, blind, seen).layers[0].key_frames)
    base = make_base()
    seeing = adapted(base)
    assert not torch.equal(keys(base, seeing, given).layers[0].key_frames, keys(base, seeing, seen).layers[0].key_frames)
    assert not torch.equal(keys(base, seeing, given).layers[0].key_init, keys(base, seeing, moved).layers[0].key_init)

    base = make_base()
    shared = adapted(base, text_modules="shared")
    first, second = shared.frame_wise_text(given)
    assert len(shared.text_modules) == 1 and first is second
    base = make_base()
    patch = adapted(base, init_features="patch").initial_features(base, given.init_latents, given.text)
    assert patch[0] is patch[1] and patch[0].shape == (2, 16, 32)

    base = make_base()
    names = [name for name, _ in adapted(base, modulation="block").trainable()]
    assert not any(".norm." in name for name in names if name.startswith("layers"))


def test_random_projections_are_not_the_frozen_ones(make_base: MakeBase) -> None:
    base = make_base()
    frozen = base.transformer.transformer_blocks[0].attn1.to_q.weight
    assert not torch.equal(adapted(base, projections="random").layers[0].to_q.weight, frozen)


def test_nothing_to_attend_to_is_misuse() -> None:
    with pytest.raises(Misuse, match="nothing to attend to"):
        FCAConfig(width=32, init_features="none", text_modules="none")


def test_text_injection_has_no_parallel_modules_and_reads_behind_the_text(make_base: MakeBase) -> None:
    base = make_base("absolute")
    x_t, t, given = inputs(base)
    adapter = adapted(base, injection="text")
    assert all(name.startswith("text_modules.") for name, _ in adapter.trainable())
    conditioning = keys(base, adapter, given)
    y_frames, x_init = 4 * 3, 16  # F*M, K
    assert conditioning.layers[0].tokens.shape == (2, y_frames + x_init, 32)
    with torch.no_grad():
        output = adapter.denoise(base, x_t, t, given.text, conditioning)
        assert output.shape == x_t.shape
        for part in (slice(0, y_frames), slice(y_frames, None)):  # both reach the video
            changed = conditioning.to()
            changed.layers[1].tokens[:, part] += 1.0
            assert not torch.allclose(adapter.denoise(base, x_t, t, given.text, changed), output)
            changed.layers[1].tokens[:, part] -= 1.0


def test_text_injection_without_text_modules_has_nothing_to_train() -> None:
    with pytest.raises(Misuse, match="nothing to train"):
        fca_config(injection="text", text_modules="none")
