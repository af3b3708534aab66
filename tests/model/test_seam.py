"""What else works on a transformer works through the seam."""

from collections.abc import Callable

import pytest
import torch
from small import CLIP, fca_config, inputs, wake

from fcacli.model.attach import attach, detach
from fcacli.model.bases.cogvideox import CogVideoX

MakeBase = Callable[..., CogVideoX]


def test_layerwise_casting_leaves_trained_weights_alone(make_base: MakeBase) -> None:
    base = make_base()
    adapter = attach(base, fca_config(), CLIP)
    base.transformer.enable_layerwise_casting(torch.float8_e4m3fn, torch.float32)
    assert {parameter.dtype for _, parameter in adapter.trainable()} == {torch.float32}
    frozen = base.transformer.transformer_blocks[0].block.ff.net[2].weight
    assert frozen.dtype == torch.float8_e4m3fn


@pytest.mark.slow
def test_torch_compile_computes_the_same(make_base: MakeBase) -> None:
    base = make_base("rotary")
    adapter = attach(base, fca_config(), CLIP)
    wake(adapter)
    x_t, t, given = inputs(base)
    with torch.no_grad():
        conditioning = adapter.condition(base, given)
        plain = adapter.denoise(base, x_t, t, given.text, conditioning)
        base._parts["transformer"] = torch.compile(base.transformer, backend="aot_eager")
        torch.testing.assert_close(adapter.denoise(base, x_t, t, given.text, conditioning), plain, atol=1e-5, rtol=1e-4)
    torch._dynamo.reset()


def test_moving_the_transformer_moves_the_parallel_modules(make_base: MakeBase) -> None:
    base = make_base()
    adapter = attach(base, fca_config(), CLIP)
    base.transformer.to("meta")
    assert {parameter.device.type for parameter in adapter.layers.parameters()} == {"meta"}


def test_detaching_twice_is_harmless(make_base: MakeBase) -> None:
    base = make_base()
    attach(base, fca_config(), CLIP)
    detach(base.transformer)
    detach(base.transformer)
    attach(base, fca_config(), CLIP)


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["absolute", "rotary", "temporal_patch"])
def test_on_cuda_in_bfloat16(make_base: MakeBase, kind: str) -> None:
    from fcacli.model.bases import load_base

    base = load_base(make_base(kind).spec, "cuda", torch.bfloat16)
    x_t, t, given = inputs(base)
    x_t, t, given = x_t.cuda(), t.cuda(), given.to("cuda")
    plain = base.denoise(x_t, t, given.text)
    adapter = attach(base, fca_config(), CLIP)
    assert torch.equal(adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given)), plain)
    wake(adapter)
    for autocast in (False, True):
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            output = adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given))
        output.float().square().mean().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for _, p in adapter.trainable())
    torch.testing.assert_close(output.float(), output.float().nan_to_num())
