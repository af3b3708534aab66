"""Claims about checkpoints: whole or invisible, verified, the one before as a fallback."""

import json

import pytest
import torch
from safetensors.torch import save_file

from fcacli.errors import FcaError
from fcacli.events import Message
from fcacli.training import checkpoint
from fcacli.training.checkpoint import State


def save(run, step):
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([parameter])
    parameter.grad = torch.ones(3)
    optimizer.step()

    def write(folder):
        save_file({"weight": parameter.detach()}, folder / "adapter.safetensors")
        (folder / "adapter_config.json").write_text("{}")

    return checkpoint.save(run, State(step=step, log_bytes=step * 10, train_loss=0.5), write, optimizer)


def test_saved_state_reads_back(tmp_path):
    folder = save(tmp_path, 5)
    assert checkpoint.latest(tmp_path) == folder == tmp_path / "checkpoints" / "step-000005"
    assert checkpoint.verify(folder) == State(step=5, log_bytes=50, train_loss=0.5)


def test_newest_is_by_number_not_by_name(tmp_path):
    save(tmp_path, 999_999)
    newer = save(tmp_path, 1_000_000)
    assert newer.name < "step-999999"
    assert checkpoint.latest(tmp_path) == newer


@pytest.mark.parametrize("name", ["adapter.safetensors", "optimizer.pt", "adapter_config.json", "state.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_damaged_checkpoint_falls_back_aloud(tmp_path, name, damage):
    good, bad = save(tmp_path, 5), save(tmp_path, 10)
    content = (bad / name).read_bytes()
    if damage == "remove":
        (bad / name).unlink()
    elif damage == "cut":
        (bad / name).write_bytes(content[: len(content) // 2])
    else:
        (bad / name).write_bytes(bytes([content[0] ^ 1]) + content[1:])
    events = []
    assert checkpoint.latest(tmp_path, events.append) == good
    assert [event.level for event in events if isinstance(event, Message)] == ["warning"]
    assert "step-000010" in events[0].text


@pytest.mark.parametrize("state", [[], {}, {"state": {}, "files": {}}, {"state": {"step": "5"}, "files": 3}])
def test_strange_state_is_an_error_not_a_crash(tmp_path, state):
    folder = save(tmp_path, 5)
    (folder / "state.json").write_text(json.dumps(state))
    with pytest.raises(FcaError, match="state"):
        checkpoint.verify(folder)


def test_failed_write_leaves_nothing_behind(tmp_path):
    def fail(folder):
        (folder / "adapter.safetensors").write_bytes(b"half")
        raise RuntimeError("no space left on device")

    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))])
    with pytest.raises(FcaError, match="no space left"):
        checkpoint.save(tmp_path, State(step=1, log_bytes=0, train_loss=None), fail, optimizer)
    assert list((tmp_path / "checkpoints").iterdir()) == []
    assert checkpoint.latest(tmp_path) is None


def test_half_written_folder_is_invisible_and_cleared(tmp_path):
    good = save(tmp_path, 5)
    leftover = tmp_path / "checkpoints" / ".step-000010.abc.tmp"
    leftover.mkdir()
    (leftover / "adapter.safetensors").write_bytes(b"half")
    assert checkpoint.latest(tmp_path) == good
    checkpoint.clean(tmp_path, 5)
    assert list((tmp_path / "checkpoints").iterdir()) == [good]


def test_prune_keeps_the_newest(tmp_path):
    for step in (5, 10, 15, 20):
        save(tmp_path, step)
    checkpoint.prune(tmp_path, 3)
    assert [checkpoint.step_of(path) for path in checkpoint.all_checkpoints(tmp_path)] == [10, 15, 20]


def test_damaged_optimizer_file_is_named(tmp_path):
    folder = save(tmp_path, 5)
    (folder / "optimizer.pt").write_bytes(b"not a file of torch")
    with pytest.raises(FcaError, match=r"optimizer\.pt"):
        checkpoint.load_optimizer(folder, torch.optim.AdamW([torch.nn.Parameter(torch.ones(3))]))
