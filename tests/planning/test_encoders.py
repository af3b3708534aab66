"""Encoding and decoding take the planned bytes, on real small bases; the sampler's real call takes those of its plan."""

import pytest
import torch
from counted import counted
from test_training import NONE_AT_ONCE, config_of, traced

from fcacli.config import Keeping, SampleConfig
from fcacli.model.attach import attach
from fcacli.model.bases import load_base, resolve_base
from fcacli.planning.encoders import WORK, trace_decoding, trace_part
from fcacli.planning.memory import Planner
from fcacli.planning.shaped import shaped_base
from fcacli.planning.training import _given
from fcacli.prediction.sampler import sample

PICTURES = 3 * 2 * 3 * 32 * 32 * 4
"""Bytes of normalised pictures, which on the CPU are numpy's."""


@pytest.fixture(scope="module")
def planned(folder_of):
    spec = resolve_base(str(folder_of("absolute")))
    config = config_of(spec)
    return spec, config, Planner(shaped_base(spec, "cpu"), config.clip, "cpu", NONE_AT_ONCE)


@pytest.mark.parametrize("part", WORK)
def test_a_part_at_work(planned, part):
    spec, config, planner = planned
    parts = planner._work(part, 3)
    live, allocated = counted(lambda meter: trace_part(load_base(spec), part, config.clip, 3, meter))
    assert parts.peak >= 0.98 * live
    assert parts.peak == pytest.approx(allocated, rel=0.1, abs=PICTURES if part == "image_encoder" else None)
    assert 0 < parts.weights < parts.peak


@pytest.mark.parametrize("tiling", [False, True], ids=["whole", "in tiles"])
def test_decoding(planned, tiling):
    spec, config, planner = planned
    part, base = planner._decoding(tiling), load_base(spec)
    base.keep(Keeping(vae_tiling=tiling))
    live, allocated = counted(lambda meter: trace_decoding(base, config.clip, meter))
    assert part.peak > 1.2 * live, "much of it is what convolutions take for themselves"
    assert part.peak == pytest.approx(allocated, rel=0.1)


def test_sampling_takes_what_the_sampler_takes(planned):
    """The sampler itself, several steps; the plan counts the optimizer and the parity gate's adapter besides."""
    spec, config, _ = planned
    marks = traced(spec, config, 2)

    def work(meter):
        base = load_base(spec)
        adapter = attach(base, config.adapter, config.clip)
        given = _given(base, config, 1)
        with torch.no_grad():
            sample(base, adapter, given, given, base.latent_shape(config.clip), SampleConfig(steps=3, guidance=6))

    _, allocated = counted(work)
    assert marks["sampling"] - marks["optimizer"] - marks["adapter"] == pytest.approx(allocated, rel=0.1)
