"""A configuration for the tests of training."""

from collections.abc import Callable

import pytest

from fcacli.config import ClipConfig, FCAConfig, SampleConfig, TrainConfig


def _config(**changes) -> TrainConfig:
    values = {
        "base": "mini",
        "base_fingerprint": "0",
        "data": "toy",
        "clip": ClipConfig(frames=16, init_frames=2, width=32, height=32, fps=8),
        "adapter": FCAConfig(width=32),
        "sample": SampleConfig(steps=2, guidance=1.0),
        "steps": 100,
        "batch_size": 2,
        "lr": 1e-2,
        "warmup": 10,
        "validate_every": 0,
    }
    return TrainConfig(**(values | changes))


@pytest.fixture
def make_config() -> Callable[..., TrainConfig]:
    """Builds a small TrainConfig; keyword arguments replace its fields."""
    return _config
