"""`fca compare`: results of runs or of any results files side by side, with the paired difference of every metric."""

import math
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fcacli.errors import FcaError, Misuse, nearest
from fcacli.evaluation.comparison import FEWEST, Comparison, Contestant, common_clips, compare_metrics, noted, unlike
from fcacli.events import Message, Report, silent, track
from fcacli.workspace import Workspace, read_json

FEW = 20
"""Clips below which a bootstrap interval is too narrow."""
METRIC: dict[str, type] = {"title": str, "unit": str, "better": str, "digits": int}
"""What every metric of a results file has beside its value, and of which type."""


def compare(workspace: Workspace, names: Sequence[str], *, anyway: bool = False, report: Report = silent) -> Comparison:
    """Compare the first of `names` with each other one: runs, results files, or folders that hold one.

    Of a single one, its rows are compared: the scored method with each other row.

    Args:
        anyway: compare although conditions differ, on the clips that all have.

    Raises:
        Misuse: one is named twice.
        FcaError: there is no such run or file, a run was not evaluated, a file holds no such results; conditions differ.
    """
    if len(set(names)) < len(names):
        raise Misuse(f"{next(name for name in names if names.count(name) > 1)} is named twice", "fca compare RUN ANOTHER-RUN")
    contestants = _contestants(workspace, names)
    first, *others = contestants
    differ = list(dict.fromkeys(line for other in others for line in unlike(first, other)))
    places = common_clips(contestants)
    if differ and not anyway:
        shared = f"--anyway compares them on the {len(places[0])} clips that all have" if len(places[0]) > 1 else ""
        raise FcaError(f"these were not scored under like conditions: {'; '.join(differ)}", shared)
    if len(places[0]) < 2:
        raise FcaError(
            f"a comparison needs at least two clips that all have, there are {len(places[0])}",
            "score more clips of each: fca eval --split train, or more val clips",
        )
    for line in differ:
        report(Message(f"unlike conditions: {line}", "warning"))
    if len(places[0]) < FEWEST:
        report(Message(f"{len(places[0])} clips are too few: nothing is decided below {FEWEST}", "warning"))
    elif len(places[0]) < FEW:
        report(Message(f"{len(places[0])} clips are few: the intervals are too narrow below {FEW}", "warning"))
    compared = [
        (other, compare_metrics(first, other, (places[0], place), anyway))
        for other, place in track(list(zip(others, places[1:], strict=True)), report, "compare")
    ]
    also = list(dict.fromkeys(f"{other.label}: {line}" for other in others for line in noted(first, other)))
    return Comparison(first, compared, len(places[0]), differ, also)


def _contestants(workspace: Workspace, names: Sequence[str]) -> list[Contestant]:
    """The scored method of each; of a single one, all of its rows."""
    paths = [_results_file(workspace, name, names) for name in names]
    read = [_read(path) for path in paths]
    if len(names) > 1:
        found = zip(names, paths, read, strict=True)
        return [_contestant(f"{name} ({_what(results)})", path, results, 0) for name, path, results in found]
    rows = read[0]["rows"]
    if len(rows) < 2:
        raise FcaError(f"{paths[0]} holds one row only", "fca compare A B")
    return [_contestant(row["name"], paths[0], read[0], number) for number, row in enumerate(rows)]


def _what(results: dict[str, Any]) -> str:
    """Which evaluation it is, as far as it says so: "step 2000, val, 64 clips"."""
    step, split, samples = results.get("step"), results["conditions"].get("split"), results.get("samples", 1)
    parts = [
        *([] if step is None else [f"step {step}"]),
        *([] if split is None else [str(split)]),
        f"{len(results['names'])} clips",
        *([] if samples == 1 else [f"{samples} samples of each"]),
    ]
    return ", ".join(parts)


def _contestant(label: str, path: Path, results: dict[str, Any], number: int) -> Contestant:
    row = results["rows"][number]

    def features(metric: str) -> tuple[np.ndarray, np.ndarray] | None:
        name = (row.get("features") or {}).get(metric)
        return None if name is None else _features(path.parent / str(name), len(results["names"]))

    return Contestant(label, row["name"], results, row["metrics"], features)


# ---------------------------------------------------------------- files


def _results_file(workspace: Workspace, name: str, names: Sequence[str]) -> Path:
    """Of a results file, a folder that holds one, or a run: the default evaluation of its last checkpoint.

    Where a run has none but others (of another split or limit: their folders' names say so), the last checkpoint's, and of
    several of that the one written last.

    Raises:
        FcaError: there is none.
    """
    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir():
        folder, hint = path, "fca eval --pred DIR --real DIR --out DIR"
    elif path.name == name and path.suffix != ".json":
        folder, hint = _run(workspace, name, names), f"fca eval --run {name}"
    else:
        raise FcaError(f"{name} does not exist", "fca compare RUN ANOTHER-RUN, or two results.json")
    found = [folder / "results.json"] if (folder / "results.json").is_file() else [*folder.glob("eval/*/results.json")]
    if not found:
        raise FcaError(f"{name} has not been evaluated: it holds no results.json", hint)
    return max(found, key=_default_and_last)


def _run(workspace: Workspace, name: str, names: Sequence[str]) -> Path:
    """The run of that name, one of the `names` that were given.

    Raises:
        FcaError: it is not there; the hint has runs that are, in the place of every name that is not.
    """
    try:
        return workspace.run(name, "fca compare")
    except Misuse:
        raise
    except FcaError as error:
        if not (others := [run.name for run in reversed(workspace.all_runs())]):
            raise
        right = {given for given in names if given in others or Path(given).exists()}
        others, words = [run for run in others if run not in right], []
        for given in names:
            if given in right:
                words.append(given)
            elif others:
                words.append(nearest(given, others, others[0]))
                others.remove(words[-1])
        raise FcaError(error.message, shlex.join(["fca", "compare", *words])) from None


def _default_and_last(file: Path) -> tuple[bool, int, float, Path]:
    """Greater for the results that a run is compared by."""
    name = re.fullmatch(r"step-(\d+)(.*)", file.parent.name)
    return bool(name and not name[2]), int(name[1]) if name else -1, file.stat().st_mtime, file


def _read(path: Path) -> dict[str, Any]:
    """A results file.

    Raises:
        FcaError: it is none, or one that an earlier version wrote.
    """
    results = read_json(path)
    if not isinstance(results, dict) or not isinstance(results.get("rows"), list) or not results["rows"]:
        raise FcaError(f"{path} is no results file of fca eval", "fca eval writes results.json")
    if not isinstance(results.get("content"), list) or not isinstance(results.get("names"), list):
        raise FcaError(f"{path} does not say which clips it scored: an earlier version wrote it", "run fca eval again")
    count = len(results["names"])
    if len(results["content"]) != count or not isinstance(results.get("conditions"), dict):
        raise FcaError(f"{path} is damaged: contents or conditions are not those of {count} clips", "run fca eval again")
    for row in results["rows"]:
        metrics = row.get("metrics") if isinstance(row, dict) and isinstance(row.get("name"), str) else None
        if not isinstance(metrics, dict) or not all(_is_metric(metric, count) for metric in metrics.values()):
            raise FcaError(f"{path} is damaged: a row has no such scores of {count} clips", "run fca eval again")
    return results


def _is_metric(metric: Any, count: int) -> bool:
    if not isinstance(metric, dict) or not all(isinstance(metric.get(name), kind) for name, kind in METRIC.items()):
        return False
    scores = metric.get("per_clip") or []
    return (
        isinstance(scores, list)
        and len(scores) in (0, count)
        and all(isinstance(score, int | float) and math.isfinite(score) for score in [metric.get("value"), *scores])
        and isinstance(metric.get("conditions", {}), dict)
    )


def _features(path: Path, count: int) -> tuple[np.ndarray, np.ndarray] | None:
    """(N, D) of the predicted and of the true clips; None where they are not there.

    Raises:
        FcaError: the file is damaged.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            predicted, true = (np.asarray(file[name], np.float64) for name in ("predicted", "true"))
    except FileNotFoundError:
        return None
    except Exception as error:  # whatever a damaged archive makes NumPy raise
        raise FcaError(f"{path} is damaged: {error}", "run fca eval again") from None
    if predicted.shape != true.shape or predicted.ndim != 2 or len(true) != count:
        raise FcaError(f"{path} holds no features of {count} clips", "run fca eval again")
    return predicted, true
