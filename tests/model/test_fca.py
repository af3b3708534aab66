"""What the adapter computes, what reaches it, and what training it touches."""

import hashlib
from collections.abc import Callable

import pytest
import torch
from reference.dense_fca import parallel_module
from small import CLIP, fca_config, inputs, random_frames, wake

from fcacli.config import FCALoRAConfig
from fcacli.errors import FcaError, Misuse
from fcacli.model.attach import attach, detach
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.model.bases.cogvideox_block import Modulated
from fcacli.model.conditioning import FCAConditioning, Given, LayerConditioning, Tap

MakeBase = Callable[..., CogVideoX]
KINDS = ["absolute", "rotary", "temporal_patch"]


def layer_inputs(layer: torch.nn.Module, frames: int) -> tuple[torch.Tensor, ...]:
    """video (2, F*16, 32), text (2, 12, 32), temb (2, 16), y_frames (2, F, 3, 32), x_init (2, 16, 32)."""
    torch.manual_seed(0)
    return (
        torch.randn(2, frames * 16, 32),
        torch.randn(2, 12, 32),
        torch.randn(2, 16),
        torch.randn(2, frames, 3, 32),
        torch.randn(2, 16, 32),
    )


def unused() -> Modulated:
    return Modulated(*[torch.full((1, 1, 1), torch.nan)] * 4)


# ---------------------------------------------------------------- the module


@pytest.mark.parametrize("width", [32, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_module_equals_its_equations_with_a_dense_mask(make_base: MakeBase, kind: str, width: int) -> None:
    base = make_base(kind)
    adapter = attach(base, fca_config(width=width), CLIP)
    wake(adapter)
    layer, frames = adapter.layers[1], adapter.geometry.frames
    video, text, temb, y_frames, x_init = layer_inputs(layer, frames)
    rotary, init_rotary = base.rotary(4, 8, 8), base.rotary(base.temporal_patch, 8, 8)
    keys = layer.condition(y_frames, x_init, init_rotary)
    added_video, added_text = layer(video, text, temb, unused(), rotary, keys)
    state = {name: tensor.detach() for name, tensor in layer.state_dict().items()}
    for row in range(2):
        expected = parallel_module(state, 16, video[row], text[row], temb[row], y_frames[row], x_init[row], rotary, init_rotary)
        torch.testing.assert_close(added_video[row], expected[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(added_text[row], expected[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_mask_hides_other_frames(make_base: MakeBase, kind: str) -> None:
    base = make_base(kind)
    adapter = attach(base, fca_config(), CLIP)
    wake(adapter)
    layer, frames = adapter.layers[0], adapter.geometry.frames
    video, text, temb, y_frames, x_init = layer_inputs(layer, frames)

    def module(y_frames: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        keys = layer.condition(y_frames, x_init, base.rotary(base.temporal_patch, 8, 8))
        added_video, added_text = layer(video, text, temb, unused(), base.rotary(4, 8, 8), keys)
        return added_video.unflatten(1, (frames, 16)), added_text

    before_video, before_text = module(y_frames)
    for frame in range(frames):
        changed = y_frames.clone()
        changed[:, frame] += 1
        after_video, after_text = module(changed)
        moved = [not torch.equal(after_video[:, f], before_video[:, f]) for f in range(frames)]
        assert moved == [f == frame for f in range(frames)]
        assert not torch.equal(after_text, before_text)


def test_without_mask_all_frames_see_all_text(make_base: MakeBase) -> None:
    base = make_base()
    adapter = attach(base, fca_config(mask="none"), CLIP)
    wake(adapter)
    layer = adapter.layers[0]
    video, text, temb, y_frames, x_init = layer_inputs(layer, 4)
    before = layer(video, text, temb, unused(), None, layer.condition(y_frames, x_init, None))[0]
    y_frames[:, 2] += 1
    after = layer(video, text, temb, unused(), None, layer.condition(y_frames, x_init, None))[0]
    assert (after != before).unflatten(1, (4, 16)).flatten(2).any(-1).all()


def test_projections_start_as_the_frozen_layers_first_heads(make_base: MakeBase) -> None:
    base = make_base()
    frozen = base.transformer.transformer_blocks[1]
    layer = attach(base, fca_config(width=16), CLIP).layers[1]
    for name in ("to_q", "to_k", "to_v"):
        assert torch.equal(getattr(layer, name).weight, getattr(frozen.attn1, name).weight[:16])
        assert torch.equal(getattr(layer, name).bias, getattr(frozen.attn1, name).bias[:16])
    assert torch.equal(layer.norm.linear.weight, frozen.norm1.linear.weight)
    assert layer.norm.linear.weight.data_ptr() != frozen.norm1.linear.weight.data_ptr()


def test_trained_weights_are_float32_whatever_the_base(make_base: MakeBase) -> None:
    base = make_base("rotary", torch.bfloat16)
    adapter = attach(base, fca_config(), CLIP)
    assert {parameter.dtype for _, parameter in adapter.trainable()} == {torch.float32}
    wake(adapter)
    x_t, t, given = inputs(base)
    output = adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given))
    assert output.dtype == torch.bfloat16 and output.isfinite().all()
    output.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for _, p in adapter.trainable())


@pytest.mark.parametrize("width", [24, 48, 33])
def test_width_must_be_whole_heads(make_base: MakeBase, width: int) -> None:
    with pytest.raises(Misuse, match=f"--adapter-width {width}"):
        attach(make_base(), fca_config(width=width), CLIP)


# ---------------------------------------------------------------- what reaches it


@pytest.mark.parametrize("checkpointing", [False, True])
def test_conditioning_arrives_in_every_layer(make_base: MakeBase, checkpointing: bool) -> None:
    base = make_base("rotary")
    if checkpointing:
        base.transformer.enable_gradient_checkpointing()
    adapter = attach(base, fca_config(), CLIP)
    wake(adapter)
    x_t, t, given = inputs(base)
    conditioning = adapter.condition(base, given)
    before = adapter.denoise(base, x_t, t, given.text, conditioning)
    for index in range(base.layers):
        for name in ("key_frames", "value_frames", "key_init", "value_init"):
            layers = list(conditioning.layers)
            parts = {n: getattr(layers[index], n) for n in ("key_frames", "value_frames", "key_init", "value_init")}
            layers[index] = LayerConditioning(**(parts | {name: parts[name] + torch.randn_like(parts[name])}))
            after = adapter.denoise(base, x_t, t, given.text, FCAConditioning(tuple(layers)))
            assert not torch.equal(after, before), f"{name} of layer {index} is dropped"


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["rotary", "temporal_patch"])
def test_rotary_embedding_arrives_in_every_layer(make_base: MakeBase, kind: str, checkpointing: bool) -> None:
    base = make_base(kind)
    if checkpointing:
        base.transformer.enable_gradient_checkpointing()
    adapter = attach(base, fca_config(), CLIP)
    x_t, t, given = inputs(base)
    expected = base.rotary(4, 8, 8)
    got = []
    for layer in adapter.layers:
        layer.register_forward_pre_hook(lambda layer, args: got.append(args[4]))
    adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given))
    assert len(got) == base.layers and all(rotary is expected for rotary in got)


def test_base_attention_keeps_its_rotary_embedding(make_base: MakeBase) -> None:
    base = make_base("rotary")
    attach(base, fca_config(), CLIP)
    x_t, t, given = inputs(base)
    with_rotary = base.denoise(x_t, t, given.text, {"fca": None})
    base.rotary = lambda *shape: None  # type: ignore[method-assign]
    assert not torch.equal(base.denoise(x_t, t, given.text, {"fca": None}), with_rotary)


def test_an_adapted_model_is_never_silently_unconditioned(make_base: MakeBase) -> None:
    base = make_base()
    adapter = attach(base, fca_config(), CLIP)
    x_t, t, given = inputs(base)
    with pytest.raises(FcaError, match="without its conditioning"):
        base.denoise(x_t, t, given.text)
    with pytest.raises(FcaError, match="dict, not a conditioning"):
        base.denoise(x_t, t, given.text, {"fca": {}})
    with pytest.raises(FcaError, match="latent frames"):
        adapter.denoise(base, x_t[:, :3], t, given.text, adapter.condition(base, given))
    with pytest.raises(FcaError, match="carries an adapter already"):
        attach(base, fca_config(), CLIP)


@pytest.mark.parametrize("kind", KINDS)
def test_x_init_is_the_frozen_blocks_attention_input(make_base: MakeBase, kind: str) -> None:
    base = make_base(kind)
    _, _, given = inputs(base)
    latents = given.init_latents.repeat(1, base.temporal_patch, 1, 1, 1)
    seen = []
    for block in base.transformer.transformer_blocks:
        block.attn1.register_forward_pre_hook(lambda m, args, kwargs: seen.append(kwargs["hidden_states"]), with_kwargs=True)
    base.denoise(latents, torch.zeros(2, dtype=torch.long), given.text)
    expected, seen[:] = list(seen), []
    ran: list[int] = []
    for index, block in enumerate(base.transformer.transformer_blocks):
        block.ff.register_forward_hook(lambda *_, index=index: ran.append(index))
    adapter = attach(base, fca_config(), CLIP)
    tapped = adapter.initial_features(base, latents, given.text)
    assert len(tapped) == base.layers
    assert all(torch.equal(x, y) for x, y in zip(tapped, expected, strict=True))
    assert ran == list(range(base.layers - 1))  # nothing reads what the last block would give


def test_tap_refuses_layers_out_of_order() -> None:
    tap = Tap(2)
    with pytest.raises(FcaError, match="layer 1"):
        tap.record(1, torch.zeros(1))


def test_padding_of_the_caption_changes_no_frame_wise_text(make_base: MakeBase) -> None:
    base = make_base()
    adapter = attach(base, fca_config(), CLIP)
    _, _, given = inputs(base)
    before = adapter.frame_wise_text(given)[0]
    text = given.text.clone()
    text[~given.text_mask] += 5
    after = adapter.frame_wise_text(Given(given.init_latents, text, given.text_mask, given.image))[0]
    torch.testing.assert_close(after, before)
    assert before.shape == (2, 4, 3, 32) and 0.5 < before.std() < 2


# ---------------------------------------------------------------- once per clip, no leak


@pytest.mark.parametrize("kind", KINDS)
def test_conditioning_once_per_clip_equals_recomputing_at_each_step(make_base: MakeBase, kind: str) -> None:
    base = make_base(kind)
    adapter = attach(base, fca_config(), CLIP)
    wake(adapter)
    x_t, _, given = inputs(base)
    with torch.no_grad():
        once = adapter.condition(base, given)
        for step in (999, 500, 1):
            t = torch.full((2,), step)
            kept = adapter.denoise(base, x_t, t, given.text, once)
            assert torch.equal(adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given)), kept)
            x_t = kept


def test_frames_to_be_predicted_change_nothing_that_conditions(make_base: MakeBase) -> None:
    base = make_base()
    adapter = attach(base, fca_config(), CLIP)
    one, other = random_frames(16, 0), random_frames(16, 1)
    other[:2] = one[:2]
    text, mask = base.encode_text(["pushing red cup left"])

    def conditioning(clip: "object") -> FCAConditioning:
        init = clip[:2]
        return adapter.condition(base, Given(base.encode_init(init)[None], text, mask, base.encode_image(init)[None]))

    for a, b in zip(conditioning(one).layers, conditioning(other).layers, strict=True):
        assert torch.equal(a.key_init, b.key_init) and torch.equal(a.value_init, b.value_init)
        assert torch.equal(a.key_frames, b.key_frames) and torch.equal(a.value_frames, b.value_frames)
    # why the initial frames are encoded alone: the clip's own first latent knows what follows
    assert not torch.allclose(base.encode_video(one)[0], base.encode_video(other)[0], atol=1e-3)


def test_null_and_given_halves_concatenate(make_base: MakeBase) -> None:
    base = make_base()
    adapter = attach(base, fca_config(), CLIP)
    wake(adapter)
    x_t, t, given = inputs(base)
    with torch.no_grad():
        halves = [adapter.condition(base, given[row : row + 1]) for row in (0, 1)]
        joined = adapter.denoise(base, x_t, t, given.text, halves[0].cat(halves[1]))
        for row in (0, 1):
            alone = adapter.denoise(base, x_t[row : row + 1], t[row : row + 1], given.text[row : row + 1], halves[row])
            torch.testing.assert_close(joined[row : row + 1], alone, atol=1e-5, rtol=1e-4)


# ---------------------------------------------------------------- what training touches


def checksum(transformer: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in transformer.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_only_the_adapter_gets_gradients_and_changes(make_base: MakeBase, kind: str, checkpointing: bool) -> None:
    base = make_base(kind)
    before = checksum(base.transformer)
    if checkpointing:
        base.transformer.enable_gradient_checkpointing()
    adapter = attach(base, fca_config(), CLIP)
    wake(adapter)
    optimizer = torch.optim.AdamW([parameter for _, parameter in adapter.trainable()], lr=1e-2)
    start = {name: tensor.clone() for name, tensor in adapter.state().items()}
    x_t, t, given = inputs(base)
    adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given)).square().mean().backward()
    without = [name for name, parameter in adapter.trainable() if parameter.grad is None or not parameter.grad.any()]
    assert without == []
    own = {id(parameter) for _, parameter in adapter.trainable()}
    assert all(p.grad is None and not p.requires_grad for p in base.transformer.parameters() if id(p) not in own)
    optimizer.step()
    assert all(not torch.equal(start[name], tensor) for name, tensor in adapter.state().items())
    detach(base.transformer)
    assert checksum(base.transformer) == before


def test_gradient_checkpointing_changes_no_gradient(make_base: MakeBase) -> None:
    gradients = []
    for checkpointing in (False, True):
        base = make_base("rotary")
        if checkpointing:
            base.transformer.enable_gradient_checkpointing()
        torch.manual_seed(0)
        adapter = attach(base, fca_config(), CLIP)
        wake(adapter)
        x_t, t, given = inputs(base)
        adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given)).square().mean().backward()
        gradients.append({name: parameter.grad for name, parameter in adapter.trainable()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


@pytest.mark.parametrize("config", [fca_config(), FCALoRAConfig(width=32, text_width=16, text_heads=2, text_blocks=1, rank=4)])
def test_gradients_arrive_against_the_order_of_use(make_base, config):
    """Where several processes train, what is complete first is sent first: text modules are last."""
    base = make_base("rotary")
    adapter = attach(base, config, CLIP)
    wake(adapter)
    ordered, names = adapter.in_order_of_use(), {id(parameter): name for name, parameter in adapter.trainable()}
    assert len(ordered) == len(names) and {id(parameter) for parameter in ordered} == names.keys()
    arrived = []
    for parameter in ordered:
        parameter.register_post_accumulate_grad_hook(lambda parameter: arrived.append(id(parameter)))
    x_t, t, given = inputs(base)
    adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given)).square().mean().backward()

    def stage(identity):
        name = names[identity]
        if name.startswith("text_modules"):
            return 0
        return 1 if any(part in name for part in ("to_k.", "to_v.", "norm_k.")) and name.startswith("layers") else 2

    stages = [stage(identity) for identity in arrived]
    assert stages == sorted(stages, reverse=True) and [stage(id(one)) for one in ordered] == sorted(stages)
