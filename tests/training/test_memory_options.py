"""No option that saves memory changes a training by more than its tolerance, on a small random base; see memory_options.py."""

from dataclasses import replace

import pytest
import torch
from fitting import CLIP, clips
from memory_options import OPTIONS, RATE, STEPS, Material, Training, compared, require, training

from fcacli.config import FCAConfig
from fcacli.model.bases import load_base, resolve_base

WIDE = {"num_attention_heads": 4, "attention_head_dim": 32}
"""d = 128: smaller weights keep 32-bit moments, and their state stays where it is."""
FCA = FCAConfig(width=128, tokens_per_frame=2, text_width=64, text_heads=2, text_blocks=1)


@pytest.fixture(scope="module")
def spec(tmp_path_factory, write_base):
    return resolve_base(str(write_base(tmp_path_factory.mktemp("base") / "wide", **WIDE)))


PLAINS: dict[str, Training] = {}
"""Plain runs, each made once."""


QUICK = [name for name in OPTIONS if name.startswith("all of these")] + ["--optimizer adamw8bit"]
"""What must be exact together; one by one with -m slow."""
NAMES = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in OPTIONS if name != "--compile"]
"""Compiling takes a minute; that is for the benchmark."""


@pytest.mark.parametrize("name", NAMES)
def test_a_training_is_moved_no_further_than_its_tolerance(spec, make_config, tmp_path_factory, monkeypatch, name):
    generator = torch.Generator().manual_seed(5)
    material = Material(clips(5), clips(3, seed=1), (torch.randn(12, 24, generator=generator), torch.arange(12) < 1))
    fields = {"base": spec.name, "base_fingerprint": load_base(spec).fingerprint}
    config = make_config(**fields, clip=CLIP, adapter=FCA, steps=STEPS, lr=RATE, warmup=2)

    def train(fields, start):
        return training(spec, replace(config, **fields), tmp_path_factory.mktemp("run") / "run", material, start, monkeypatch)

    found, plain = compared(OPTIONS[name], train, PLAINS)
    require(OPTIONS[name], found, plain)
