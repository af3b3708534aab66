"""How CogVideoX's VAE counts frames. Measured, encode then decode gives back

2 -> 1, 5 -> 8, 12 -> 9, 13..15 -> 16, 16 -> 16, 17 -> 17: pixels go through in chunks of 8, the first longer.
"""

CHUNK = 8
"""Pixel frames per chunk."""
RATIO = 4
"""Pixel frames per latent frame."""


def latent_frames(frames: int) -> int:
    """F of T pixel frames, as the encoder makes them."""
    return -(-frames // RATIO)


def safe_frames(frames: int, temporal_patch: int = 1) -> int:
    """The smallest count >= `frames` that survives encode and decode: 1, 8k and 8k + 1.

    With a temporal patch of 2 the latents must be even in number, which only 8k gives: padding goes to the end of the
    clip and is cut there, so that given frame i stays output frame i.
    """
    if temporal_patch == 1 and frames % CHUNK == 1:
        return frames
    return -(-frames // CHUNK) * CHUNK


def patched_frames(latents: int, temporal_patch: int) -> int:
    """Token frames of `latents` latent frames whose last is repeated to fill its temporal patch."""
    return -(-latents // temporal_patch)
