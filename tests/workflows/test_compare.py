"""Claims about `fca compare`: which results are compared, under which conditions, and what is said of them."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fcacli.cli.app import app
from fcacli.errors import FcaError, Misuse
from fcacli.evaluation.comparison_table import as_json, table
from fcacli.evaluation.frechet import frechet_distance
from fcacli.events import Message
from fcacli.workflows.compare import compare
from fcacli.workspace import Workspace, write_json

CLIPS = 40


def write_results(folder: Path, gain: float = 0.0, seed: int = 1, clips: range = range(CLIPS), **changed: object) -> Path:
    """results.json of a method whose scores lie `gain` above the common ones, and of a baseline far below; features too."""
    rng, common = np.random.default_rng(seed), np.random.default_rng(0)
    hard, true = 25 + 5 * common.standard_normal(100)[clips], common.standard_normal((100, 6))[clips]
    predicted = true + (0.6 - gain) * rng.standard_normal(true.shape)
    psnr = hard + gain + 0.2 * rng.standard_normal(len(clips))
    flicker = 0.9 + 0.01 * rng.standard_normal(len(clips))
    metrics = {
        "psnr": metric("PSNR", psnr, "higher", "dB", {"range": "[0, 1]"}),
        "lpips": metric("LPIPS", 0.5 - psnr / 100, "lower", "", {"network": "alex"}),
        "flickering": metric("flickering", flicker, "higher", "", {}),
        "mini-fvd": metric("mini-FVD", None, "lower", "", {"network": "mini"}, frechet_distance(predicted, true)),
    }
    (folder / "features").mkdir(parents=True)
    np.savez(folder / "features" / "m.npz", predicted=predicted, true=true)
    baseline = {"psnr": metric("PSNR", psnr - 3, "higher", "dB", {"range": "[0, 1]"})}
    results = {
        "kind": "run",
        "run": folder.name,
        "step": 4,
        "protocol": "ours",
        "samples": 1,
        "clips": len(clips),
        "names": [f"c{i}" for i in clips],
        "content": [f"sha{i}" for i in clips],
        "metrics": metrics,
        "rows": [
            {"name": "fca, step 4", "role": "method", "metrics": metrics, "features": {"mini-fvd": "features/m.npz"}},
            {"name": "copy last frame", "role": "baseline", "metrics": baseline, "features": {}},
        ],
        "conditions": {
            "given_frames": 2,
            "size": "48x48",
            "scored_frames": "2..15",
            "split": "val",
            "noise": "",
            "sampling": {"steps": 12},
        },
    }
    for place, value in changed.items():
        holder = results["conditions"] if place in results["conditions"] else results
        holder[place] = value
    write_json(folder / "results.json", results)
    return folder / "results.json"


def metric(title, values, better, unit, conditions, value=None):
    return {
        **{"value": float(np.mean(values)) if value is None else value, "interval": None, "title": title, "unit": unit},
        **{"better": better, "digits": 3, "per_frame": None, "per_clip": None if values is None else values.tolist()},
        "conditions": conditions,
    }


@pytest.fixture
def pair(tmp_path):
    """Two methods, the second one better; and the workspace."""
    return Workspace(tmp_path), str(write_results(tmp_path / "a")), str(write_results(tmp_path / "b", gain=0.3, seed=2))


def test_every_metric_is_compared_clip_by_clip_in_its_own_direction(pair):
    workspace, a, b = pair
    found = compare(workspace, [a, b])
    (_, metrics), *more = found.others
    assert not more and found.clips == CLIPS and found.unlike == []
    ours, theirs = (json.loads(Path(path).read_text())["metrics"] for path in (a, b))
    for name, one in metrics.items():
        assert (one.first, one.value) == pytest.approx((ours[name]["value"], theirs[name]["value"]))
        assert one.difference.value == pytest.approx(theirs[name]["value"] - ours[name]["value"])
    assert {name: one.verdict for name, one in metrics.items()} == {
        **{"psnr": "better", "lpips": "better", "flickering": "", "mini-fvd": "better"}
    }
    assert metrics["lpips"].difference.value < 0
    assert compare(workspace, [b, a]).others[0][1]["psnr"].verdict == "worse"


def test_clips_are_paired_by_content_whatever_their_order_and_names(pair):
    workspace, a, b = pair
    wanted = compare(workspace, [a, b]).others[0][1]["psnr"].difference
    results = json.loads(Path(b).read_text())
    turn = np.random.default_rng(0).permutation(CLIPS)
    for row in results["rows"]:
        for one in row["metrics"].values():
            one["per_clip"] = one["per_clip"] and [one["per_clip"][i] for i in turn]
    results |= {"content": [results["content"][i] for i in turn], "names": [f"other{i}" for i in turn]}
    write_json(Path(b), results)
    features = np.load(Path(b).parent / "features" / "m.npz")
    np.savez(Path(b).parent / "features" / "m.npz", **{name: features[name][turn] for name in features})
    found = compare(workspace, [a, b]).others[0][1]
    assert found["psnr"].difference == wanted
    assert found["mini-fvd"].verdict == "better"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"given_frames": 1}, "given_frames: 2 -> 1"),
        ({"size": "64x64"}, "size: 48x48 -> 64x64"),
        ({"protocol": "seer"}, "protocol: ours -> seer"),
        ({"clips": range(10, 50)}, "10 of the 40 clips of {a} are not in {b}; 10 of the 40 clips of {b} are not in {a}"),
    ],
)
def test_unlike_conditions_are_refused_unless_told(tmp_path, changed, said):
    a, b = str(write_results(tmp_path / "a")), str(write_results(tmp_path / "b", seed=2, **changed))
    said = said.format(a=f"{a} (step 4, val, 40 clips)", b=f"{b} (step 4, val, 40 clips)")
    with pytest.raises(FcaError, match=re.escape(said)) as caught:
        compare(Workspace(tmp_path), [a, b])
    shared = 30 if "clips" in changed else 40
    assert f"--anyway compares them on the {shared} clips" in caught.value.hint
    events = []
    found = compare(Workspace(tmp_path), [a, b], anyway=True, report=events.append)
    assert found.clips == shared and found.unlike == said.split("; ")
    assert all(f"UNLIKE CONDITIONS: {line}" in table(found) for line in found.unlike)
    assert {event.text for event in events if isinstance(event, Message)} >= {f"unlike conditions: {x}" for x in found.unlike}
    if "clips" in changed:
        ours = json.loads(Path(a).read_text())["metrics"]["psnr"]["per_clip"][10:]
        assert found.others[0][1]["psnr"].first == pytest.approx(np.mean(ours))
        assert found.others[0][1]["mini-fvd"].difference is not None


def test_how_a_method_samples_is_said_and_no_hindrance(tmp_path):
    a, b = (str(write_results(tmp_path / n, seed=i, sampling={"steps": 9 + i}, noise=f"seed {i}")) for i, n in enumerate("ab"))
    assert compare(Workspace(tmp_path), [a, b]).noted == [f"{b} (step 4, val, 40 clips): sampling: steps: 9 -> 10"]


def test_a_metric_under_other_conditions_is_not_compared(pair):
    workspace, a, b = pair
    results = json.loads(Path(b).read_text())
    results["rows"][0]["metrics"]["lpips"]["conditions"]["network"] = "vgg"
    write_json(Path(b), results)
    one = compare(workspace, [a, b]).others[0][1]["lpips"]
    assert one.difference is None and one.note == "not compared: network: alex -> vgg"
    one = compare(workspace, [a, b], anyway=True).others[0][1]["lpips"]
    assert one.difference is not None and one.note == "unlike: network: alex -> vgg"


def test_features_that_are_not_those_of_the_value_are_not_used(pair):
    workspace, a, b = pair
    np.savez(Path(b).parent / "features" / "m.npz", **np.load(Path(a).parent / "features" / "m.npz"))
    one = compare(workspace, [a, b]).others[0][1]["mini-fvd"]
    assert one.difference is None and "the features of" in one.note and "0." in table(compare(workspace, [a, b]))
    (Path(b).parent / "features" / "m.npz").unlink()
    assert "no features" in compare(workspace, [a, b]).others[0][1]["mini-fvd"].note
    (Path(b).parent / "features" / "m.npz").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(FcaError, match=r"m\.npz is damaged"):
        compare(workspace, [a, b])


def test_a_still_video_is_no_better_by_what_a_still_video_wins(pair):
    workspace, a, b = pair
    for path, more in ((a, {"truth": 0.91}), (b, {})):  # as earlier versions wrote it, higher would be better
        results = json.loads(Path(path).read_text())
        for row in results["rows"][:1]:
            row["metrics"]["flickering"] |= {"per_clip": [0.9 if path == a else 1.0] * CLIPS, **more}
        write_json(Path(path), results)
    found = compare(workspace, [a, b])
    one = found.others[0][1]["flickering"]
    assert one.difference.value == pytest.approx(0.1) and one.verdict == ""
    assert one.note == "neither way is better; the true videos have 0.910"
    line = next(line for line in table(found).splitlines() if line.startswith("flickering"))
    assert line.endswith("  neither way is better; the true videos have 0.910")
    assert "verdict" not in as_json(found)["others"][0]["metrics"]["flickering"]


def test_of_one_file_the_rows_are_compared(pair):
    workspace, a, _ = pair
    found = compare(workspace, [a])
    assert found.first.label == "fca, step 4" and [other.label for other, _ in found.others] == ["copy last frame"]
    assert found.others[0][1]["psnr"].difference.value == pytest.approx(-3) and set(found.others[0][1]) == {"psnr"}


def test_runs_are_found_by_name_and_folders_by_path(tmp_path):
    workspace = Workspace(tmp_path)
    for name, step in (("one", "step-000002"), ("one", "step-000004"), ("two", "step-000004")):
        write_json(tmp_path / "runs" / name / "config.json", {"created": name})
        write_results(tmp_path / "runs" / name / "eval" / step, seed=len(name) + int(step[-1]), run=f"{name} {step}")
    found = compare(workspace, ["one", "two"])
    assert [found.first.results["run"], found.others[0][0].results["run"]] == ["one step-000004", "two step-000004"]
    folder = tmp_path / "runs" / "one" / "eval" / "step-000002"
    assert compare(workspace, [str(folder), "two"]).first.results["run"] == "one step-000002"


def test_a_run_is_compared_by_the_default_evaluation_of_its_last_checkpoint(tmp_path):
    workspace = Workspace(tmp_path)
    names = ("step-000010", "step-000002", "step-000010-train-2", "step-000012-2")  # written in this order
    for run, left_out in (("one", 0), ("two", 1), ("three", 2)):
        write_json(tmp_path / "runs" / run / "config.json", {"created": run})
        for name in names[left_out:]:
            split, step = "train" if "train" in name else "val", int(name[5:11])
            file = write_results(tmp_path / "runs" / run / "eval" / name, run=run, step=step, split=split)
            os.utime(file, (names.index(name), names.index(name)))
    assert compare(workspace, ["one", "two"]).first.label == "one (step 10, val, 40 clips)"
    assert compare(workspace, ["two", "one"]).first.label == "two (step 2, val, 40 clips)"
    assert compare(workspace, ["three", "one"]).first.label == "three (step 12, val, 40 clips)"


@pytest.mark.parametrize(
    ("names", "proposed"),
    [
        (["2026", "second"], "20260101-101010 second"),
        (["third", "nope"], "third second"),
        (["x", "y"], "third second"),
        (["x", "{tmp}/a.json"], "third {tmp}/a.json"),
        (["20260101-101010", "second", "third", "x"], "20260101-101010 second third"),
    ],
)
def test_in_the_place_of_a_run_that_is_not_there_others_are_proposed(tmp_path, names, proposed):
    for number, name in enumerate(("20260101-101010", "second", "third")):
        write_json(tmp_path / "runs" / name / "config.json", {"created": str(number)})
        write_results(tmp_path / "runs" / name / "eval" / "step-000010")
    write_json(tmp_path / "a.json", {})
    with pytest.raises(FcaError, match="no run") as error:
        compare(Workspace(tmp_path), [name.format(tmp=tmp_path) for name in names])
    assert error.value.hint == f"fca compare {proposed.format(tmp=tmp_path)}"


def test_what_is_wrong_with_what_was_named_is_said(pair, tmp_path):
    workspace, a, b = pair
    write_json(tmp_path / "runs" / "new" / "config.json", {"created": "x"})
    for names, said in (
        ([a, "nothing"], "no run 'nothing'"),
        ([a, "new"], "new has not been evaluated"),
        ([a, "no/such.json"], "no/such.json does not exist"),
        ([a, str(tmp_path)], "has not been evaluated"),
    ):
        with pytest.raises(FcaError, match=said):
            compare(workspace, names)
    with pytest.raises(Misuse, match="is named twice"):
        compare(workspace, [a, b, a])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda r: r.pop("rows"), "is no results file"),
        (lambda r: r.update(rows=[]), "is no results file"),
        (lambda r: r.pop("content"), "an earlier version wrote it"),
        (lambda r: r["content"].pop(), "is damaged"),
        (lambda r: r.update(conditions=None), "is damaged"),
        (lambda r: r["rows"][0].pop("metrics"), "is damaged"),
        (lambda r: r["rows"][0]["metrics"]["psnr"].update(per_clip=[1.0]), "is damaged"),
        (lambda r: r["rows"][0]["metrics"]["psnr"].update(per_clip=["x"] * CLIPS), "is damaged"),
        (lambda r: r["rows"][0]["metrics"]["psnr"].update(value=float("nan")), "is damaged"),
    ],
)
def test_spoiled_results_are_one_error(pair, spoil, said):
    workspace, a, b = pair
    results = json.loads(Path(b).read_text())
    spoil(results)
    write_json(Path(b), results)
    with pytest.raises(FcaError, match=said):
        compare(workspace, [a, b])


def test_fewer_than_two_common_clips_are_refused(tmp_path):
    a, b = write_results(tmp_path / "a"), write_results(tmp_path / "b", clips=range(39, 60))
    with pytest.raises(FcaError, match="not scored under like conditions") as caught:
        compare(Workspace(tmp_path), [str(a), str(b)])
    assert caught.value.hint == ""
    with pytest.raises(FcaError, match="at least two clips that all have, there are 1"):
        compare(Workspace(tmp_path), [str(a), str(b)], anyway=True)


def test_of_five_clips_nothing_is_decided(tmp_path):
    names = [str(write_results(tmp_path / name, gain, clips=range(5))) for name, gain in (("a", 0.0), ("b", 3.0))]
    said = []
    found = compare(Workspace(tmp_path), names, report=said.append)
    for one in found.others[0][1].values():
        assert one.difference is None and one.verdict == "" and one.note.startswith("too few clips")
    assert "5 clips are too few: nothing is decided below 6" in [event.text for event in said if isinstance(event, Message)]
    plain = as_json(found)["others"][0]["metrics"]["psnr"]
    assert not {"p", "interval", "difference", "verdict"} & set(plain) and plain["value"] > plain["first"]
    assert "resamples" not in table(found)
    six = [str(write_results(tmp_path / f"six-{name}", gain, clips=range(6))) for name, gain in (("a", 0.0), ("b", 3.0))]
    assert compare(Workspace(tmp_path), six).others[0][1]["psnr"].verdict == "better"


def test_the_table_and_json_say_the_same(pair, monkeypatch):
    workspace = pair[0]
    monkeypatch.chdir(workspace.root)
    outcome = CliRunner().invoke(app, ["compare", "a", "b"], env={"COLUMNS": "200"})
    assert outcome.exit_code == 0, outcome.output
    found = json.loads(CliRunner().invoke(app, ["compare", "a", "b", "--json"]).stdout)
    one = found["others"][0]["metrics"]["psnr"]
    line = next(line for line in outcome.stdout.splitlines() if line.startswith("PSNR (dB)"))
    low, high = one["interval"]
    assert f"{one['difference']:+.3f} [{low:+.3f}, {high:+.3f}]" in line and line.endswith("better")
    assert found["first"]["label"] == "a (step 4, val, 40 clips)"
    assert found["clips"] == CLIPS and found["conditions"]["given_frames"] == 2
    assert "40 clips, the same for all, at 48x48, frames 2..15" in outcome.stdout
    assert "4 comparisons: of 20 without any difference one is expected to look real" in outcome.stdout
    assert json.dumps(as_json(compare(workspace, ["a", "b"])), allow_nan=False)
