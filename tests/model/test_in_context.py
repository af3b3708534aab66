"""fca-in-context: FCA, and the clean latents of the initial frames in front of the video."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small import CLIP, fca_config, inputs, random_frames, wake

from fcacli.config import InContextFCAConfig, to_dict
from fcacli.errors import FcaError
from fcacli.model.attach import attach, detach, load_adapter, save_adapter
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.model.fca import FCAAdapter, fill_temporal_patch

MakeBase = Callable[..., CogVideoX]
KINDS = ["absolute", "rotary", "temporal_patch"]


def in_context(**fields: object) -> InContextFCAConfig:
    return InContextFCAConfig(**{name: value for name, value in to_dict(fca_config(**fields)).items() if name != "kind"})


@pytest.mark.parametrize("kind", KINDS)
def test_at_step_zero_it_is_the_base_with_the_frames_in_front(make_base: MakeBase, kind: str) -> None:
    base = make_base(kind)
    x_t, t, given = inputs(base)
    clean = fill_temporal_patch(given.init_latents, base.temporal_patch)
    expected = base.denoise(torch.cat([clean, x_t], dim=1), t, given.text)[:, clean.shape[1] :]
    adapter = attach(base, in_context(), CLIP)
    assert isinstance(adapter, FCAAdapter)
    assert torch.equal(adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given)), expected)
    detach(base.transformer)
    assert torch.equal(adapter.denoise_without(base, x_t, t, given.text, given), expected)
    assert not torch.equal(base.denoise(x_t, t, given.text), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_and_sees_the_frames_both_ways(make_base: MakeBase, kind: str) -> None:
    base = make_base(kind)
    x_t, t, given = inputs(base)
    adapter = attach(base, in_context(), CLIP)
    wake(adapter)
    condition = adapter.condition(base, given)
    output = adapter.denoise(base, x_t, t, given.text, condition)
    assert output.shape == x_t.shape
    output.square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for _, p in adapter.trainable())
    with torch.no_grad():
        other = adapter.condition(base, replace(given, init_latents=given.init_latents + 1))
        assert not torch.equal(other.layers[0].key_init, condition.layers[0].key_init)
        front_alone = replace(condition, front=other.front)
        assert not torch.allclose(adapter.denoise(base, x_t, t, given.text, front_alone), output)


def test_frames_in_front_follow_both_halves_of_guidance(make_base: MakeBase) -> None:
    base = make_base("absolute")
    _, _, given = inputs(base)
    adapter = attach(base, in_context(), CLIP)
    condition = adapter.condition(base, given)
    assert condition.cat(condition).front.shape[0] == 2 * len(given.text)


def test_it_is_saved_under_its_own_name_and_comes_back(make_base: MakeBase, tmp_path: Path) -> None:
    base = make_base("absolute")
    adapter = attach(base, in_context(), CLIP)
    wake(adapter)
    save_adapter(adapter, tmp_path, base.spec.name, base.fingerprint, CLIP)
    state = {name: tensor.clone() for name, tensor in adapter.state().items()}
    detach(base.transformer)
    loaded = load_adapter(base, tmp_path)
    assert loaded.config == in_context()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state().items())


def test_a_plain_pipeline_has_no_place_for_it(make_base: MakeBase) -> None:
    adapter = attach(make_base("absolute"), in_context(), CLIP)
    with pytest.raises(FcaError, match="cannot run in a plain diffusers pipeline"):
        adapter.for_pipeline(None, random_frames(2), "pushing cup left")
