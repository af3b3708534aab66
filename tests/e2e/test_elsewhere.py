"""Files that move or vanish: a run continues from another path and in another workspace; what is gone is named."""

import shutil
import signal

from processes import tree

EXACT = ("config.json", "speed.jsonl", "optimizer.pt", "state.json", "tensorboard")
KILL = ("kill", {"at": "fcacli.training.log:RunLog.computed", "call": 5})
ON_DISK = ("put", {"at": "fcacli.training.loader:IN_MEMORY", "value": 0})


def start(server, workspace, options) -> list:
    """A run that was killed in its fifth step, with a checkpoint at the third; the command that made it."""
    command = ["train", *options, "--run", "first", "--validate-every", 3, "--validate-clips", 0, "--keep", 1]
    server.run(workspace, *command, faults=(KILL,), code=-signal.SIGKILL)
    return command


def finished(server, folder, command) -> dict:
    assert "continuing first from step 3" in server.run(folder, *command).said
    return tree(folder / "runs" / "first", *EXACT, "step-000003")


def test_a_moved_workspace_and_a_copied_run_continue_bit_for_bit(server, prepared, workspace, options):
    command = start(server, workspace, options)
    moved, other = workspace.parent / f"{workspace.name} moved", workspace.parent / f"{workspace.name}-other"
    shutil.copytree(prepared / "data", other / "data")
    shutil.copytree(workspace / "runs", other / "runs")
    copy = workspace.parent / f"{workspace.name}-copy"
    shutil.copytree(workspace, copy)
    workspace.rename(moved)
    expected = finished(server, copy, command)
    assert finished(server, moved, ["train"]) == expected and len(expected) == 4
    assert finished(server, other, ["train"]) == expected
    workspace.mkdir()


def test_what_vanished_before_a_run_goes_on(server, workspace, options):
    """Encodings are made again from the video; a video that is gone, too, is named, and the run does not go on without it."""
    command = start(server, workspace, options)
    copy = workspace.parent / f"{workspace.name}-copy"
    shutil.copytree(workspace, copy)
    expected = finished(server, copy, command)
    shutil.rmtree(workspace / "data" / "ssv2" / "cache")
    gone = workspace / "data" / "ssv2" / "train" / "videos" / "2.mp4"
    gone.rename(workspace / "2.mp4")
    refused = server.run(workspace, "train", code=2)
    assert "2.mp4" in refused.said and "train: 5 -> 4" in refused.said and "Traceback" not in refused.said
    (workspace / "2.mp4").rename(gone)
    assert finished(server, workspace, command) == expected


def test_encodings_that_vanish_while_training(server, workspace, straight, options):
    """The run is saved and says what is missing; the next call makes it again and goes on as if nothing was. With a shard
    for each clip: what is mapped already can be read to the end."""
    command = ["train", *options, "--run", "first", "--keep", 1]
    shutil.rmtree(workspace / "data" / "ssv2" / "cache")
    small = ("put", {"at": "fcacli.data.cache:SHARD_BYTES", "value": 1})
    vanish = ("remove", {"at": "fcacli.training.loop:_gradients", "pattern": "data/ssv2/cache/*/*"})
    stopped = server.run(workspace, *command, "--workers", 0, faults=(ON_DISK, small, vanish), code=1)
    lines = stopped.said.splitlines()
    assert "Traceback" not in stopped.said and "unexpected" not in stopped.said
    assert lines[-2].startswith("error: ") and "is not encoded" in lines[-2] and lines[-1].startswith("  try: ")
    assert "saved in" in lines[-2]
    assert "continuing first from step 0" in server.run(workspace, *command).said
    assert tree(workspace / "runs" / "first", *EXACT) == tree(straight / "runs" / "first", *EXACT, "eval")
