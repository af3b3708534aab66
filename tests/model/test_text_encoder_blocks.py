"""A text encoder for which the device has no room: its blocks visit the device in turn, and give the same bits."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fcacli.model.bases import load_base, parts, resolve_base
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.model.block_swap import AHEAD, BlockSwap

BLOCKS = 4
MakeBase = Callable[[], CogVideoX]


@pytest.fixture
def deep(tmp_path: Path, write_base: Callable[..., Path]) -> MakeBase:
    """A base whose text encoder has several blocks."""
    from transformers import T5Config, T5EncoderModel

    folder = write_base(tmp_path / "base")
    config = T5Config.from_pretrained(folder / "text_encoder", num_layers=BLOCKS)
    torch.manual_seed(0)
    T5EncoderModel(config).save_pretrained(folder / "text_encoder")
    return lambda: load_base(resolve_base(str(folder)))


def test_the_same_bits_with_two_blocks_there_at_a_time(deep: MakeBase, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = [["pushing cup left"], ["pushing cup left", "a"], [""]]
    whole = deep()
    expected = [whole.encode_text(texts) for texts in captions]
    fetched: list[int] = []
    fetch = BlockSwap._fetch
    monkeypatch.setattr(BlockSwap, "_fetch", lambda swap, place: fetched.append(place) or fetch(swap, place))  # type: ignore[func-returns-value]
    monkeypatch.setattr(parts, "has_room", lambda device, size: False)
    base = deep()
    for texts, (features, mask) in zip(captions, expected, strict=True):
        found, found_mask = base.encode_text(texts)
        assert torch.equal(found, features) and torch.equal(found_mask, mask)
    assert fetched == [place % BLOCKS for place in range(len(captions) * BLOCKS + AHEAD - 1)], "each once a pass, one ahead"


def test_where_the_text_encoder_goes_is_asked_with_its_bytes(deep: MakeBase, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(parts, "has_room", lambda device, size: bool(asked.append(size)) or True)
    base = deep()
    assert asked == [] and not base.text_encoder.encoder.block[0]._forward_pre_hooks
    assert asked == [sum(parameter.nbytes for parameter in base.text_encoder.parameters()) + parts.BESIDE]


@pytest.mark.parametrize(("free", "limit", "room"), [(7, 1.0, True), (6, 1.0, False), (7, 0.12, True), (90, 0.11, False)])
def test_what_torch_holds_and_does_not_use_is_free_up_to_its_limit(
    monkeypatch: pytest.MonkeyPatch, free: int, limit: float, room: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_per_process_memory_fraction", lambda device: limit)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 5)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 2)
    assert parts.has_room(torch.device("cuda"), 10) is room
    assert parts.has_room(torch.device("cpu"), 10**15)
