"""What a search believes until it has planned it: near to the plan, nearer in what stays."""

import pytest
from test_training import NONE_AT_ONCE, config_of

from fcacli.model.bases import resolve_base
from fcacli.planning.memory import Planner
from fcacli.planning.shaped import shaped_base

TRACED = {"checkpointing": True, "batch_size": 1, "optimizer": "adamw8bit"}
CHANGES = {
    "another optimizer": {"optimizer": "adamw"},
    "bf16 weights, state in main memory": {"weights": "bf16", "offload_optimizer": True},
    "half the width": {"adapter_width": 64},
    "rounded base": {"base_weights": "int8"},
    "block inputs in main memory": {"offload_activations": True},
    "gradients in main memory": {"offload_gradients": True},
    "twice the batch": {"batch_size": 2},
    "all": {
        **{"weights": "bf16", "offload_optimizer": True, "adapter_width": 32},
        **{"base_weights": "nf4", "block_swap": 2, "offload_activations": True},
    },
}
QUICK = ("half the width", "gradients in main memory", "all")


@pytest.mark.parametrize("change", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CHANGES])
def test_an_estimate_is_near_to_the_plan(folder_of, change):
    spec = resolve_base(str(folder_of("absolute")))
    config, other = config_of(spec, **TRACED), config_of(spec, **(TRACED | CHANGES[change]))
    planner = Planner(shaped_base(spec, "cuda"), config.clip, "cuda", NONE_AT_ONCE)
    planner.memory(config)
    guessed = planner._estimates.marks(other, planner._trained)
    said = planner.estimate(other)
    planned = planner.memory(other)
    assert said == pytest.approx(planned.needed, rel=0.08)
    marks = planner._trained[-1][1]
    for name in ("base", "adapter"):
        assert guessed[name] == pytest.approx(marks[name], rel=0.02), "but for the allocator's 512 bytes a tensor"
    assert planner.estimate(other) == planned.needed, "what has been traced is not estimated"


def test_without_checkpointing_it_is_a_lower_bound(folder_of):
    spec = resolve_base(str(folder_of("absolute")))
    config, keeping = config_of(spec, **TRACED), config_of(spec, **(TRACED | {"checkpointing": False}))
    planner = Planner(shaped_base(spec, "cuda"), config.clip, "cuda", NONE_AT_ONCE)
    planner.memory(config)
    assert planner.estimate(keeping) <= planner.memory(keeping).needed
