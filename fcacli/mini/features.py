"""Features of the bundled 3-D network for "mini-FVD" and "mini-KVD", which compare with nothing else."""

import hashlib
from collections.abc import Sequence

import numpy as np

from fcacli.data.resize import resize
from fcacli.mini.build import WEIGHTS
from fcacli.mini.train_features import FILE, features_of

SIDE = 48
"""Pixels that the network reads."""


class MiniFeatures:
    """Videos uint8 (T, H, W, 3), stretched to 48x48, to features (N, 64) float64; each video alone."""

    def __init__(self) -> None:
        digest = hashlib.sha256((WEIGHTS / "features" / FILE).read_bytes()).hexdigest()
        self.identity = f"mini features {digest}, stretched to {SIDE}x{SIDE}"

    def __call__(self, videos: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([features_of(resize(video, SIDE, SIDE, "stretch")[None]) for video in videos])
