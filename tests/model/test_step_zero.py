"""An adapter starts as the identity: before training, the adapted model computes the base's bits."""

from collections.abc import Callable

import pytest
import torch
from small import CLIP, fca_config, inputs

from fcacli.model.attach import attach, detach
from fcacli.model.bases import load_base, resolve_base
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.model.text_only import TextOnly

KINDS = ["absolute", "rotary", "temporal_patch"]
MakeBase = Callable[..., CogVideoX]


def largest_difference(base: CogVideoX, autocast: bool = False, **fields: object) -> float:
    """max |adapted - base| on random inputs, in whatever mode the transformer is."""
    x_t, t, given = inputs(base)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        plain = base.denoise(x_t, t, given.text)
        adapter = attach(base, fca_config(**fields), CLIP)
        adapted = adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given))
    assert adapted.dtype == plain.dtype
    return (adapted - plain).abs().max().item()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_zero_initialised_adapter_is_the_base_exactly(make_base: MakeBase, kind: str, checkpointing: bool) -> None:
    base = make_base(kind)
    if checkpointing:
        base.transformer.enable_gradient_checkpointing()
    assert largest_difference(base) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_equality_holds_in_bfloat16_and_under_autocast(make_base: MakeBase, kind: str) -> None:
    assert largest_difference(make_base(kind, torch.bfloat16)) == 0
    assert largest_difference(make_base(kind), autocast=True) == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"width": 16},
        {"modulation": "block"},
        {"projections": "random"},
        {"init_features": "patch"},
        {"init_features": "none"},
        {"text_modules": "shared"},
        {"text_modules": "none"},
        {"image_features": "none"},
        {"mask": "none"},
    ],
    ids=lambda fields: "-".join(f"{name}={value}" for name, value in fields.items()),
)
def test_equality_holds_in_every_ablation(make_base: MakeBase, fields: dict[str, object]) -> None:
    assert largest_difference(make_base("rotary"), **fields) == 0


def test_equality_holds_on_the_miniature() -> None:
    base = load_base(resolve_base("mini"))
    clip_config = base.spec.defaults
    torch.manual_seed(0)
    from fcacli.config import ClipConfig
    from fcacli.model.conditioning import Given

    clip = ClipConfig(frames=clip_config.frames, init_frames=2, width=clip_config.width, height=clip_config.height, fps=12)
    shape = base.latent_shape(clip)
    text, mask = base.encode_text(["pushing red cup left"])
    given = Given(torch.randn(1, 1, *shape[1:]), text, mask, torch.randn(1, 72, 96))
    x_t, t = torch.randn(1, *shape), torch.tensor([500])
    plain = base.denoise(x_t, t, text)
    adapter = attach(base, fca_config(width=base.d), clip)
    assert torch.equal(adapter.denoise(base, x_t, t, text, adapter.condition(base, given)), plain)


def test_adapter_off_and_detached_are_the_base(make_base: MakeBase) -> None:
    base = make_base("rotary")
    x_t, t, given = inputs(base)
    names = list(base.transformer.state_dict())
    plain = base.denoise(x_t, t, given.text)
    attach(base, fca_config(), CLIP)
    assert torch.equal(TextOnly().denoise(base, x_t, t, given.text, None), plain)
    detach(base.transformer)
    assert torch.equal(base.denoise(x_t, t, given.text), plain)
    assert list(base.transformer.state_dict()) == names
