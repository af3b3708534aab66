"""SIGTERM of a scheduler, SIGHUP of a closed session, Ctrl-C: saved or undone, one line, 128 + the signal, in bounded time."""

import os
import shutil
import signal
import time

import pytest
from processes import leftovers, steps, tree

BOUND = 20
"""Seconds from the signal to the end: far less than schedulers grant (Slurm: 30)."""
TEXT = "pushing cup left"
EXACT = ("config.json", "speed.jsonl", "optimizer.pt", "state.json", "tensorboard")
SLOW_STEPS = ("slow", {"at": "fcacli.training.log:RunLog.computed", "seconds": 0.1})


def assert_stopped(process, number: int) -> None:
    """It ends soon, with its code, and its last words are short."""
    sent = time.monotonic()
    assert process.wait(BOUND) == 128 + number, process.said
    assert time.monotonic() - sent < BOUND
    assert "Traceback" not in process.said and "error: " not in process.said, process.said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_training_is_saved_and_goes_on_as_if_nothing_was(server, workspace, straight, options, number):
    """The signal goes to loader processes, too, as from a terminal or a scheduler."""
    command = ["train", *options, "--run", "first", "--workers", 2, "--keep", 1]
    on_disk = ("put", {"at": "fcacli.training.loader:IN_MEMORY", "value": 0})
    process = server.start(workspace, *command, faults=(SLOW_STEPS, on_disk))
    process.until(lambda: steps(workspace) >= 2)
    process.send_all(number)
    assert_stopped(process, number)
    last = process.said.splitlines()[-2:]
    assert "stopped by" in last[0] and "saved" in last[0] and last[1] == "  try: fca train"
    process.wait_for_children()
    again = server.run(workspace, *command)
    assert "continuing first from step" in again.said
    assert tree(workspace / "runs" / "first", *EXACT) == tree(straight / "runs" / "first", *EXACT, "eval")


def test_a_signal_that_is_ignored_stays_ignored(server, workspace, options):
    """`nohup fca train` outlives its terminal."""
    ignored = ("ignore", {"number": signal.SIGHUP})
    process = server.start(workspace, "train", *options, faults=(ignored, SLOW_STEPS))
    process.until(lambda: steps(workspace) >= 1)
    process.send_all(signal.SIGHUP)
    assert process.wait() == 0, process.said


def wait_in(at: str, done: bool = False) -> tuple:
    """The command waits for its signal at its second call of `at`, before it or after."""
    return ("slow", {"at": at, "seconds": 60, "call": 2, "done": done})


@pytest.mark.parametrize(
    ("command", "number"),
    [("prepare", signal.SIGINT), ("encode", signal.SIGHUP), ("predict", signal.SIGTERM), ("eval", signal.SIGTERM)],
)
def test_the_others_leave_nothing_half_written(server, trained, raw, tiny_base_folder, command, number):
    words, at = {
        "prepare": (["prepare", "ssv2", raw, "--workers", 1, "--name", "other"], "fcacli.data.transcode:_encode"),
        "encode": (["prepare", "ssv2", raw, "--base", tiny_base_folder], "os:posix_fallocate"),
        "predict": (["predict", next(raw.rglob("7.webm")), TEXT], "fcacli.prediction.video:write_png"),
        "eval": (["eval"], "fcacli.prediction.video:write_png"),
    }[command]
    shutil.rmtree(trained / "data" / "ssv2" / "cache")
    process = server.start(trained, *words, faults=(wait_in(at, done=command in ("prepare", "encode")),))
    process.until(lambda: "waiting" in process.printed)
    assert leftovers(trained)
    process.send(number)
    assert_stopped(process, number)
    assert "run the same command to continue" in process.said.splitlines()[-1]
    assert not leftovers(trained)
    server.run(trained, *words)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_prepare_on_processes(server, tmp_path, raw, prepared, number):
    """The signal goes to its workers, too; each undoes its clip."""
    process = server.start(tmp_path, "prepare", "ssv2", raw, "--workers", 2)
    process.until(lambda: list(tmp_path.glob("data/ssv2/*/videos/.*.tmp.mp4")))
    process.send_all(number)
    assert process.wait(BOUND) in (128 + number, 0), process.said
    assert "Traceback" not in process.said and "error: " not in process.said
    process.wait_for_children()
    assert not leftovers(tmp_path)
    server.run(tmp_path, "prepare", "ssv2", raw, "--workers", 1)
    but = ("journal.jsonl", "dataset.json")
    assert tree(tmp_path / "data" / "ssv2", *but) == tree(prepared / "data" / "ssv2", *but, "cache")


def test_a_worker_of_prepare_that_is_killed_is_told_of(server, tmp_path, raw):
    """As the system does it when memory runs out: an error, not a hang; the next call goes on."""
    process = server.start(tmp_path, "prepare", "ssv2", raw, "--workers", 2)
    clips = process.until(lambda: list(tmp_path.glob("data/ssv2/*/videos/.*.tmp.mp4")))
    writer = int(clips[0].name.split(".")[-3])
    os.kill(writer, signal.SIGKILL)
    assert process.wait(BOUND) == 1, process.said
    assert "a process that converts videos died" in process.said and "--workers 1" in process.said
    assert "Traceback" not in process.said
    process.wait_for_children()
    server.run(tmp_path, "prepare", "ssv2", raw, "--workers", 1)
    assert not leftovers(tmp_path)


def test_a_loader_process_that_is_killed_is_told_of(server, workspace, straight, options):
    command = ["train", *options, "--run", "first", "--workers", 2, "--keep", 1]
    on_disk = ("put", {"at": "fcacli.training.loader:IN_MEMORY", "value": 0})
    process = server.start(workspace, *command, faults=(SLOW_STEPS, on_disk))
    process.until(lambda: steps(workspace) >= 1)
    for child in process.children():
        os.kill(child, signal.SIGKILL)
    code = process.wait(BOUND)
    assert code == 1 and "Traceback" not in process.said, process.said
    assert "error: a process that loads clips has died" in process.said and "try: fca train --workers 0" in process.said
    server.run(workspace, *command)
    assert tree(workspace / "runs" / "first", *EXACT) == tree(straight / "runs" / "first", *EXACT, "eval")


def test_training_whose_words_nobody_reads_any_more_is_saved(server, workspace, straight, options):
    """Ctrl-C of `fca train 2>&1 | tee log.txt` ends tee first."""
    command = ["train", *options, "--run", "first", "--keep", 1]
    deaf = ("deaf", {"at": "fcacli.training.log:RunLog.computed", "call": 2})
    process = server.start(workspace, *command, faults=(deaf, SLOW_STEPS))
    process.until(lambda: steps(workspace) >= 2)
    process.send_all(signal.SIGINT)
    assert process.wait(BOUND) == 128 + signal.SIGINT
    assert list(workspace.glob("runs/first/checkpoints/step-*"))
    assert "continuing first from step" in server.run(workspace, *command).said
    assert tree(workspace / "runs" / "first", *EXACT) == tree(straight / "runs" / "first", *EXACT, "eval")
