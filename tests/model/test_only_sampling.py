"""An adapter of which only predictions are wanted."""

from collections.abc import Callable

import pytest
import torch
from small import CLIP, fca_config, inputs, wake

from fcacli.model.attach import attach
from fcacli.model.bases.cogvideox import CogVideoX


@pytest.mark.parametrize("fields", [{}, {"modulation": "block"}, {"injection": "text"}], ids=str)
def test_weights_kept_in_the_type_of_the_base_give_the_same_bits(make_base: Callable[..., CogVideoX], fields: dict) -> None:
    base = make_base("rotary", torch.bfloat16)
    torch.manual_seed(0)
    adapter = attach(base, fca_config(**fields), CLIP)
    wake(adapter)
    x_t, t, given = inputs(base)

    @torch.no_grad()
    def predicted() -> torch.Tensor:
        return adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given))

    before, size = predicted(), sum(parameter.nbytes for parameter in adapter.parameters())
    adapter.only_sample(base.dtype)
    assert torch.equal(predicted(), before)
    assert (sum(parameter.nbytes for parameter in adapter.parameters()) < size) == ("injection" not in fields)
