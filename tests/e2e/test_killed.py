"""kill -9 in prepare, in the encoding, in predict and in eval: the same command again completes what is missing.

Nothing half-written is read, nothing finished is made again, and no temporary file stays.
"""

import json
import random
import shutil
import signal
import time
from pathlib import Path

import pytest
from processes import leftovers, tree

KILLED = -signal.SIGKILL
TEXT = "pushing cup left"
TIMES = ("journal.jsonl", "dataset.json")
"""Hold the order of work and the time of day."""


def stamps(paths) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in paths}


def kill(at: str, **values) -> tuple:
    return (("kill", {"at": at, **values}),)


@pytest.mark.parametrize(
    ("where", "after"),
    [("3.mp4", False), ("3.mp4", True), ("metadata.jsonl", True), ("dataset.json", False)],
    ids=["clip-written", "clip-in-place", "first-split-written", "before-the-last-file"],
)
def test_prepare_killed_at_a_point(server, tmp_path, prepared, raw, where, after):
    command = ["prepare", "ssv2", raw, "--workers", 1]
    server.run(tmp_path, *command, faults=kill("pathlib:Path.replace", where=where, after=after), code=KILLED)
    dataset = tmp_path / "data" / "ssv2"
    assert not (dataset / "dataset.json").exists()
    refused = server.run(tmp_path, "train", "--gpus", 0, code=1)
    assert "ssv2 is being prepared or was interrupted" in refused.said and f"try: fca prepare ssv2 {raw}" in refused.said
    made = stamps(dataset.glob("*/videos/[!.]*.mp4"))
    assert made
    known = dataset.joinpath("journal.jsonl").read_text()
    server.run(tmp_path, *command)
    reference = tree(prepared / "data" / "ssv2", *TIMES, "cache")
    assert tree(dataset, *TIMES) == reference and not leftovers(dataset)
    in_flight = [path for path in made if f"{path.name}" not in known]  # stored, but not yet noted
    assert len(in_flight) <= 1 and stamps(made.keys() - set(in_flight)).items() <= made.items()


def test_prepare_on_processes_killed_at_any_time(server, tmp_path, prepared, raw):
    lot, workers = random.Random(5), []
    for _ in range(2):
        process = server.start(tmp_path, "prepare", "ssv2", raw, "--workers", 2)
        time.sleep(lot.uniform(0.5, 2.5))
        process.send(signal.SIGKILL)
        assert process.wait() in (0, KILLED)
        workers.append(process)
    for process in workers:
        process.wait_for_children()
    server.run(tmp_path, "prepare", "ssv2", raw, "--workers", 1)
    dataset = tmp_path / "data" / "ssv2"
    assert tree(dataset, *TIMES) == tree(prepared / "data" / "ssv2", *TIMES, "cache") and not leftovers(dataset)


@pytest.mark.parametrize(
    ("call", "first", "done"),
    [(2, "captions", "4/5"), (8, "videos", "2/5"), (14, "images", "4/5")],
    ids=["captions", "videos", "images"],
)
def test_encoding_killed(server, workspace, prepared, options, straight, call, first, done):
    """Before the second caption batch is written, before the third video and the second batch of pictures."""
    cache = workspace / "data" / "ssv2" / "cache"
    shutil.rmtree(cache)
    command = ["train", *options, "--run", "first"]
    server.run(workspace, *command, faults=kill("fcacli.data.cache:EncodedStore.put", call=call), code=KILLED)
    (cut,) = (cache / "captions-exact").iterdir()
    cut.write_bytes(cut.read_bytes()[:-7])
    again = server.run(workspace, *command)
    assert tree(cache) == tree(prepared / "data" / "ssv2" / "cache") and not leftovers(cache)
    phases = ("captions", "videos", "images")
    assert f"encode {first}: {done}" in again.said and "encode captions of val: 0/3" in again.said
    assert not any(f"encode {phase}:" in again.said for phase in phases[: phases.index(first)])
    assert tree(workspace / "runs" / "first" / "checkpoints", "optimizer.pt", "state.json") == tree(
        straight / "runs" / "first" / "checkpoints", "optimizer.pt", "state.json"
    )


def test_encoding_killed_while_room_is_made(server, workspace, prepared, options):
    cache = workspace / "data" / "ssv2" / "cache"
    shutil.rmtree(cache)
    command = ["train", *options, "--run", "first"]
    server.run(workspace, *command, faults=kill("pathlib:Path.replace", where=".safetensors", call=3), code=KILLED)
    assert leftovers(cache)
    server.run(workspace, *command)
    assert tree(cache) == tree(prepared / "data" / "ssv2" / "cache") and not leftovers(cache)


def test_predict_killed(server, trained, straight, raw):
    """Before the folder is in place, when it is, and between the old folder's leaving and the new one's coming."""
    command, place = ["predict", next(raw.rglob("7.webm")), TEXT], "pathlib:Path.rename"
    for after, left in ((False, 1), (True, 0), (True, 2)):
        server.run(trained, *command, faults=kill(place, where="predictions", after=after), code=KILLED)
        assert len(leftovers(trained)) == left
    server.run(trained, *command)
    assert [path.name for path in (trained / "predictions").iterdir() if path.is_dir()] == ["pushing-cup-left"]
    assert not leftovers(trained)
    server.run(straight, *command, "--out", trained.parent / f"{trained.name}-expected")
    expected = tree(trained.parent / f"{trained.name}-expected")
    assert tree(trained / "predictions" / "pushing-cup-left") == expected and len(expected) == 19


def test_eval_killed(server, trained, straight):
    server.run(straight, "eval", "--quiet")
    folder = trained / "runs" / "first" / "eval" / "step-000006"
    (trained / "data" / "ssv2" / "cache" / "base-predictions" / ".7-x.1.tmp").mkdir(parents=True)
    server.run(trained, "eval", faults=kill("pathlib:Path.rename", call=4), code=KILLED)
    done = stamps(trained.rglob("generated.json"))
    assert len(done) == 4 and leftovers(folder)  # one of them in the folder that was not yet in place
    done = stamps(path for path in done if ".tmp" not in path.parent.name)
    planted = folder / "clips" / "8"
    shutil.rmtree(planted, ignore_errors=True)
    shutil.copytree(next(iter(done)).parent, planted)
    (planted / "generated.json").write_text((planted / "generated.json").read_text()[:-20])
    done = stamps(path for path in done if path.parent != planted)
    server.run(trained, "eval", faults=kill("fcacli.workflows.evaluate:write_json", where="results.json"), code=KILLED)
    server.run(trained, "eval")
    assert stamps(done) == done and not leftovers(trained)
    expected = straight / "runs" / "first" / "eval" / "step-000006"
    assert json.loads((folder / "results.json").read_text()) == json.loads((expected / "results.json").read_text())
    assert tree(folder) == tree(expected)
