"""The tables of `fca benchmark`: from its rows to lines, one a method, and from these to text, Markdown and benchmark.json.

A clip counts with its mean over seeds; intervals are over clips. Where methods are compared, clip by clip, both were scored
on the same clips.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fcacli.evaluation.frechet import frechet_distance
from fcacli.evaluation.intervals import bootstrap_interval
from fcacli.evaluation.kernel import kernel_distance
from fcacli.events import Message, Report, silent
from fcacli.workflows.benchmark.arms import ARMS, GROUPS, REFERENCE, Arm, Group, compared
from fcacli.workflows.benchmark.choose import tried
from fcacli.workflows.benchmark.company import COMPANY, Company, companies
from fcacli.workflows.benchmark.pictures import write_pictures
from fcacli.workflows.benchmark.text import markdown, text
from fcacli.workspace import Workspace, atomic_file, read_json, write_json

METRICS = ("success", "target", "others", "psnr", "ssim", "given_psnr")
COMPARED = ("success", "psnr")
ENOUGH = 256
"""Clips below which a distance of sets says little; it falls with their number."""
Row = dict[str, Any]


def write_tables(
    workspace: Workspace, settings: Mapping[str, Any], report: Report = silent
) -> tuple[list[Path], str, dict[str, Any]]:
    """Write benchmark.json, benchmark.md and the pictures from all rows there are; returns the files, the table as text, and
    what benchmark.json holds."""
    folder, rows = workspace.root, _rows(workspace)
    lines = [line for group in GROUPS for line in lines_of(group, rows)]
    results: dict[str, Any] = {
        "settings": dict(settings),
        "conditions": _conditions([row for found in rows.values() for row in found]),
        "lines": lines,
        "differences": [found for group in GROUPS for found in differences_of(group, rows)],
        "by_company": by_company(rows, companies(workspace.root / "raw16")) if "fca" in rows else [],
        "tried": tried(workspace),
    }
    if not lines:
        return [], "no run is finished yet", results
    few = min((line["clips"] for line in lines if line["frechet"] is not None), default=ENOUGH)
    if few < ENOUGH:
        report(Message(f"Frechet and kernel distances on {few} clips say little; they want {ENOUGH}", "warning"))
    write_json(folder / "benchmark.json", results)
    with atomic_file(folder / "benchmark.md") as temporary:
        temporary.write_text(markdown(results), encoding="utf-8")
    pictures = write_pictures(workspace, settings["reserved"])
    return [*pictures, folder / "benchmark.md", folder / "benchmark.json"], text(results), results


def _rows(workspace: Workspace) -> dict[str, list[Row]]:
    """The rows of each arm, a seed each, features with them; trials are none."""
    found: dict[str, list[Row]] = {}
    for path in sorted((workspace.root / "rows").glob("*.json")):
        if path.name.startswith("trial-"):
            continue
        row = read_json(path)
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as features:
            row["features"] = (features["predicted"], features["true"])
        found.setdefault(row["arm"], []).append(row)
    return found


def lines_of(group: Group, rows: Mapping[str, Sequence[Row]]) -> list[dict[str, Any]]:
    """The lines of a group that have rows; for ablations the whole FCA on their clips, with their seed, comes first."""
    arms = [arm for arm in ARMS if arm.group == group and arm.name in rows]
    lines = [line_of(arm, rows[arm.name], group) for arm in arms]
    if group == "ablation" and arms and (whole := _as_ablation(rows, rows[arms[0].name])):
        reference = next(arm for arm in ARMS if arm.name == REFERENCE[group])
        return [line_of(reference, whole, group), *lines]
    return lines


def differences_of(group: Group, rows: Mapping[str, Sequence[Row]]) -> list[dict[str, Any]]:
    """One method minus another, of the pairs of a group that were scored on the same clips."""
    found = []
    for one, other in compared(group):
        if one.name not in rows or other.name not in rows:
            continue
        of_other = rows[other.name]
        of_one = _as_ablation(rows, of_other) if group == "ablation" else rows[one.name]
        if of_one and [clip["id"] for clip in of_one[0]["clips"]] == [clip["id"] for clip in of_other[0]["clips"]]:
            by_metric = {metric: difference(of_one, of_other, metric) for metric in COMPARED}
            found.append(
                {"group": group, "one": one.name, "other": other.name, "title": f"{one.title} minus {other.title}"} | by_metric
            )
    return found


def by_company(rows: Mapping[str, Sequence[Row]], of: Mapping[str, Company]) -> list[dict[str, Any]]:
    """Task success of each trained method of 16 frames, two given, and its difference to those that it is compared with, in the
    clips of each company."""
    scores = {
        arm: per_clip(rows[arm.name], "success")
        for arm in ARMS
        if arm.group == "main" and arm.method == "trained" and arm.name in rows
    }
    lines = [(arm.title, score) for arm, score in scores.items()]
    pairs = [(one, other) for one, other in compared("main") if one in scores and other in scores]
    lines += [(f"{one.title} minus {other.title}", scores[one] - scores[other]) for one, other in pairs]
    there = np.array([of[clip["id"]] for clip in rows[next(iter(scores)).name][0]["clips"]])
    return [
        {"title": title}
        | {
            name: mean_and_interval(score[there == name]) | {"clips": int((there == name).sum())}
            for name in COMPANY
            if name in there
        }
        for title, score in lines
    ]


def _as_ablation(rows: Mapping[str, Sequence[Row]], ablation: Sequence[Row]) -> list[Row]:
    """The whole FCA with the seed and on the clips of an ablation."""
    return [cut(row, ablation[0]["clips"]) for row in rows.get(REFERENCE["ablation"], ()) if row["seed"] == 0]


def cut(row: Row, clips: Sequence[Mapping[str, Any]]) -> Row:
    """A row on those clips alone."""
    wanted = {clip["id"] for clip in clips}
    kept = [i for i, clip in enumerate(row["clips"]) if clip["id"] in wanted]
    return row | {"clips": [row["clips"][i] for i in kept], "features": tuple(part[kept] for part in row["features"])}


def line_of(arm: Arm, rows: Sequence[Row], group: Group) -> dict[str, Any]:
    """One method over its seeds."""
    first = rows[0]
    line: dict[str, Any] = {"arm": arm.name, "title": arm.title, "group": group, "seeds": len(rows)}
    line |= {"clips": len(first["clips"]), "steps": first["steps"], "lr": first.get("lr"), "parameters": first["parameters"]}
    line |= {"multiply_adds": first["multiply_adds"], "config": first.get("config")}
    for name in ("seconds_per_step", "seconds_per_clip"):
        values = [row[name] for row in rows if row.get(name) is not None]
        line[name] = float(np.median(values)) if values else None
    for metric in METRICS:
        line[metric] = mean_and_interval(per_clip(rows, metric))
        line[metric]["seeds"] = [float(np.mean([np.mean(clip[metric]) for clip in row["clips"]])) for row in rows]
    for metric in ("psnr", "ssim"):
        line[metric]["per_frame"] = np.mean([[clip[metric] for clip in row["clips"]] for row in rows], axis=(0, 1)).tolist()
    for name, distance in (("frechet", frechet_distance), ("kernel", kernel_distance)):
        line[name] = float(np.mean([distance(*row["features"]) for row in rows])) if line["clips"] > 1 else None
    return line


def per_clip(rows: Sequence[Row], metric: str) -> np.ndarray:
    """(N,): of each clip the mean over its frames and over seeds."""
    return np.array([[np.mean(clip[metric]) for clip in row["clips"]] for row in rows], np.float64).mean(axis=0)


def mean_and_interval(values: np.ndarray) -> dict[str, Any]:
    """Of (N,) clips."""
    return {"value": float(values.mean()), "interval": bootstrap_interval(values)}


def difference(one: Sequence[Row], other: Sequence[Row], metric: str) -> dict[str, Any]:
    """one - other with the paired bootstrap interval: clips are drawn together with both their scores."""
    return mean_and_interval(per_clip(one, metric) - per_clip(other, metric))


def _conditions(rows: Sequence[Row]) -> dict[str, list[str]]:
    """What all rows were made under; more than one entry where they were made under several."""
    names = ("hardware", "date", "version", "commit")
    return {name: sorted({row["made"][name] for row in rows if row["made"][name]}) for name in names}
