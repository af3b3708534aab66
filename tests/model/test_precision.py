"""A base keeps to the type of its weights; layer norms under an autocast that takes them in float32, as CUDA's does."""

import pytest
import torch
from small import CLIP, KINDS, MakeBase, fca_config, inputs, wake
from torch import nn

from fcacli.config import LoRAConfig
from fcacli.model.attach import attach
from fcacli.model.bases.precision import norms_in_their_type
from fcacli.planning.cuda import as_on_cuda


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("config", [None, fca_config(), LoRAConfig(rank=4)], ids=["base", "fca", "lora"])
def test_the_frozen_base_computes_in_training_what_it_computes_in_sampling(make_base: MakeBase, kind: str, config) -> None:
    base = make_base(kind, torch.bfloat16)
    x_t, t, given = inputs(base)
    adapter = config and attach(base, config, CLIP)  # a fresh one adds nothing
    condition = adapter and adapter.condition(base, given)

    def computed() -> torch.Tensor:
        with torch.no_grad():
            if adapter is None:
                return base.denoise(x_t, t, given.text)
            return adapter.denoise(base, x_t, t, given.text, condition)

    with as_on_cuda():
        sampled = computed()
        with torch.autocast("cpu", torch.bfloat16):
            trained = computed()
    assert torch.equal(trained, sampled)


def test_without_that_it_would_not(make_base: MakeBase) -> None:
    base = make_base("absolute", torch.bfloat16)
    x_t, t, given = inputs(base)
    for module in base.transformer.modules():
        if isinstance(module, nn.LayerNorm):
            module.__class__ = nn.LayerNorm
    with as_on_cuda(), torch.no_grad():
        sampled = base.denoise(x_t, t, given.text)
        with torch.autocast("cpu", torch.bfloat16):
            assert not torch.equal(base.denoise(x_t, t, given.text), sampled)


@pytest.mark.parametrize(("weights", "norms"), [(torch.bfloat16, torch.bfloat16), (torch.float32, torch.float32)])
def test_an_adapter_normalises_in_the_type_of_its_weights(make_base: MakeBase, weights, norms) -> None:
    """In training and in sampling."""
    base = make_base("rotary", torch.bfloat16)
    adapter = attach(base, fca_config(), CLIP, weights)
    wake(adapter)
    x_t, t, given = inputs(base)
    seen = []
    for module in adapter.layers.modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_hook(lambda module, inputs, output: seen.append((inputs[0].dtype, output.dtype)))
    with as_on_cuda(), torch.no_grad():
        for training in (True, False):
            with torch.autocast("cpu", torch.bfloat16, enabled=training):
                adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given))
    of_video = [output for given_type, output in seen if given_type == torch.bfloat16]
    assert set(of_video) == {norms}


def test_an_input_of_another_type_is_left_to_autocast() -> None:
    model = nn.Sequential(nn.LayerNorm(8))
    norms_in_their_type(model)
    x = torch.randn(2, 8).bfloat16()
    with as_on_cuda(), torch.autocast("cpu", torch.bfloat16):
        assert model(x).dtype == torch.float32


def test_positions_are_rounded_once(make_base: MakeBase) -> None:
    embed = make_base("absolute", torch.bfloat16).transformer.patch_embed
    as_made = embed._get_positional_embeddings(embed.sample_height, embed.sample_width, embed.sample_frames)
    assert embed.pos_embedding.dtype == torch.bfloat16 and as_made.dtype == torch.float64
    assert torch.equal(embed.pos_embedding, as_made.to(torch.bfloat16))
    assert make_base("absolute", torch.float32).transformer.patch_embed.pos_embedding.dtype == torch.float64
