"""Which options are tried, in which order, and what of the user's stays."""

from dataclasses import replace

from fcacli.model.bases import resolve_base
from fcacli.planning.choice import CONTEXT, apply, candidates, card_for, choose
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


def test_what_costs_only_time_comes_first_and_a_narrower_adapter_last():
    tried = list(candidates(CONFIG, set(), 64))
    assert tried[0] == {"checkpointing": False} and tried[1] == {"checkpointing": True}
    assert tried[3] == {"batch_size": 1, "accumulate": 2, "checkpointing": True}
    widths = [one.get("adapter_width", 1920) for one in tried]
    assert widths == sorted(widths, reverse=True) and set(widths) == {1920, 960, 448}
    assert all(width % 64 == 0 for width in widths)


def test_what_was_asked_for_stays():
    asked = {"checkpointing", "batch_size", "optimizer", "adapter_width"}
    assert list(candidates(CONFIG, asked, 64)) == [{}]
    assert {name for one in candidates(CONFIG, asked - {"optimizer"}, 64) for name in one} == {"optimizer"}


def test_the_first_that_fits_is_taken():
    tried = choose(CONFIG, set(), 64, bytes_of, lambda memory: memory.needed <= 3920)
    assert tried[-1].changes == {"optimizer": "adamw8bit", "checkpointing": True}
    assert tried[-1].config == replace(CONFIG, optimizer="adamw8bit", checkpointing=True)
    assert all(one.memory.needed > 3920 for one in tried[:-1])


def test_all_are_tried_where_none_fits():
    assert len(choose(CONFIG, set(), 64, bytes_of, lambda memory: False)) == 3 * 2 * 2 * 2


def test_smaller_batches_leave_the_clips_of_a_step_as_they_are():
    for changes in candidates(CONFIG, set(), 64):
        changed = apply(CONFIG, changes)
        assert changed.batch_size * changed.accumulate == 2


def test_the_card_has_room_for_context_and_fragmentation():
    assert card_for(1_000_000_000) == 1_050_000_000 + CONTEXT
