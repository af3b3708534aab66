"""Claims about a frozen base that processes share: nothing that is computed changes, and each holds its part of it."""

import sys
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fitting import CLIP, FCA, LORA, clips
from several import run_ranks

from fcacli.config import FCALoRAConfig, Keeping, TrainConfig
from fcacli.errors import Misuse
from fcacli.model.attach import attach
from fcacli.model.bases import cogvideox_block as seam
from fcacli.model.bases import load_base, resolve_base
from fcacli.model.frozen_memory import frozen_bytes
from fcacli.training.loop import held_out_loss
from fcacli.training.objective import diffusion_loss, draw

sys.path.insert(0, str(Path(__file__).parents[1] / "planning"))
sys.path.insert(0, str(Path(__file__).parents[1] / "model"))
from counted import counted
from small import wake

FCA_LORA = FCALoRAConfig(width=32, tokens_per_frame=2, text_width=16, text_heads=2, text_blocks=1, rank=4)


def attached(folder, adapter_config, weights, shards):
    """A base of its own with an adapter that has something to say."""
    base = load_base(resolve_base(str(folder)))
    base.keep(Keeping(base_weights=weights, shards=shards))
    torch.manual_seed(0)
    adapter = attach(base, adapter_config, CLIP)
    wake(adapter)
    return base, adapter


def batch_of_two():
    data = clips(2)
    return {name: torch.stack([clip[name] for clip in data]) for name in data[0] if name != "id"}


def loss_of(base, adapter):
    batch, null = batch_of_two(), (torch.zeros(12, 24), torch.arange(12) < 1)
    return diffusion_loss(base, adapter, batch, null, draw(0, 0, (0, 1), 2, batch["latents"].shape[1:], 1000, 0.0))


def gradients(folder, adapter_config, weights, shards, checkpointing):
    """Loss, gradients and held-out loss of one step on a base of its own, and bytes of its blocks before and after."""
    base, adapter = attached(folder, adapter_config, weights, shards)
    if checkpointing:
        base.transformer.enable_gradient_checkpointing()
    before = held(base)
    loss = loss_of(base, adapter)
    loss.sum().backward()
    held_out = held_out_loss(base, adapter, [batch_of_two() | {"ids": ["a", "b"]}])
    made = {name: parameter.grad.clone() for name, parameter in adapter.trainable()}
    return loss.detach(), made, held_out, before, held(base)


def held(base) -> int:
    """Bytes of the blocks' frozen tensors in this process."""
    blocks = getattr(base.transformer, seam.BLOCKS)
    own = [getattr(block, "block", block) for block in blocks]
    parameters = [parameter for block in own for parameter in block.parameters() if not parameter.requires_grad]
    buffers = [buffer for block in own for buffer in block.buffers()]
    here = [getattr(parameter, "to_local", lambda parameter=parameter: parameter)() for parameter in parameters]
    return sum(tensor.nbytes for tensor in (*here, *buffers))


def shared_by_two(folder, work):
    """What both processes give; skipped where this version of torch cannot share such weights, which it says."""
    answers = run_ranks(2, folder, work)
    for answer in answers:
        if answer[0] == "Misuse" and "cannot share such weights in fewer bits" in answer[1]:
            pytest.skip(answer[1])
    return answers


@pytest.mark.parametrize(
    ("adapter", "weights", "checkpointing"),
    [
        (FCA, "full", False),
        (FCA, "full", True),
        (FCA, "fp8", False),
        (FCA, "nf4", True),
        (LORA, "full", True),
        (LORA, "int8", False),
        (FCA_LORA, "int8", True),
    ],
)
def test_losses_and_gradients_are_the_same_bits_and_each_process_holds_its_part(
    tiny_base_folder, tmp_path, adapter, weights, checkpointing
):
    def work(team):
        return [gradients(tiny_base_folder, adapter, weights, shards, checkpointing) for shards in (1, team.size)]

    for whole, shared in shared_by_two(tmp_path / "answers", work):
        assert torch.equal(whole[0], shared[0]) and whole[2] == shared[2]
        assert whole[1].keys() == shared[1].keys()
        assert all(torch.equal(gradient, shared[1][name]) for name, gradient in whole[1].items())
        assert any(bool(gradient.any()) for gradient in whole[1].values())
        shapes = load_base(resolve_base(str(tiny_base_folder)))
        said = [frozen_bytes(shapes.transformer, Keeping(base_weights=weights, shards=n), torch.float32).device for n in (1, 2)]
        assert whole[3] - shared[3] == whole[4] - shared[4] == said[0] - said[1] > 0.3 * whole[3]


@pytest.mark.parametrize(("weights", "checkpointing"), [("full", False), ("int8", True)])
def test_what_is_gathered_takes_what_a_plan_says(write_base, tmp_path, weights, checkpointing):
    """Counted by the allocator, with shares and without; beside what a step takes anyway."""
    folder = write_base(tmp_path / "base", num_layers=4, num_attention_heads=8)

    def work(team):
        found = []
        for shards in (1, team.size):
            base, adapter = attached(folder, FCA, weights, shards)
            if checkpointing:
                base.transformer.enable_gradient_checkpointing()

            def step(meter=None, base=base, adapter=adapter):
                loss_of(base, adapter).sum().backward()
                for _, parameter in adapter.trainable():
                    parameter.grad = None

            step()  # what is made at the first call stays
            found.append(counted(step)[1])
        return found

    shapes = load_base(resolve_base(str(folder))).transformer
    one, two = (frozen_bytes(shapes, Keeping(base_weights=weights, shards=n), torch.float32) for n in (1, 2))
    for whole, shared in shared_by_two(tmp_path / "answers", work):
        planned = two.passing - one.passing
        assert planned / 4 < shared - whole < 1.3 * planned  # gloo gives memory back when it likes


@contextmanager
def says(*words):
    with pytest.raises(Misuse) as raised:
        yield
    assert all(word in raised.value.message for word in words), raised.value.message


def test_it_does_not_go_together_with_what_moves_or_compiles_blocks(make_config):
    config: TrainConfig = make_config(checkpointing=True)
    assert replace(config, shard_base=True).keeping_among(4).shards == 4
    assert config.keeping_among(4).shards == 1 and replace(config, shard_base=True).keeping.shards == 1
    with says("--shard-base does not go together with --block-swap"):
        replace(config, shard_base=True, block_swap=1)
    with says("--shard-base does not go together with --compile"):
        replace(config, shard_base=True, compile=True)
