"""The kinds of base that CogVideoX has, as fields of a small one's transformer."""

KINDS = {
    "absolute": {},
    "rotary": {"use_rotary_positional_embeddings": True},
    "temporal_patch": {"use_rotary_positional_embeddings": True, "patch_size_t": 2, "patch_bias": False},
}
"""Like 2B, 5B and 1.5-5B."""
WIDE = {"num_attention_heads": 4, "attention_head_dim": 32}
"""d = 128, so that tensors and not single numbers decide."""
