"""Blocks that wait in main memory: the same bits come out, two at most are on the device, each there before it is used."""

import weakref
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from small import CLIP, fca_config, inputs, wake

from fcacli.config import BaseWeights, FCAConfig, Keeping, LoRAConfig
from fcacli.errors import Misuse
from fcacli.model import block_swap
from fcacli.model.attach import attach, attached, set_aside
from fcacli.model.bases import load_base, resolve_base
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.model.block_swap import BlockSwap, spread

LAYERS = 4
LORA = LoRAConfig(rank=4)
MakeSwapped = Callable[..., CogVideoX]


@pytest.fixture(scope="module")
def four_layers(tmp_path_factory: pytest.TempPathFactory, write_base: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("base") / "four"
    return write_base(folder, num_layers=LAYERS, use_rotary_positional_embeddings=True)


@pytest.fixture
def make_swapped(four_layers: Path) -> MakeSwapped:
    def make(count: int, weights: BaseWeights = "full") -> CogVideoX:
        base = load_base(resolve_base(str(four_layers)))
        base.keep(Keeping(block_swap=count, base_weights=weights))
        base.transformer.enable_gradient_checkpointing()
        return base

    return make


class Copies:
    """Copies to the device: how many there were, and the most that were there at a time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.places: list[int] = []
        self.alive, self.most, self.late = 0, 0, 0
        fetch, fetched = BlockSwap._fetch, BlockSwap._fetched

        def counted(swap: BlockSwap, place: int) -> tuple[torch.Tensor, object]:
            buffer, event = fetch(swap, place)
            self.places.append(place)
            self.alive += 1
            self.most = max(self.most, self.alive)
            weakref.finalize(buffer.untyped_storage(), self._freed)
            return buffer, event

        def noticed(swap: BlockSwap, place: int) -> torch.Tensor:
            self.late += swap._next is None or swap._next[0] != place
            return fetched(swap, place)

        monkeypatch.setattr(BlockSwap, "_fetch", counted)
        monkeypatch.setattr(BlockSwap, "_fetched", noticed)

    def _freed(self) -> None:
        self.alive -= 1


def step(base: CogVideoX, adapter: torch.nn.Module) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Output and gradients of one training step."""
    x_t, t, given = inputs(base)
    output = adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given))
    output.square().mean().backward()
    return output.detach(), [parameter.grad for _, parameter in adapter.trainable()]


def adapted(base: CogVideoX, config: FCAConfig | LoRAConfig) -> torch.nn.Module:
    torch.manual_seed(0)
    adapter = attach(base, config, CLIP)
    wake(adapter)
    return adapter


@pytest.mark.parametrize("weights", ["full", "nf4"])
@pytest.mark.parametrize("config", [fca_config(), fca_config(injection="text"), LORA], ids=["fca", "text", "lora"])
def test_outputs_and_gradients_are_the_same_bits(
    make_swapped: MakeSwapped, config: FCAConfig | LoRAConfig, weights: BaseWeights
) -> None:
    plain = make_swapped(0, weights)
    expected, expected_gradients = step(plain, adapted(plain, config))
    for count in range(1, LAYERS + 1):
        base = make_swapped(count, weights)
        output, gradients = step(base, adapted(base, config))
        assert torch.equal(output, expected)
        for gradient, same in zip(gradients, expected_gradients, strict=True):
            assert torch.equal(gradient, same)


@pytest.mark.parametrize("weights", ["full", "int8", "nf4"])
@pytest.mark.parametrize("config", [fca_config(), LORA], ids=["fca", "lora"])
def test_two_blocks_at_most_are_on_the_device(
    make_swapped: MakeSwapped, monkeypatch: pytest.MonkeyPatch, config: FCAConfig | LoRAConfig, weights: BaseWeights
) -> None:
    base = make_swapped(LAYERS, weights)
    adapter = adapted(base, config)
    copies = Copies(monkeypatch)
    for _ in range(2):
        step(base, adapter)
    assert copies.most == block_swap.AHEAD


def test_blocks_are_fetched_before_they_begin(make_swapped: MakeSwapped, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of FCA passes four times: frozen, forward, and backward from the last block, which is still there."""
    base = make_swapped(LAYERS)
    adapter = adapted(base, fca_config())
    step(base, adapter)
    copies = Copies(monkeypatch)
    step(base, adapter)
    frozen, forward, backward = [1, 2, 3], [0, 1, 2, 3], [2, 1, 0]
    assert copies.places == [*frozen, *forward, *backward]  # block 0 is there from the step before
    assert copies.late == 0


def test_sampling_goes_round(make_swapped: MakeSwapped, monkeypatch: pytest.MonkeyPatch) -> None:
    base = make_swapped(2)
    copies = Copies(monkeypatch)
    with torch.no_grad():
        x_t, t, given = inputs(base)
        for _ in range(3):
            base.denoise(x_t, t, given.text)
    assert copies.places == [0, 1, 0, 1, 0, 1, 0] and copies.late == 1


def test_a_step_without_checkpointing_is_right_too(make_swapped: MakeSwapped) -> None:
    plain, base = make_swapped(0), make_swapped(3)
    for one in (plain, base):
        one.transformer.disable_gradient_checkpointing()
    (expected, expected_gradients), (output, gradients) = (step(one, adapted(one, LORA)) for one in (plain, base))
    assert torch.equal(output, expected)
    assert all(torch.equal(*pair) for pair in zip(gradients, expected_gradients, strict=True))


def test_an_adapter_can_be_set_aside_meanwhile(make_swapped: MakeSwapped) -> None:
    base = make_swapped(2)
    x_t, t, given = inputs(base)
    with torch.no_grad():
        alone = base.denoise(x_t, t, given.text)
        adapter = adapted(base, fca_config())
        before = adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given))
        with set_aside(base.transformer):
            assert not attached(base.transformer)
            assert torch.equal(base.denoise(x_t, t, given.text), alone)
        assert torch.equal(adapter.denoise(base, x_t, t, given.text, adapter.condition(base, given)), before)


def test_the_adapter_copies_weights_but_no_hooks(make_swapped: MakeSwapped) -> None:
    base = make_swapped(LAYERS)
    adapter = attach(base, fca_config(), CLIP)
    assert all(layer.norm is not None and not layer.norm._forward_pre_hooks for layer in adapter.layers)


def test_swapped_blocks_are_spread_evenly() -> None:
    assert spread(42, 0) == [] and spread(4, 4) == [0, 1, 2, 3]
    for blocks, count in [(30, 7), (42, 20), (42, 41)]:
        chosen = spread(blocks, count)
        assert len(chosen) == count and chosen[-1] == blocks - 1
        gaps = {after - before for before, after in pairwise(chosen)}
        assert max(gaps) - min(gaps) <= 1


def test_more_blocks_than_there_are_are_refused(four_layers: Path) -> None:
    base = load_base(resolve_base(str(four_layers)))
    with pytest.raises(Misuse, match="has 4 blocks"):
        base.keep(Keeping(block_swap=5))
