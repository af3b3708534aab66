"""Encoding and decoding take the planned bytes, on real small bases; the sampler's real call takes those of its plan."""

import pytest
import torch
from counted import counted
from test_training import NONE_AT_ONCE, config_of, traced

from fcacli.config import Keeping, SampleConfig
from fcacli.model.attach import attach
from fcacli.model.bases import load_base, narrow_convolution, parts, resolve_base
from fcacli.model.block_swap import aligned
from fcacli.planning.encoders import WORK, trace_decoding, trace_part
from fcacli.planning.memory import Planner
from fcacli.planning.shaped import shaped_base
from fcacli.planning.training import given_of
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
    parts = planner.work(part, 3)
    live, allocated = counted(lambda meter: trace_part(load_base(spec), part, config.clip, 3, meter))
    assert parts.peak >= 0.98 * live
    assert parts.peak == pytest.approx(allocated, rel=0.1, abs=PICTURES if part == "image_encoder" else None)
    assert 0 < parts.weights < parts.peak


def test_a_text_encoder_whose_blocks_wait(tmp_path, write_base, monkeypatch):
    """Counted on the CPU: what is there in all, without the main memory in which the blocks wait."""
    from transformers import T5Config, T5EncoderModel

    folder = write_base(tmp_path / "base")
    T5EncoderModel(T5Config.from_pretrained(folder / "text_encoder", num_layers=6)).save_pretrained(folder / "text_encoder")
    spec = resolve_base(str(folder))
    clip = config_of(spec, adapter_width=32).clip
    whole = Planner(shaped_base(spec, "cpu"), clip, "cpu", NONE_AT_ONCE).work("text_encoder", 3)
    monkeypatch.setattr(parts, "has_room", lambda device, size: False)
    base = load_base(spec)
    blocks = [sum(aligned(p.nbytes) for p in block.parameters()) for block in base.text_encoder.encoder.block]
    live, _ = counted(lambda meter: trace_part(base, "text_encoder", clip, 3, meter))
    assert whole.peak - whole.spared == pytest.approx(live - sum(blocks), rel=0.02)
    assert whole.spared > sum(blocks[2:]) * 0.9


@pytest.mark.parametrize("tiling", [False, True], ids=["whole", "in tiles"])
def test_decoding(planned, tiling):
    spec, config, planner = planned
    part, base = planner.decoding(tiling), load_base(spec)
    base.keep(Keeping(vae_tiling=tiling))
    _, allocated = counted(lambda meter: trace_decoding(base, config.clip, meter))
    assert part.peak == pytest.approx(allocated, rel=0.1)


def test_what_convolutions_of_many_channels_take_for_themselves(folder_of, monkeypatch):
    monkeypatch.setattr(narrow_convolution, "NARROW", 0)  # these have few; now they are computed as if they had many
    spec = resolve_base(str(folder_of("absolute")))
    config = config_of(spec)
    part = Planner(shaped_base(spec, "cpu"), config.clip, "cpu", NONE_AT_ONCE).decoding(False)
    live, allocated = counted(lambda meter: trace_decoding(load_base(spec), config.clip, meter))
    assert part.peak > 1.2 * live
    assert part.peak == pytest.approx(allocated, rel=0.1)


def test_sampling_takes_what_the_sampler_takes(planned):
    """The sampler itself, several steps; the plan counts the optimizer and the parity gate's adapter besides."""
    spec, config, _ = planned
    marks = traced(spec, config, 2)

    def work(meter):
        base = load_base(spec)
        adapter = attach(base, config.adapter, config.clip)
        given = given_of(base, config, 1)
        with torch.no_grad():
            sample(base, adapter, given, given, base.latent_shape(config.clip), SampleConfig(steps=3, guidance=6))

    _, allocated = counted(work)
    assert marks["sampling"] - marks["optimizer"] - marks["adapter"] == pytest.approx(allocated, rel=0.1)
