"""N steps = k steps, kill -9, `fca train` again, the rest: bit for bit, at three kill points and at times drawn by lot.

With loader processes and gradient accumulation; checkpoints at steps 2, 4 and 6, of which the newest is kept.
"""

import random
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from processes import leftovers, steps, tree

FROM_DISK = ("put", {"at": "fcacli.training.loader:IN_MEMORY", "value": 0})
"""The clips do not fit into memory, so processes load them."""
SLOW = ("slow", {"at": "fcacli.training.log:RunLog.computed", "seconds": 0.05})
OFTEN = ["--validate-every", "2", "--validate-clips", "0", "--keep", "1", "--workers", "2", "--run", "it"]
FCA = ["--set", "text_width=128"]
LORA = ["--adapter", "lora", "--lora-rank", "128"]

BETWEEN = {"at": "fcacli.training.log:RunLog.computed", "call": 7}
"""Two lines follow each second step: this is that of step 5."""
INSIDE = {"at": "torch:save", "where": "step-000004"}
BEHIND = {"at": "pathlib:Path.rename", "where": "step-000004", "after": True}


@pytest.fixture(scope="module")
def uninterrupted(server, prepared, tmp_path_factory, options):
    """Uninterrupted runs by their options, each made once."""
    runs = {}

    def run(words: list[str]) -> Path:
        key = " ".join(words)
        if key not in runs:
            root = tmp_path_factory.mktemp("straight")
            shutil.copytree(prepared / "data", root / "data")
            server.run(root, "train", *options, *OFTEN, *words, faults=(FROM_DISK,))
            runs[key] = root / "runs" / "it"
        return runs[key]

    return run


def checkpoints(run: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in (run / "checkpoints").glob("step-*"))


def assert_same(one: Path, other: Path) -> None:
    """Weights, optimizer, log and validations; the optimizer's file as tensors, since its own bytes name a time."""
    here, there = (torch.load(run / "checkpoints" / "step-000006" / "optimizer.pt") for run in (one, other))
    assert same(here, there)
    but = ("config.json", "speed.jsonl", "optimizer.pt", "state.json", "tensorboard")
    a, b = tree(one, *but), tree(other, *but)
    assert {"log.jsonl", "checkpoints/step-000006/adapter.safetensors", "validation/step-000004/validation.json"} <= a.keys()
    assert a.keys() == b.keys()
    assert not [name for name in a if a[name] != b[name]]


def same(a, b) -> bool:
    """Nested dictionaries and lists of tensors, bit by bit."""
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return torch.equal(a, b) and a.dtype == b.dtype if isinstance(a, torch.Tensor) else a == b


def tensors(value):
    """All of a nested dictionary."""
    if isinstance(value, dict):
        return [tensor for item in value.values() for tensor in tensors(item)]
    return [value] if isinstance(value, torch.Tensor) else []


@pytest.mark.parametrize(
    ("optimizer", "adapter", "kill", "left"),
    [
        ("adamw", FCA, BETWEEN, [4]),
        ("adamw8bit", FCA, INSIDE, [2]),
        ("adamw8bit", LORA, BEHIND, [2, 4]),
        ("adamw", LORA, INSIDE, [2]),
    ],
    ids=["adamw-fca-between", "adamw8bit-fca-inside", "adamw8bit-lora-behind", "adamw-lora-inside"],
)
def test_killed_and_continued_is_the_same_run(server, workspace, options, uninterrupted, optimizer, adapter, kill, left):
    words = ["--optimizer", optimizer, *adapter]
    server.run(workspace, "train", *options, *OFTEN, *words, faults=(FROM_DISK, ("kill", kill)), code=-signal.SIGKILL)
    run = workspace / "runs" / "it"
    assert checkpoints(run) == left
    assert bool(leftovers(run)) == (kill is INSIDE)
    again = server.run(workspace, "train", *options, *OFTEN, *words, faults=(FROM_DISK,))
    assert f"continuing it from step {left[-1]}" in again.said
    assert checkpoints(run) == [6] and not leftovers(run)
    assert_same(uninterrupted(words), run)
    state = torch.load(run / "checkpoints" / "step-000006" / "optimizer.pt")["state"]
    assert any(tensor.dtype == torch.uint8 for tensor in tensors(state)) == (optimizer == "adamw8bit")


def test_killed_at_any_time_and_continued_at_once(server, workspace, options, uninterrupted):
    """The lock of a killed process is free at once, though its loader processes live on for seconds; none stays."""
    words, lot, killed = ["--optimizer", "adamw", *FCA], random.Random(3), []
    for _ in range(3):
        process = server.start(workspace, "train", *options, *OFTEN, *words, faults=(FROM_DISK, SLOW))
        process.until(process.children)
        time.sleep(lot.uniform(0, 0.5))
        process.send(signal.SIGKILL)
        assert process.wait() in (0, -signal.SIGKILL)
        killed.append(process)
    again = server.run(workspace, "train", *options, *OFTEN, *words, faults=(FROM_DISK,))
    assert "step 6 of 6 (finished)" in again.said or "is finished" in again.said
    assert steps(workspace) == 9
    assert_same(uninterrupted(words), workspace / "runs" / "it")
    for process in killed:
        process.wait_for_children()
