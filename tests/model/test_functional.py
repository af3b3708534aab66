"""Frame-wise attention and rotary embedding against their dense and published forms."""

import pytest
import torch
from diffusers.models.embeddings import apply_rotary_emb, get_3d_rotary_pos_embed
from reference.dense_fca import dense_mask
from torch.nn import functional

from fcacli.model.functional import attend, frame_wise_attention, rotate, unmasked_attention


def parts(frames: int = 3, tokens: int = 2, init: int = 5, text: int = 4, per_frame: int = 6) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    batch, heads, width = 2, 3, 8
    query = torch.randn(batch, heads, text + frames * per_frame, width)
    keys = [torch.randn(batch, heads, frames, tokens, width) for _ in range(2)]
    inits = [torch.randn(batch, heads, init, width) for _ in range(2)]
    return query, *keys, *inits


@pytest.mark.parametrize(("tokens", "init"), [(2, 5), (0, 5), (2, 0)])
def test_folded_attention_equals_dense_mask(tokens: int, init: int) -> None:
    query, key_frames, value_frames, key_init, value_init = parts(tokens=tokens, init=init)
    key = torch.cat([key_frames.flatten(2, 3), key_init], 2)
    value = torch.cat([value_frames.flatten(2, 3), value_init], 2)
    mask = dense_mask(text=4, frames=3, per_frame=6, tokens=tokens, init=init)
    dense = torch.softmax(query @ key.transpose(-1, -2) / 8**0.5 + mask, -1) @ value
    keys = key_frames, value_frames, key_init, value_init
    read = torch.cat(frame_wise_attention(query[:, :, :4], query[:, :, 4:], *keys), 1)
    torch.testing.assert_close(read, dense.transpose(1, 2).flatten(2), atol=1e-5, rtol=0)


@pytest.mark.parametrize("masked", [False, True])
def test_attention_written_out_for_training_equals_the_fused_one(masked: bool) -> None:
    query, _, _, key, value = parts()
    seen = torch.tensor([True, True, False, True, False])[None, None, None] if masked else None
    query.requires_grad_()
    with torch.no_grad():
        fused = attend(query, key, value, seen)
    torch.testing.assert_close(attend(query, key, value, seen), fused)


def test_unmasked_attention_sees_everything() -> None:
    query, key_frames, value_frames, key_init, value_init = parts()
    dense = functional.scaled_dot_product_attention(
        query, torch.cat([key_frames.flatten(2, 3), key_init], 2), torch.cat([value_frames.flatten(2, 3), value_init], 2)
    )
    read = torch.cat(unmasked_attention(query[:, :, :4], query[:, :, 4:], key_frames, value_frames, key_init, value_init), 1)
    torch.testing.assert_close(read, dense.transpose(1, 2).flatten(2))


def test_rotate_is_cogvideox_rotary_embedding() -> None:
    rotary = get_3d_rotary_pos_embed(16, ((0, 0), (3, 4)), (3, 4), 2)
    x = torch.randn(2, 3, 24, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(rotate(x, rotary), apply_rotary_emb(x, rotary))
    assert rotate(x, None) is x
