"""The phases of a plan are put together of what was traced: what is there in each, and no more."""

import pytest
import torch
from test_training import config_of

from fcacli.model.bases import DEFAULTS, resolve_base
from fcacli.model.bases.published import part_configs
from fcacli.planning import memory as planner_module
from fcacli.planning.cuda import PRODUCTS
from fcacli.planning.encoders import Part
from fcacli.planning.memory import Planner
from fcacli.planning.shaped import shaped_base

MARKS = {
    "base": 100,
    "drawn": 70,
    "adapter": 40,
    "optimizer": 20,
    "block inputs": 0,
    "sampling": 400,
    "step/forward": 300,
    "step/optimizer": 500,
}
BATCHES = {"captions": 16, "videos": 4, "images": 16}
TWO = 2 * PRODUCTS
"""What cuBLAS takes for a forward and a backward pass."""


@pytest.fixture
def planner_of(folder_of, monkeypatch):
    """Planners whose traces are these: an encoder weighs 10 and takes 50 more for each of a batch."""
    monkeypatch.setattr(planner_module, "trace_training", lambda *_: dict(MARKS))
    monkeypatch.setattr(planner_module, "trace_part", lambda base, part, clip, batch, meter: Part(10, 10 + 50 * batch))
    monkeypatch.setattr(planner_module, "trace_decoding", lambda *_: Part(10, 250))
    monkeypatch.setattr(planner_module, "as_loaded", lambda _: 100)
    spec = resolve_base(str(folder_of("absolute")))
    config = config_of(spec)

    def make(kind, batches=BATCHES, **fields):
        return Planner(shaped_base(spec, kind), config.clip, kind, batches, **fields).memory(config)

    return make


def test_a_phase_has_what_is_loaded_then(planner_of):
    phases = {phase.name: phase for phase in planner_of("cuda").phases}
    assert phases["training step"].device == 500 + TWO
    assert phases["validation: sampling"].device == 400 + TWO
    assert phases["validation: decoding"].device == 100 + 40 + 250 + TWO  # the optimizer's state is away
    assert phases["saving"].device == 160 + TWO and phases["saving"].host == 40
    assert phases["loading"].device == 100 + 70 + TWO, "the transformer, and the adapter in float32"
    assert phases["training step"].host == 0, "nothing waits, and what was read is gone"
    assert phases["encoding videos"].device == 210 + PRODUCTS


def test_only_what_an_encoder_cannot_do_with_less_counts(planner_of):
    """Where memory ends it takes smaller batches by itself."""
    memory = planner_of("cuda")
    captions = memory.phases[0]
    assert (captions.device, captions.device_least) == (810 + PRODUCTS, 60 + PRODUCTS)
    assert memory.needed == 500 + TWO and memory.peak.name == "training step"


def test_where_the_text_encoder_has_no_room_its_blocks_wait_in_main_memory(planner_of, monkeypatch):
    monkeypatch.setattr(planner_module, "trace_part", lambda base, part, clip, batch, meter: Part(900, 1000, 800))
    captions = planner_of("cuda").phases[0]
    assert (captions.device, captions.device_least) == (1000 + PRODUCTS, 200 + PRODUCTS) and "in blocks" in captions.otherwise
    assert planner_of("cpu").phases[0].host_least == 1000


def test_what_is_encoded_is_not_planned(planner_of):
    assert not [phase for phase in planner_of("cuda", batches={}).phases if phase.name.startswith("encoding")]


def test_clips_in_main_memory_and_an_image_encoder_that_stays_count(planner_of):
    plain, both = planner_of("cuda"), planner_of("cuda", in_memory=7, images="frames")
    for before, after in zip(plain.phases[3:], both.phases[3:], strict=True):
        assert after.device == before.device + 10
        assert after.host == before.host + (0 if after.name == "loading" else 7), "they stay while a validation is made"


def test_on_the_cpu_all_of_it_is_main_memory(planner_of):
    memory = planner_of("cpu", in_memory=7, decoded=1)
    assert [phase.device for phase in memory.phases] == [0] * 8
    assert memory.phases[4].name == "training step" and memory.phases[4].host == 507
    videos = memory.phases[1]
    assert videos.host == 210 + (1 + 2 * 4) * 16 * 32 * 32 * 3 and memory.needed == videos.host_least


@pytest.mark.parametrize(("name", "billions"), [("cogvideox-2b", 1.69), ("cogvideox-5b", 5.57), ("cogvideox1.5-5b", 5.57)])
def test_published_bases_need_no_files_and_have_their_parameters(name, billions, monkeypatch):
    def refused(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("fcacli.model.bases.published.fetch_file", refused)
    base = shaped_base(resolve_base(name), "cuda")
    assert base.dtype == torch.bfloat16
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in base.transformer.parameters())
        text = sum(parameter.numel() for parameter in base.text_encoder.parameters())
    assert count / 1e9 == pytest.approx(billions, abs=0.02)
    assert text / 1e9 == pytest.approx(4.76, abs=0.01)


def test_a_base_in_a_folder_is_planned_by_its_own_files(folder_of):
    spec = resolve_base(str(folder_of("rotary")))
    configs = part_configs(spec)
    assert configs["transformer"]["num_attention_heads"] == 4 and configs["text_encoder"]["d_model"] == 24
    assert configs["image_encoder"]["hidden_size"] == 16


def test_every_known_base_has_its_configurations():
    for name in DEFAULTS:
        assert part_configs(resolve_base(name)).keys() == {"transformer", "vae", "text_encoder", "image_encoder"}
