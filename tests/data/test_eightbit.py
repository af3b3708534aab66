"""Claims about 8-bit storage: what it costs in size, and what in error."""

import pytest
import torch
from transformers import T5Config, T5EncoderModel

from fcacli.data.eightbit import error, has_factors, pack, pack_text, packed_shapes, unpack


def test_each_value_is_within_half_a_step():
    x = torch.randn(3, 20, 96, generator=torch.Generator().manual_seed(0))
    packed = pack(x)
    step = x.unflatten(-1, (3, 32)).abs().amax(-1, keepdim=True) / 127
    off = (unpack(packed, torch.float32) - x).unflatten(-1, (3, 32)).abs()
    assert (off <= 0.5 * step * (1 + 2**-8)).all()
    assert 0.004 < error(packed, x).max() < 0.007  # normal values; the README says 0.6 %


def test_one_outlier_spoils_its_group_alone():
    x = torch.randn(1, 4, 128, generator=torch.Generator().manual_seed(0))
    x[0, 1, 5] = 1e4
    off = (unpack(pack(x), torch.float32) - x).abs()
    off[0, 1, :32] = 0
    assert off.max() < 0.02


@pytest.mark.parametrize("x", [torch.zeros(2, 3, 64), torch.full((2, 3, 64), 1e-30), torch.full((2, 3, 7), -3e30)])
def test_zeros_tiny_and_huge_values_stay_finite(x):
    back = unpack(pack(x), torch.float32)
    assert torch.isfinite(back).all() and torch.allclose(back, x, rtol=0.02)


@pytest.mark.parametrize(("length", "d"), [(20, 96), (7, 10), (226, 4096)])
def test_shapes_are_those_that_were_announced(length, d):
    x = torch.randn(2, length, d)
    packed = pack_text(x)
    announced = packed_shapes(length, d, has_factors(length, d))
    assert {name: (value.dtype, tuple(value.shape[1:])) for name, value in packed.items()} == announced
    assert unpack(packed, torch.bfloat16).dtype == torch.bfloat16 and unpack(packed, torch.float32).shape == x.shape


def test_short_texts_are_rows_and_long_ones_are_factors():
    assert not has_factors(20, 96) and has_factors(226, 4096)
    bytes_of = {
        name: value[0].itemsize * torch.Size(value[1]).numel() for name, value in packed_shapes(226, 4096, True).items()
    }
    assert sum(bytes_of.values()) < 226 * 4096 * 2 / 4.8


@pytest.mark.parametrize("sharpness", [0.1, 1.0, 3.0])
def test_padded_texts_lose_little_as_factors(sharpness):
    """A T5 encoder without attention mask at CogVideoX's 226 tokens, from a relative bias that hardly matters (as it is
    initialised) to one that decides where each head looks."""
    torch.manual_seed(0)
    settings = {"d_model": 512, "d_kv": 64, "d_ff": 1024, "num_layers": 8, "num_heads": 8, "vocab_size": 500}
    encoder = T5EncoderModel(T5Config(**settings, feed_forward_proj="gated-gelu", dropout_rate=0.0)).eval()
    encoder.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight.data.normal_(0, sharpness)
    tokens = torch.zeros(3, 226, dtype=torch.long)
    for row, words in zip(tokens, (5, 12, 30), strict=True):
        row[: words + 1] = torch.cat([torch.randint(2, 500, (words,)), torch.ones(1, dtype=torch.long)])
    with torch.no_grad():
        text = encoder(tokens)[0]
    text = torch.cat([text, text.roll(1, -1), *[text] * 6], -1)  # (3, 226, 4096)
    packed = pack_text(text)
    assert "left" in packed and error(packed, text).max() < 0.01


def test_rows_that_are_not_padding_alike_show_in_the_error():
    text = torch.randn(1, 226, 4096, generator=torch.Generator().manual_seed(0))
    assert error(pack_text(text), text) > 0.5
