"""Which options are tried, in which order, and what of the user's stays."""

from dataclasses import replace

import pytest

from fcacli.model.bases import resolve_base
from fcacli.planning.choice import CONTEXT, apply, card_for, choose, levers
from fcacli.planning.memory import Memory, Phase
from fcacli.workflows.train_options import TrainOptions, resolve

SPEC = resolve_base("cogvideox-2b")
CONFIG = resolve(TrainOptions(batch_size=2, accumulate=1, optimizer="adamw"), SPEC, "", "none", True)


def needing(size: int) -> Memory:
    return Memory("cuda", (Phase("step", size, size, 0, 0),), {}, 0)


def bytes_of(config) -> Memory:
    """Every saving is worth something."""
    size = config.adapter.width + 1000 * config.batch_size + (5000 if config.optimizer == "adamw" else 0)
    return needing(size + (0 if config.checkpointing else 3000))


ESTIMATES = {
    "right": lambda config: bytes_of(config).needed,
    "low": lambda config: bytes_of(replace(config, checkpointing=True)).needed * 0.8,
    "high": lambda config: bytes_of(replace(config, checkpointing=True)).needed * 1.02,
}


def chosen(limit: int, asked: frozenset[str] = frozenset(), estimate: str = "right"):
    tried = choose(CONFIG, asked, 64, 30, bytes_of, lambda needed: needed <= limit, ESTIMATES[estimate])
    return tried[-1].changes, tried


def test_what_costs_only_time_comes_first_and_a_narrower_adapter_last():
    there = list(levers(CONFIG, set(), 64, 30))
    assert there[:3] == [{"checkpointing": False}, {"checkpointing": True}, {"batch_size": 1, "accumulate": 2}]
    assert there[-2:] == [{"adapter_width": 960}, {"adapter_width": 448}]
    assert [lever["block_swap"] for lever in there if "block_swap" in lever] == [10, 20, 30]


def test_what_was_asked_for_stays():
    names = {name for lever in levers(CONFIG, set(), 64, 30) for name in lever}
    assert list(levers(CONFIG, names, 64, 30)) == [{}]
    assert {name for lever in levers(CONFIG, names - {"optimizer"}, 64, 30) for name in lever} == {"optimizer"}


def test_several_processes_share_the_base_before_it_loses_bits_and_do_not_swap_it():
    there = list(levers(CONFIG, set(), 64, 30, may_share=True))
    assert there.index({"shard_base": True}) < there.index({"base_weights": "int8"})
    assert not [lever for lever in there if "block_swap" in lever]
    for changed in (replace(CONFIG, checkpointing=True, block_swap=5), replace(CONFIG, compile=True)):
        assert {"shard_base": True} not in levers(changed, set(), 64, 30, may_share=True), "two that exclude each other"
    kept = list(levers(CONFIG, {"shard_base"}, 64, 30, may_share=True))
    assert {"shard_base": True} not in kept and {"block_swap": 10} in kept


def test_blocks_do_not_wait_where_nothing_is_recomputed():
    kept = replace(CONFIG, checkpointing=False)
    assert not {"block_swap", "offload_activations"} & {name for one in levers(kept, {"checkpointing"}, 64, 30) for name in one}


@pytest.mark.parametrize(
    ("limit", "changes"),
    [
        (11920, {"checkpointing": False}),
        (8920, {"checkpointing": True}),
        (3920, {"checkpointing": True, "optimizer": "adamw8bit"}),
        (2920, {"checkpointing": True, "batch_size": 1, "accumulate": 2, "optimizer": "adamw8bit"}),
        (1960, {"checkpointing": True, "batch_size": 1, "accumulate": 2, "optimizer": "adamw8bit", "adapter_width": 960}),
    ],
)
@pytest.mark.parametrize("estimate", ESTIMATES)
def test_the_cheapest_that_fit_are_taken_and_nothing_besides(limit, changes, estimate):
    found, tried = chosen(limit, estimate=estimate)
    assert found == changes and tried[-1].memory.needed <= limit
    assert len(tried) <= (4 if estimate == "right" else 18), "plans take time"


def test_what_an_estimate_says_is_planned_before_it_is_believed():
    """Of an adapter that needs more than estimated, the next narrower one is taken."""
    config = replace(CONFIG, adapter=replace(CONFIG.adapter, width=1920))
    tried = choose(config, set(), 64, 30, bytes_of, lambda needed: needed <= 1960, lambda config: 1)
    assert all(one.memory.needed > 1960 for one in tried[:-1]) and tried[-1].memory.needed <= 1960


def test_a_wider_adapter_is_planned_though_its_estimate_is_far_above():
    """Estimates of narrower adapters hold the activations of the traced one."""

    def estimate(config):
        return round(bytes_of(config).needed * (1.12 if config.adapter.width < 1920 else 1))

    config = replace(CONFIG, adapter=replace(CONFIG.adapter, width=1920), batch_size=1)
    tried = choose(config, set(), 64, 30, bytes_of, lambda needed: needed <= 1960, estimate)
    assert tried[-1].changes["adapter_width"] == 960 and tried[-1].memory.needed == 1960


def test_where_none_fits_the_last_tried_has_all():
    changes, tried = chosen(0)
    assert len(tried) == 2 and changes["adapter_width"] == 448 and changes["base_weights"] == "nf4"


def test_smaller_batches_leave_the_clips_of_a_step_as_they_are():
    for lever in levers(CONFIG, set(), 64, 30):
        changed = apply(replace(CONFIG, checkpointing=True), lever)
        assert changed.batch_size * changed.accumulate == 2


def test_the_card_has_room_for_context_and_fragmentation():
    assert card_for(1_000_000_000) == 1_050_000_000 + CONTEXT
