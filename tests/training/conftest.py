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


@pytest.fixture(scope="module")
def base(tiny_base_folder):
    from fcacli.model.bases import load_base, resolve_base

    return load_base(resolve_base(str(tiny_base_folder)))


@pytest.fixture
def bare(base):
    """Afterwards the base is as it was."""
    from fcacli.model.attach import detach

    yield
    detach(base.transformer)
    base.transformer.disable_gradient_checkpointing()


@pytest.fixture
def settings(make_config, base):
    """A configuration of a small real run."""
    from fitting import CLIP, FCA

    values = {"base": base.spec.name, "base_fingerprint": base.fingerprint, "clip": CLIP, "adapter": FCA, "precision": "fp32"}
    values |= {"steps": 6, "batch_size": 2, "warmup": 2, "optimizer": "adamw", "checkpointing": False}
    return make_config(**values)
