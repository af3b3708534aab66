"""`--offload` where it is not given: the fastest one that the device has room for, by the real planner."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from trained_run import make_workspace

from fcacli.config import Offload
from fcacli.errors import Misuse
from fcacli.events import Message
from fcacli.model import device_memory
from fcacli.planning.choice import card_for
from fcacli.planning.memory import Memory, Phase
from fcacli.planning.prediction import PredictionPlanner
from fcacli.planning.shaped import shaped_base
from fcacli.workflows import offloading
from fcacli.workflows.offloading import OFFLOADS, settle_offload
from fcacli.workflows.trained import Trained, find_trained


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_base_folder: Path) -> Trained:
    return find_trained(make_workspace(tmp_path_factory.mktemp("offloading"), tiny_base_folder), None, None, "cpu", print)


@pytest.fixture
def worked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory that is worked out, not traced: 10 GB of denoising, 1 less for each step of offloading; 7 of decoding."""

    def memory(planner: object, config: object, offload: Offload) -> Memory:
        size = 10 - OFFLOADS.index(offload)
        phases = [Phase(name, peak * 10**9, peak * 10**9, 0, 0) for name, peak in (("denoising", size), ("decoding", 7))]
        return Memory("cuda", tuple(phases), {"base": (size - 5) * 10**9, "adapter": 10**9}, 1)

    monkeypatch.setattr(PredictionPlanner, "memory", memory)


def card(size: int) -> int:
    """Bytes that must be free for so many GB of tensors."""
    return card_for(size * 10**9, context=0)


@pytest.fixture
def settle(trained: Trained, monkeypatch: pytest.MonkeyPatch):
    """What is settled, and said, on a device with so many bytes free."""
    monkeypatch.setattr(offloading, "fits_easily", lambda *_: False)
    base = SimpleNamespace(device=torch.device("cuda"), spec=trained.base.spec)

    def settled(free: int, asked: Offload | None = None, many: bool = False) -> tuple[Offload, list[Message]]:
        monkeypatch.setattr(device_memory, "free_on", lambda device: free)
        said: list[Message] = []
        return settle_offload(asked, base, trained.config, trained.config.sample, said.append, many), said

    return settled


def test_the_fastest_that_fits_is_taken(settle, worked_out) -> None:
    assert settle(card(10)) == ("none", [])
    for size, how in ((9, "model"), (8, "sequential")):
        found, (said,) = settle(card(size))
        assert found == how and said.level != "warning" and f"--offload {how}: " in said.text


def test_where_none_fits_the_last_is_tried_and_said(settle, worked_out) -> None:
    found, (said,) = settle(card(8) - 1)
    assert found == "sequential" and said.level == "warning" and "it may run out" in said.text


def test_of_many_clips_the_vae_stays_beside_the_transformer(settle, worked_out) -> None:
    assert settle(card(13), many=True)[0] == "none"  # 7 of decoding, 5 of the base, 1 of the adapter
    assert settle(card(12), many=True)[0] == "model"
    assert settle(card(11), many=True)[0] == "sequential"


def test_the_real_planner_is_asked(settle, trained) -> None:
    planner = PredictionPlanner(shaped_base(trained.base.spec, "cuda"), trained.config, "cuda")
    needed = card_for(planner.memory(trained.config, "none").needed, context=0)
    assert settle(needed)[0] == "none" and settle(needed - 1)[0] != "none"


def test_what_is_asked_for_is_done_and_nothing_waits_on_the_cpu(settle, trained, monkeypatch) -> None:
    assert settle(1, asked="none") == ("none", []) and settle(1, asked="model") == ("model", [])
    monkeypatch.setattr(offloading, "_needs", None)
    monkeypatch.setattr(offloading, "fits_easily", lambda *_: True)
    assert settle_offload(None, trained.base, trained.config, trained.config.sample, print) == "none"
    with pytest.raises(Misuse, match="this is the CPU"):
        settle_offload("model", trained.base, trained.config, trained.config.sample, print)


def test_a_miniature_is_not_planned(settle, trained, monkeypatch) -> None:
    monkeypatch.setattr(offloading, "fits_easily", lambda *_: True)
    monkeypatch.setattr(offloading, "_needs", None)
    assert settle(10**9) == ("none", [])


@pytest.mark.parametrize("less, warned", [(0, False), (1, True)])
def test_too_little_main_memory_is_said_before_a_prediction_on_the_cpu(trained, monkeypatch, less: int, warned: bool) -> None:
    """By the real planner, to the byte."""
    planner = PredictionPlanner(shaped_base(trained.base.spec, "cpu"), trained.config, "cpu")
    free = planner.memory(trained.config, "none").needed - less
    monkeypatch.setattr(offloading, "fits_easily", lambda *_: False)
    monkeypatch.setattr(offloading, "free_memory", lambda: free)
    said: list[Message] = []
    assert settle_offload(None, trained.base, trained.config, trained.config.sample, said.append) == "none"
    assert [message.level for message in said] == ["warning"] * warned
    assert not warned or "of memory by plan" in said[0].text
