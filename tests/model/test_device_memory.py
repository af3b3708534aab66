"""How a CUDA device's memory is taken: what is asked of torch's allocator, and when nothing is."""

import platform
import sys

import pytest
import torch

from fcacli.model.device_memory import growing_segments


@pytest.fixture
def asked(monkeypatch):
    """What the allocator is told, on Linux with nothing said by the user."""
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "release", lambda: "6.1.0")
    told: list[str] = []
    monkeypatch.setattr(torch._C, "_accelerator_setAllocatorSettings", told.append, raising=False)
    return told


def test_segments_grow(asked):
    growing_segments()
    assert asked == ["expandable_segments:True"]


def test_an_older_torch_is_asked_by_its_own_name(asked, monkeypatch):
    monkeypatch.delattr(torch._C, "_accelerator_setAllocatorSettings")
    monkeypatch.setattr(torch.cuda.memory, "_set_allocator_settings", asked.append)
    growing_segments()
    assert asked == ["expandable_segments:True"]


@pytest.mark.parametrize("name", ["PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"])
def test_what_the_user_says_of_them_stays(asked, monkeypatch, name):
    monkeypatch.setenv(name, "max_split_size_mb:512")
    growing_segments()
    assert asked == ["max_split_size_mb:512,expandable_segments:True"], "nothing was said of segments"
    monkeypatch.setenv(name, "expandable_segments:False")
    growing_segments()
    assert len(asked) == 1


def test_where_cuda_has_no_such_memory_nothing_is_asked(asked, monkeypatch):
    monkeypatch.setattr(platform, "release", lambda: "5.15.0-microsoft-standard-WSL2")
    growing_segments()
    monkeypatch.setattr(sys, "platform", "win32")
    growing_segments()
    assert not asked
