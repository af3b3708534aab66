"""`fca train` and `fca eval` by several processes as a user starts them: launched, killed, signalled, on two machines.

Slow: each process imports torch and diffusers afresh.
"""

import os
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest
from processes import steps, tree

pytestmark = pytest.mark.slow

EXACT = ("config.json", "speed.jsonl", "optimizer.pt", "state.json", "tensorboard")
BOUND = 60
"""Seconds from a death or a signal to the end of all."""
LONG = ["--steps", "3000", "--run", "long"]
TWO = ["--processes", "2"]


def launched(process) -> dict[int, int]:
    """Pids of the processes that a command has launched, by rank."""
    import psutil

    found = {}
    for child in psutil.Process(process.pid).children():
        environment = child.environ()
        if "RANK" in environment:
            found[int(environment["RANK"])] = child.pid
    return found


def gone(pids) -> bool:
    end = time.monotonic() + BOUND
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def test_two_processes_leave_the_run_of_one(server, workspace, straight, options):
    process = server.run(workspace, "train", *options, "--run", "first", *TWO)
    assert "2 for each of 2 processes" in process.said and process.printed == "runs/first\n"
    assert process.said.count("finished") == 1
    assert tree(workspace / "runs" / "first", *EXACT) == tree(straight / "runs" / "first", *EXACT, "eval")


def test_a_killed_process_ends_the_run_with_one_error_and_it_goes_on_in_one(server, workspace, options):
    process = server.start(workspace, "train", *options, *LONG, *TWO)
    process.until(lambda: steps(workspace) >= 3)
    pids = launched(process)
    os.kill(pids[1], signal.SIGKILL)
    assert process.wait(BOUND) == 1, process.said
    assert process.said.count("error: ") == 1 and "Traceback" not in process.said, process.said
    assert "error: process 1 of 2 of this run was killed by SIGKILL; stopped at step" in process.said
    assert gone(pids.values())
    again = server.run(workspace, "train", *options, *LONG, "--max-minutes", "0.02")
    assert "continuing long from step" in again.said


@pytest.mark.parametrize("to", ["the command", "all"])
def test_a_signal_is_saved_once_and_said_once(server, workspace, options, to):
    process = server.start(workspace, "train", *options, *LONG, *TWO)
    process.until(lambda: steps(workspace) >= 3)
    pids = launched(process)
    for pid in [process.pid, *(pids.values() if to == "all" else ())]:
        os.kill(pid, signal.SIGTERM)
    assert process.wait(BOUND) == 128 + signal.SIGTERM, process.said
    assert process.said.count("stopped by SIGTERM at step") == 1 and "error: " not in process.said, process.said
    assert gone(pids.values())
    assert len(list(workspace.glob("runs/long/checkpoints/step-*"))) == 1


def test_processes_whose_command_is_killed_save_and_end(server, workspace, options):
    process = server.start(workspace, "train", *options, *LONG, *TWO)
    process.until(lambda: steps(workspace) >= 3)
    pids = launched(process)
    process.send(signal.SIGKILL)
    process.wait()
    assert gone(pids.values())
    assert len(list(workspace.glob("runs/long/checkpoints/step-*"))) == 1


def test_two_machines_meet(server, workspace, straight, options):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meet = f"127.0.0.1:{free.getsockname()[1]}"
    command = ["train", *options, "--run", "first", "--nodes", "2", "--processes", "1", "--rendezvous", meet]
    both = [server.start(workspace, *command) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0], [process.said for process in both]
    assert sum("finished" in process.said for process in both) == 1
    assert tree(workspace / "runs" / "first", *EXACT) == tree(straight / "runs" / "first", *EXACT, "eval")


def test_a_signal_ends_the_wait_for_other_machines(server, workspace, options):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meet = f"127.0.0.1:{free.getsockname()[1]}"
    command = ["train", *options, "--run", "first", "--nodes", "2", "--processes", "1", "--rendezvous", meet]
    process = server.start(workspace, *command)

    def waits() -> bool:
        with socket.socket() as other:
            return other.connect_ex(("127.0.0.1", int(meet.rpartition(":")[2]))) == 0

    process.until(waits)
    process.send(signal.SIGTERM)
    assert process.wait(BOUND) == 128 + signal.SIGTERM, process.said
    assert process.said == "stopped by SIGTERM; run the same command to continue\n"


def test_a_wrong_option_is_one_error(server, workspace, options):
    process = server.run(workspace, "train", *options, "--adapter-width", "33", *TWO, code=2)
    assert process.said.count("error: ") == 1 and "--adapter-width 33 is not a multiple of 16" in process.said
    assert "terminate called" not in process.said


EVAL = ["eval", "--metrics", "psnr", "--no-others", "--gpus", "0"]


def predicted(workspace) -> list[Path]:
    """What is there of every clip that is whole; a folder that begins with a dot is still being written."""
    files = [Path(folder) / "generated.json" for folder, _, names in os.walk(workspace) if "generated.json" in names]
    return [path for path in files if not path.parent.name.startswith(".")]


def test_two_processes_score_what_one_does(server, trained, straight, tmp_path):
    alone = tmp_path / "alone"
    shutil.copytree(trained / "data", alone / "data")
    shutil.copytree(straight / "runs" / "first", alone / "runs" / "first", ignore=shutil.ignore_patterns("eval"))
    server.run(alone, *EVAL)
    process = server.run(trained, *EVAL, *TWO)
    assert "shared by 2 processes" in process.said and process.printed.count("copy last frame") == 1
    assert tree(alone / "runs" / "first" / "eval", "report.html") == tree(trained / "runs" / "first" / "eval", "report.html")
    assert tree(alone / "data", ".lock") == tree(trained / "data", ".lock")


@pytest.mark.parametrize("how", ["killed", "stopped", "deserted"])
def test_an_evaluation_that_ends_early_says_it_once_and_keeps_its_clips(server, trained, how):
    process = server.start(trained, *EVAL, *TWO, "--num", "300")
    process.until(lambda: len(predicted(trained)) >= 3)
    pids = launched(process)
    if how == "killed":
        os.kill(pids[1], signal.SIGKILL)
        assert process.wait(BOUND) == 1, process.said
        assert process.said.count("error: ") == 1 and "process 1 of 2 of this run was killed by SIGKILL" in process.said
    elif how == "stopped":
        process.send(signal.SIGTERM)
        assert process.wait(BOUND) == 128 + signal.SIGTERM, process.said
        assert process.said.count("stopped by SIGTERM") == 1 and "error: " not in process.said, process.said
    else:
        process.send(signal.SIGKILL)
        process.wait()
    assert gone(pids.values()) and "Traceback" not in process.said
    kept = {path: path.stat().st_mtime_ns for path in predicted(trained)}
    server.run(trained, *EVAL)
    assert len(kept) >= 3 and all(path.stat().st_mtime_ns == time for path, time in kept.items())
