"""A full disk and a read-only folder: one error that says what and why and what next, nothing lost, and then it goes on.

The full disk is a tmpfs, filled to its last byte at an exact moment; where mounting is not permitted, a limit on the size
of files, under which writing fails in the same places.
"""

import shutil
import subprocess
from pathlib import Path

import pytest
from processes import Process, leftovers, tree

TEXT = "pushing cup left"
EXACT = ("config.json", "speed.jsonl", "optimizer.pt", "state.json", "tensorboard", "dataset.json", "journal.jsonl")
"""Names besides: what holds times, and torch's container with its random number."""


def assert_said(process: Process, *reasons: str) -> None:
    """One error: what, why, and what to do."""
    said = process.said
    lines = said.splitlines()
    assert "Traceback" not in said and "unexpected" not in said, said
    assert [line.startswith("error: ") for line in lines].index(True) == len(lines) - 2, said
    assert any(reason in lines[-2] for reason in reasons) and lines[-1].startswith("  try: "), said


@pytest.fixture
def disk(tmp_path):
    """A folder with 24 MiB of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting a small tmpfs is not permitted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: Path, at: str, **values) -> tuple:
    return (("fill_disk", {"at": at, "folder": str(folder), **values}),)


def test_full_while_preparing(server, disk, prepared, raw):
    command = ["prepare", "ssv2", raw, "--workers", 1]
    for at, call in (("fcacli.data.convert:convert", 3), ("fcacli.workflows.prepared:write_split", 1)):
        full = server.run(disk, *command, faults=fill(disk, at, call=call), code=1)
        assert_said(full, "No space left on device")
        assert not leftovers(disk)
        (disk / "filler").unlink()
    server.run(disk, *command)
    assert tree(disk / "data" / "ssv2", *EXACT) == tree(prepared / "data" / "ssv2", *EXACT, "cache")


@pytest.fixture
def workspace_on(disk, prepared):
    shutil.copytree(prepared / "data", disk / "data")
    return disk


def test_full_while_training(server, workspace_on, straight, options):
    """While room is made for encodings, in the log, in a checkpoint and in a validation."""
    disk, command = workspace_on, ["train", *options, "--run", "first"]
    shutil.rmtree(disk / "data" / "ssv2" / "cache")
    for at, values in (
        ("fcacli.data.cache:create", {"call": 3}),
        ("fcacli.training.log:RunLog.computed", {"call": 3}),
        ("torch:save", {}),
        ("fcacli.workflows.validation:write_pngs", {}),
    ):
        full = server.run(disk, *command, faults=fill(disk, at, **values), code=1)
        assert_said(full, "No space left on device")
        assert not leftovers(disk)
        (disk / "filler").unlink()
    server.run(disk, *command)
    expected = tree(straight / "runs" / "first", *EXACT, "eval")
    assert tree(disk / "runs" / "first", *EXACT) == expected and len(expected) > 18


def test_full_while_a_later_checkpoint_is_written(server, workspace_on, straight, options):
    """The one before stays and is continued from, although the disk is full while that is read."""
    disk, command = workspace_on, ["train", *options, "--run", "first", "--validate-every", 3]
    full = server.run(disk, *command, faults=fill(disk, "torch:save", where="step-000006"), code=1)
    assert_said(full, "No space left on device")
    assert [path.name for path in (disk / "runs" / "first" / "checkpoints").iterdir()] == ["step-000003"]
    again = server.run(disk, *command, code=1)
    assert_said(again, "No space left on device")
    (disk / "filler").unlink()
    assert "continuing first from step 3" in server.run(disk, *command).said
    name = "checkpoints/step-000006/adapter.safetensors"
    assert (disk / "runs" / "first" / name).read_bytes() == (straight / "runs" / "first" / name).read_bytes()


@pytest.fixture
def trained_on(workspace_on, straight):
    shutil.copytree(straight / "runs" / "first", workspace_on / "runs" / "first", ignore=shutil.ignore_patterns("eval"))
    return workspace_on


def test_full_while_predicting(server, trained_on, raw):
    command = ["predict", next(raw.rglob("7.webm")), TEXT]
    for writing in ("write_pngs", "write_mp4", "write_gif"):
        faults = fill(trained_on, f"fcacli.workflows.predict:{writing}")
        assert_said(server.run(trained_on, *command, faults=faults, code=1), "No space left on device")
        assert not leftovers(trained_on)
        (trained_on / "filler").unlink()
    server.run(trained_on, *command)
    assert len(list((trained_on / "predictions").rglob("*.png"))) == 17


def test_full_while_evaluating(server, trained_on, straight):
    server.run(straight, "eval", "--quiet")
    for at, call in (("fcacli.workflows.generation:_generate", 3), ("fcacli.workflows.evaluate_pictures:write_mp4", 1)):
        assert_said(server.run(trained_on, "eval", faults=fill(trained_on, at, call=call), code=1), "No space left on device")
        assert not leftovers(trained_on)
        (trained_on / "filler").unlink()
    server.run(trained_on, "eval")
    assert tree(trained_on / "runs" / "first" / "eval") == tree(straight / "runs" / "first" / "eval")


@pytest.mark.parametrize(
    ("words", "size"),
    [("prepare ssv2 RAW --workers 1", 2000), ("train", 60_000), ("predict FRAMES text", 2000), ("eval", 2000)],
    ids=["prepare", "train", "predict", "eval"],
)
def test_files_that_may_not_grow(server, tmp_path, trained, raw, options, words, size):
    """The twin of the full disk that needs no mount."""
    words = [str({"RAW": raw, "FRAMES": next(raw.rglob("7.webm"))}.get(word, word)) for word in words.split()]
    folder = trained
    if words[0] == "prepare":
        folder = tmp_path / "empty"
        folder.mkdir()
    if words[0] == "train":
        words = [*words, *options, "--run", "second"]
    full = server.run(folder, *words, faults=(("largest_file", {"size": size}),), code=1)
    assert_said(full, "File too large")
    assert not leftovers(folder)
    server.run(folder, *words)


def test_read_only_folders(server, tmp_path, trained, raw, options):
    """Each command says which folder it may not write to; what is only read may be read-only."""
    faults = (("no_privileges", {}),)
    commands = {
        "data": (["prepare", "ssv2", raw, "--workers", "1", "--name", "other"], "data"),
        "runs": (["train", *options, "--run", "second"], "runs"),
        "predictions": (["predict", next(raw.rglob("7.webm")), TEXT], "predictions"),
        "runs/first": (["eval", "--run", "first"], "eval"),
    }
    (trained / "predictions").mkdir()
    for name, (words, named) in commands.items():
        folder = trained / name
        for path in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
            path.chmod(0o555)
        try:
            refused = server.run(trained, *words, faults=faults, code=1)
            assert_said(refused, "Permission denied")
            assert named in refused.said.partition("error: ")[2].splitlines()[0]
            if name == "data":  # encoded already: training only reads it
                server.run(trained, "train", *options, "--run", "reading", faults=faults)
        finally:
            for path in (folder, *(p for p in folder.rglob("*") if p.is_dir())):
                path.chmod(0o755)
    shutil.rmtree(trained / "data" / "ssv2" / "cache")
    (trained / "data" / "ssv2").chmod(0o555)
    refused = server.run(trained, "train", *options, "--run", "second", faults=faults, code=1)
    assert_said(refused, "Permission denied")
    (trained / "data" / "ssv2").chmod(0o755)
    server.run(trained, "train", *options, "--run", "second", faults=faults)
