"""Two commands in one workspace at the same time: each is right, or refused with one error that says who is at work."""

import json
import shutil

import pytest
from processes import leftovers, steps, tree

EXACT = ("config.json", "speed.jsonl", "optimizer.pt", "state.json", "tensorboard")
TIMES = ("journal.jsonl", "dataset.json")
SLOW_STEPS = ("slow", {"at": "fcacli.training.log:RunLog.computed", "seconds": 0.2})


def assert_refused(process, holder) -> None:
    """One error that names the process at work and what to do."""
    assert process.wait() == 1, process.said
    lines = process.said.splitlines()
    assert lines[-2].startswith("error: ") and f"by process {holder.pid}" in lines[-2] and lines[-1].startswith("  try: ")
    assert "Traceback" not in process.said


def test_two_trainings_of_one_run(server, workspace, straight, options):
    command = ["train", *options, "--run", "first"]
    first = server.start(workspace, *command, faults=(SLOW_STEPS,))
    first.until(lambda: steps(workspace) >= 1)
    second = server.run(workspace, *command, code=1)
    assert_refused(second, first)
    assert "--new" in second.said
    assert first.wait() == 0, first.said
    assert tree(workspace / "runs" / "first", *EXACT) == tree(straight / "runs" / "first", *EXACT, "eval")


def test_two_trainings_of_their_own_share_the_encoding(server, workspace, prepared, options):
    """The second waits while the first encodes, and finds everything there."""
    shutil.rmtree(workspace / "data" / "ssv2" / "cache")
    slow = ("slow", {"at": "fcacli.data.cache:EncodedStore.put", "seconds": 0.1})
    first = server.start(workspace, "train", *options, "--run", "one", faults=(slow,))
    first.until(lambda: list(workspace.rglob("*.safetensors")))
    second = server.start(workspace, "train", *options, "--run", "two")
    assert (first.wait(), second.wait()) == (0, 0), first.said + second.said
    assert (
        f"prepared or encoded by process {first.pid}; waiting for its end" in second.said
        and "encode" not in second.said.replace("encoded by", "")
    )
    assert tree(workspace / "data" / "ssv2" / "cache") == tree(prepared / "data" / "ssv2" / "cache")
    one, two = (tree(workspace / "runs" / name, *EXACT) for name in ("one", "two"))
    assert one == two


def test_two_preparations_of_one_dataset_and_a_training_meanwhile(server, tmp_path, prepared, raw, options):
    command = ["prepare", "ssv2", raw, "--workers", 1]
    first = server.start(tmp_path, *command, faults=(("slow", {"at": "fcacli.data.convert:convert", "seconds": 0.5}),))
    first.until(lambda: list(tmp_path.glob("data/ssv2/*/videos/*.mp4")))
    assert_refused(server.run(tmp_path, *command, code=1), first)
    training = server.run(tmp_path, "train", *options, code=1)
    assert "ssv2 is being prepared or was interrupted" in training.said and "try: fca prepare" in training.said
    assert first.wait() == 0, first.said
    assert tree(tmp_path / "data" / "ssv2", *TIMES) == tree(prepared / "data" / "ssv2", *TIMES, "cache")


def test_preparing_again_beside_a_training(server, workspace, straight, raw, options):
    first = server.start(workspace, "train", *options, "--run", "first", faults=(SLOW_STEPS,))
    first.until(lambda: steps(workspace) >= 1)
    server.run(workspace, "prepare", "ssv2", raw, "--workers", 1)
    (workspace / "data" / "ssv2" / "train" / "videos" / "2.mp4").unlink()  # so that there is something to do
    server.run(workspace, "prepare", "ssv2", raw, "--workers", 1)
    assert first.wait() == 0, first.said
    assert tree(workspace / "runs" / "first", *EXACT) == tree(straight / "runs" / "first", *EXACT, "eval")


def test_two_evaluations_of_one_run(server, trained, straight):
    server.run(straight, "eval", "--quiet")
    first = server.start(trained, "eval", faults=(("slow", {"at": "fcacli.workflows.generation:_generate", "seconds": 0.5}),))
    first.until(lambda: leftovers(trained) or list(trained.rglob("generated.json")))
    assert_refused(server.run(trained, "eval", code=1), first)
    assert first.wait() == 0, first.said
    assert tree(trained / "runs" / "first" / "eval") == tree(straight / "runs" / "first" / "eval")


def test_evaluations_of_two_runs_share_the_predictions_of_the_base(server, trained, straight):
    server.run(straight, "eval", "--quiet")
    shutil.copytree(trained / "runs" / "first", trained / "runs" / "other")
    slow = ("slow", {"at": "fcacli.workflows.generation:write_pngs", "seconds": 0.3})
    both = [server.start(trained, "eval", "--run", name, faults=(slow,)) for name in ("first", "other")]
    assert [process.wait() for process in both] == [0, 0], both[0].said + both[1].said
    expected = _scores(straight, "first")
    for name in ("first", "other"):  # each has a row for the other one, whose adapter is the same
        assert _scores(trained, name) == [*expected, expected[0]]
    assert len(list((trained / "data" / "ssv2" / "cache" / "base-predictions").glob("[!.]*"))) == 2 and not leftovers(trained)


def _scores(workspace, name):
    """The metrics of each row of an evaluation."""
    results = json.loads((workspace / "runs" / name / "eval" / "step-000006" / "results.json").read_text())
    return [row["metrics"] for row in results["rows"]]


@pytest.mark.parametrize("seeds", [(0, 0), (0, 1)], ids=["same", "other-seed"])
def test_two_predictions_of_one_text(server, trained, raw, seeds):
    """Equal ones share a folder, others get one each."""
    both = [server.start(trained, "predict", next(raw.rglob("7.webm")), "up", "--seed", seed) for seed in seeds]
    assert [process.wait() for process in both] == [0, 0], both[0].said + both[1].said
    folders = [path for path in (trained / "predictions").iterdir() if path.is_dir()]
    assert len(folders) == len(set(seeds)) and not leftovers(trained)
    assert {json.loads((path / "prediction.json").read_text())["seeds"][0] for path in folders} == set(seeds)
    for process in both:
        assert "contact_sheet.png" in process.printed
