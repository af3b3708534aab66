"""A plan's bytes of a prediction are those that the same prediction takes, whatever waits in main memory."""

from dataclasses import replace

import numpy as np
import pytest
from counted import counted
from test_training import config_of

from fcacli.events import silent
from fcacli.model.attach import attach, save_adapter
from fcacli.model.bases import load_base, resolve_base
from fcacli.model.block_swap import aligned
from fcacli.planning.cuda import PRODUCTS
from fcacli.planning.frozen import elsewhere
from fcacli.planning.prediction import PredictionPlanner, trace_init, trace_prediction
from fcacli.planning.shaped import shaped_base
from fcacli.planning.training import at_depth
from fcacli.workflows.predict import Request, _sample
from fcacli.workflows.trained import Trained

OPTIONS = {
    "fca": ("absolute", {}),
    "fca, half the width, no guidance": ("rotary", {"adapter_width": 64, "guidance": 1.0}),
    "fca, temporal patch, bf16 weights": ("temporal_patch", {"weights": "bf16"}),
    "fca, int8 base": ("absolute", {"base_weights": "int8"}),
    "fca, nf4 base": ("rotary", {"base_weights": "nf4"}),
    "fca, one text module": ("absolute", {"adapter_fields": {"text_modules": "shared"}}),
    "fca, x_init as patches": ("rotary", {"adapter_fields": {"init_features": "patch"}}),
    "fca, y_frames appended to the text": ("absolute", {"adapter_fields": {"injection": "text"}}),
    "fca-in-context": ("rotary", {"adapter": "fca-in-context"}),
    "fca-lora": ("absolute", {"adapter": "fca-lora", "lora_rank": 4}),
    "lora": ("absolute", {"adapter": "lora", "adapter_width": None}),
}
QUICK = list(OPTIONS)[::2]


def of(folder_of, options):
    kind, fields = OPTIONS[options]
    spec = resolve_base(str(folder_of(kind)))
    return spec, config_of(spec, **fields)


def traced(spec, config, layers, offload, kind="cpu"):
    base = shaped_base(spec, kind)
    planner = PredictionPlanner(base, config, kind)._planner
    return planner.traced(lambda meter: trace_prediction(base.again(layers, config.keeping), config, meter, offload))


@pytest.mark.parametrize("offload", ["none", "model"])
@pytest.mark.parametrize("options", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in OPTIONS])
def test_planned_bytes_are_the_counted_ones(folder_of, options, offload):
    spec, config = of(folder_of, options)
    planned, real, base = traced(spec, config, 2, offload), {}, load_base(spec)
    base.keep(config.keeping)
    base.transformer.eval()  # loaded before, so that its way there does not count
    _, allocated = counted(lambda meter: real.update(trace_prediction(base, config, meter, offload)))
    assert planned.keys() == real.keys()
    for name, size in real.items():
        assert planned[name] == pytest.approx(size, rel=0.02), name
    peak = max(*planned.values(), planned["base"] + planned["as saved"])
    assert peak == pytest.approx(real["base"] + allocated, rel=0.05)
    assert (planned["waiting"] > 0) == (offload == "model" and config.adapter.kind != "lora" and options != TEXT_ONLY_WAITS)


TEXT_ONLY_WAITS = ""


@pytest.mark.parametrize("offload", ["none", "model"])
@pytest.mark.parametrize("options", ["fca", "fca, half the width, no guidance"])
def test_a_deep_transformer_is_two_shallow_ones_continued(folder_of, options, offload):
    spec, config = of(folder_of, options)
    whole, continued = traced(spec, config, 8, offload), at_depth(lambda layers: traced(spec, config, layers, offload), 8)
    for name, size in whole.items():
        assert continued[name] == pytest.approx(size, rel=0.01), name


@pytest.fixture(scope="module")
def six_layers(tmp_path_factory, write_base):
    folder = tmp_path_factory.mktemp("base") / "six"
    return resolve_base(str(write_base(folder, num_layers=6, num_attention_heads=4, attention_head_dim=32)))


def test_blocks_that_wait(six_layers):
    """Counted on the CPU: what is there in all, without the main memory in which the blocks and modules wait."""
    config, base, real, buffers = config_of(six_layers), load_base(six_layers), {}, []
    base.keep(replace(config.keeping, block_swap=6))
    for block in base.transformer.transformer_blocks:
        buffers.append(sum(aligned(tensor.nbytes) for tensor in block.parameters()))
    counted(lambda meter: real.update(trace_prediction(base, config, meter, "sequential")))
    peak = max(size for name, size in real.items() if name.startswith("conditioning") or name == "denoising")
    shaped = shaped_base(six_layers, "cuda")
    memory = PredictionPlanner(shaped, config, "cuda").memory(config, "sequential")
    phases = {phase.name: phase for phase in memory.phases}
    planned = max(phases["conditions"].device, phases["denoising"].device)
    assert planned - PRODUCTS == pytest.approx(peak - sum(buffers) - real["waiting"], rel=0.1)
    assert memory.parts["blocks in main memory"] == sum(buffers) == elsewhere(shaped, base.keeping).host
    assert phases["denoising"].host == sum(buffers) + memory.parts["adapter in main memory"]
    assert memory.parts["base"] < sum(buffers) / 6


def test_a_prediction_takes_what_its_plan_says(tmp_path, folder_of):
    """The whole of `fca predict` behind its files, by the allocator."""

    spec, config = of(folder_of, "fca")
    made = load_base(spec)
    save_adapter(attach(made, config.adapter, config.clip), tmp_path, spec.name, made.fingerprint, config.clip)
    planner, clip = PredictionPlanner(shaped_base(spec, "cpu"), config, "cpu"), config.clip
    frames = np.zeros((clip.init_frames, clip.height, clip.width, 3), np.uint8)
    request = Request(tmp_path, frames, "a", clip, replace(config.sample, steps=2), [0, 1], False)
    for offload in ("none", "model"):
        trained = Trained(tmp_path, tmp_path, 1, config, load_base(spec))
        _, allocated = counted(lambda _, of=trained, how=offload: _sample(of, how, request, silent))
        assert planner.memory(config, offload).needed == pytest.approx(allocated, rel=0.1)


def test_the_given_frames_alone_are_encoded(folder_of):
    spec, config = of(folder_of, "fca")
    planner = PredictionPlanner(shaped_base(spec, "cpu"), config, "cpu")
    phases = {phase.name: phase for phase in planner.memory(config, "none").phases}
    _, allocated = counted(lambda meter: trace_init(load_base(spec), config, meter))
    assert phases["given frames: latents"].host == pytest.approx(allocated, rel=0.1)
    assert phases["given frames: latents"].host < planner._planner.work("vae", 1).peak


NAMES = ["captions", "given frames: latents", "given frames: features", "loading", "conditions", "denoising", "decoding"]


def test_each_way_of_offloading_needs_less(six_layers):
    planner = PredictionPlanner(shaped_base(six_layers, "cuda"), config := config_of(six_layers), "cuda")
    plans = [planner.memory(config, offload) for offload in ("none", "model", "sequential")]
    denoising, host = ([getattr(plan.phases[5], of) for plan in plans] for of in ("device", "host"))
    assert denoising == sorted(denoising, reverse=True) and len(set(denoising)) == 3
    assert host == sorted(host) and len(set(host)) == 3
    assert [phase.name for phase in plans[0].phases] == NAMES


@pytest.mark.parametrize("weights", ["full", "int8"])
def test_blocks_that_wait_are_on_the_device_one_by_one_while_they_are_loaded(six_layers, weights):
    """Those in fewer bits are made there."""
    planner = PredictionPlanner(shaped_base(six_layers, "cuda"), config := config_of(six_layers), "cuda")
    rounded = replace(config, base_weights=weights)
    whole, swapped = (planner.memory(rounded, offload) for offload in ("model", "sequential"))
    assert swapped.phases[3].device - PRODUCTS < whole.parts["base"] + swapped.parts["adapter"]
