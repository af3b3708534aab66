"""What swapped blocks leave on the device, and take in main memory, is what a plan says."""

from dataclasses import replace

from test_training import NONE_AT_ONCE, config_of

from fcacli.config import Keeping
from fcacli.model.bases import load_base, resolve_base
from fcacli.model.block_swap import aligned
from fcacli.planning.frozen import elsewhere
from fcacli.planning.memory import Planner
from fcacli.planning.shaped import shaped_base


def test_swapped_blocks_are_not_on_the_device_but_for_those_in_use(folder_of):
    spec = resolve_base(str(folder_of("absolute")))
    blocks = load_base(spec).transformer.transformer_blocks
    sizes = [[parameter.nbytes for parameter in block.parameters()] for block in blocks]
    said = elsewhere(shaped_base(spec, "cpu"), Keeping(block_swap=len(blocks)))
    assert said.gone == sum(map(sum, sizes))
    assert said.host == sum(aligned(size) for block in sizes for size in block)
    assert said.passing == sum(aligned(size) for block in sizes[:2] for size in block)


def test_a_plan_moves_them_to_main_memory(folder_of):
    spec = resolve_base(str(folder_of("absolute")))
    plain, fewer = config_of(spec, checkpointing=True), config_of(spec, checkpointing=True, block_swap=1)
    planner = Planner(shaped_base(spec, "cuda"), plain.clip, "cuda", NONE_AT_ONCE)
    said = elsewhere(shaped_base(spec, "cuda"), fewer.keeping)
    before, after = planner.memory(plain), planner.memory(fewer)
    assert before.parts["base"] - after.parts["base"] == said.gone
    for one, other in zip(before.phases[3:], after.phases[3:], strict=True):
        assert one.device - other.device == said.gone - said.passing
        assert other.host - one.host == said.host, other.name


def test_a_plan_for_several_devices_leaves_on_each_its_share(folder_of):
    spec = resolve_base(str(folder_of("absolute")))
    plain = config_of(spec, checkpointing=True)
    shared = replace(plain, shard_base=True)
    alone, four = (Planner(shaped_base(spec, "cuda"), plain.clip, "cuda", NONE_AT_ONCE, processes=n) for n in (1, 4))
    said = elsewhere(shaped_base(spec, "cuda"), shared.keeping_among(4))
    before, after = (four.memory(replace(one, accumulate=4)) for one in (plain, shared))  # as many clips on each device
    frozen = sum(parameter.nbytes for parameter in load_base(spec).transformer.transformer_blocks.parameters())
    assert 0.5 * frozen < said.gone == before.parts["base"] - after.parts["base"] < 0.75 * frozen
    by_name = {phase.name: phase.device for phase in before.phases}
    less = {phase.name: by_name[phase.name] - phase.device for phase in after.phases}
    assert less["training step"] == less["validation: sampling"] == said.gone - said.passing
    assert alone.memory(shared).phases == alone.memory(plain).phases
    averaged = before.parts["adapter"]  # gradients that stay to be averaged
    one = {phase.name: phase.device for phase in alone.memory(plain).phases}
    assert by_name["validation: sampling"] - one["validation: sampling"] == averaged
    assert one["training step"] < by_name["training step"] <= one["training step"] + averaged


def test_each_of_several_devices_has_its_share_of_a_batch(folder_of):
    spec = resolve_base(str(folder_of("absolute")))
    config = config_of(spec, checkpointing=True, batch_size=4, accumulate=1)
    four = Planner(shaped_base(spec, "cuda"), config.clip, "cuda", NONE_AT_ONCE, processes=4)
    shared = four.memory(config).phases
    assert shared == four.memory(replace(config, batch_size=1, accumulate=4)).phases
    alone = Planner(shaped_base(spec, "cuda"), config.clip, "cuda", NONE_AT_ONCE).memory(config)
    step = {phase.name: phase.device for phase in shared}["training step"]
    assert step < {phase.name: phase.device for phase in alone.phases}["training step"]
