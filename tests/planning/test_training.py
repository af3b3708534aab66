"""A plan's bytes of training are those that the same training takes, whatever the options; nothing is computed for a plan."""

from dataclasses import replace

import pytest
import torch
from counted import counted

from fcacli.model.bases import load_base, resolve_base
from fcacli.planning.memory import Planner
from fcacli.planning.shaped import shaped_base
from fcacli.planning.training import at_depth, fake_optimizer, trace_training
from fcacli.training.optim import make_optimizer
from fcacli.workflows.train_options import TrainOptions, resolve

NONE_AT_ONCE = {"captions": 1, "videos": 1, "images": 1}
ALL_THAT_SAVES = {
    **{"weights": "bf16", "checkpointing": True, "base_weights": "nf4", "adapter_width": 32, "batch_size": 1, "accumulate": 4},
    **{"offload_optimizer": True, "offload_gradients": True, "offload_activations": True},
}
OPTIONS = {
    "fca, fp32": ("absolute", {"precision": "fp32"}),
    "fca, checkpointing, adamw8bit, accumulating": (
        "absolute",
        {"checkpointing": True, "accumulate": 3, "optimizer": "adamw8bit"},
    ),
    "fca, half the width, adamw": ("absolute", {"adapter_width": 64, "optimizer": "adamw"}),
    "fca, no guidance, batch 2": ("rotary", {"guidance": 1.0, "batch_size": 2}),
    "fca, checkpointing": ("temporal_patch", {"checkpointing": True}),
    "fca, y_frames appended to the text": ("absolute", {"adapter_fields": {"injection": "text"}}),
    "lora, checkpointing": ("absolute", {"adapter": "lora", "adapter_width": None, "checkpointing": True}),
    "fca, bf16 weights, adamw": ("absolute", {"weights": "bf16", "optimizer": "adamw"}),
    "fca, bf16 weights, adamw8bit": ("absolute", {"weights": "bf16", "optimizer": "adamw8bit", "checkpointing": True}),
    "fca, bf16 weights by lot": ("absolute", {"weights": "bf16-stochastic", "optimizer": "adamw8bit"}),
    "fca, adamw in main memory": ("absolute", {"offload_optimizer": True, "optimizer": "adamw", "checkpointing": True}),
    "fca, bf16 weights, adamw8bit in main memory": ("absolute", {"weights": "bf16", "offload_optimizer": True}),
    "fca, int8 base": ("absolute", {"base_weights": "int8"}),
    "fca, fp8 base, checkpointing": ("rotary", {"base_weights": "fp8", "checkpointing": True}),
    "fca, nf4 base, checkpointing": ("absolute", {"base_weights": "nf4", "checkpointing": True}),
    "fca, block inputs in main memory": ("absolute", {"offload_activations": True, "checkpointing": True}),
    "fca, gradients in main memory": (
        "absolute",
        {"offload_gradients": True, "weights": "bf16", "checkpointing": True, "accumulate": 2},
    ),
    "fca-lora, checkpointing": ("absolute", {"adapter": "fca-lora", "lora_rank": 4, "checkpointing": True}),
    "fca, muon": ("absolute", {"optimizer": "muon", "weights": "bf16", "offload_optimizer": True}),
    "fca-in-context, adamw": ("rotary", {"adapter": "fca-in-context", "optimizer": "adamw"}),
    "fca": ("temporal_patch", {}),
    "fca, batch 1": ("absolute", {"batch_size": 1}),
    "fca, paged adamw8bit": ("absolute", {"optimizer": "paged-adamw8bit", "weights": "bf16"}),
    "fca, one text module": ("absolute", {"adapter_fields": {"text_modules": "shared"}}),
    "fca, modulation of the block": ("absolute", {"adapter_fields": {"modulation": "block"}}),
    "lora": ("rotary", {"adapter": "lora", "adapter_width": None}),
    "fca, all that saves memory": ("rotary", ALL_THAT_SAVES),
}
"""Name -> kind of base, fields of the options; all but batch size (4), checkpointing (none), width (d) and precision (bf16)
are the defaults. results/plan.md has each with each kind."""


def config_of(spec, **fields):
    options = {"batch_size": 4, "checkpointing": False, "adapter_width": 128, "precision": "bf16", "accumulate": 1} | fields
    return resolve(TrainOptions(**options), spec, "", "none", True)


def traced(spec, config, layers, kind="cpu"):
    planner = Planner(shaped_base(spec, kind), config.clip, kind, NONE_AT_ONCE)
    return planner.traced(planner._train, layers, config)


def trained(spec, config):
    """The same training on a real base: its marks, peak bytes of live storages, and of the allocator."""
    real, base = {}, load_base(spec)
    base.keep(config.keeping)
    base.transformer.eval()  # loaded before, so that its way there does not count

    def work(meter):
        real.update(trace_training(base, config, meter, "cpu", make_optimizer))

    live, allocated = counted(work)
    return real, live, real["base"] + allocated


QUICK = list(OPTIONS)[::3]
"""Each kind of option once; all of them with -m slow."""


@pytest.mark.parametrize("options", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in OPTIONS])
def test_planned_bytes_are_the_counted_ones(folder_of, options):
    kind, fields = OPTIONS[options]
    spec = resolve_base(str(folder_of(kind)))
    config = config_of(spec, **fields)
    planned = traced(spec, config, 2)
    real, _, allocated = trained(spec, config)
    assert {name: real[name] for name in ("base", "adapter", "optimizer")} == {
        name: planned[name] for name in ("base", "adapter", "optimizer")
    }
    for name, size in real.items():
        assert planned[name] == pytest.approx(size, rel=0.02), name
    assert max(planned.values()) == pytest.approx(allocated, rel=0.05)


DEEP = [name if name == "fca, half the width, adamw" else pytest.param(name, marks=pytest.mark.slow) for name in OPTIONS]


@pytest.mark.parametrize("options", DEEP)
def test_a_deep_transformer_is_two_shallow_ones_continued(folder_of, options):
    kind, fields = OPTIONS[options]
    spec = resolve_base(str(folder_of(kind)))
    config = config_of(spec, **fields)
    whole, continued = traced(spec, config, 7), at_depth(lambda layers: traced(spec, config, layers), 7)
    for name in ("base", "adapter", "optimizer", "block inputs", "sampling"):
        assert continued[name] == pytest.approx(whole[name], rel=0.005), name
    peaks = [max(size for name, size in marks.items() if name.startswith("step/")) for marks in (continued, whole)]
    assert peaks[0] == pytest.approx(peaks[1], rel=0.01)


@pytest.mark.parametrize("weights", ["fp32", "bf16"])
def test_the_state_of_adamw8bit_has_the_planned_bytes(weights):
    def state(make):
        parameters = [torch.nn.Parameter(torch.ones(shape)) for shape in ((64, 64), (4095,), (100, 41), (3,))]
        optimizer = make([(str(n), p) for n, p in enumerate(parameters)], replace(CONFIG_8BIT, weights=weights))
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step(0)
        kept = [value for values in optimizer.state for value in values.values()]
        storages = (value.untyped_storage() for value in kept if isinstance(value, torch.Tensor) and value.numel())
        return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())

    assert state(fake_optimizer) == state(make_optimizer)


CONFIG_8BIT = config_of(resolve_base("mini"), adapter_width=192, optimizer="adamw8bit")


def test_adamw_of_cuda_tensors_takes_one_copy_of_a_part_and_not_two(folder_of):
    """torch takes another way there, which works in place."""
    spec = resolve_base(str(folder_of("absolute")))
    config = config_of(spec, optimizer="adamw")
    one_by_one, at_once = (traced(spec, config, 2, kind)["step/optimizer"] for kind in ("cpu", "cuda"))
    assert 0.6 < (one_by_one - at_once) / traced(spec, config, 2)["adapter"] <= 1
