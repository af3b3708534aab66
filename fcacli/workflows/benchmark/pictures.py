"""The pictures of `fca benchmark`: the same clips by every method, and quality on the way."""

import json
from pathlib import Path

import numpy as np

from fcacli.config import ClipConfig
from fcacli.data.dataset import sample_frames, usable_clips
from fcacli.prediction.pictures import Group, Row, contact_sheet
from fcacli.prediction.plot import Series, line_chart
from fcacli.prediction.video import write_png
from fcacli.workflows.benchmark.arms import ARMS
from fcacli.workflows.benchmark.score import read_strip, row_of
from fcacli.workspace import Workspace, read_json

SHOWN = 6
"""Clips on the contact sheet: the first that are scored."""
PLOTTED = {"psnr": "PSNR of a few held-out clips (dB)", "held_out": "held-out loss"}
"""Figure of a validation -> title of its charts."""


def write_pictures(workspace: Workspace, reserved: int) -> list[Path]:
    """contact_sheet.png and quality.png, where there is something to show."""
    made = []
    if groups := _groups(workspace, reserved):
        made.append(workspace.root / "contact_sheet.png")
        write_png(made[-1], contact_sheet(groups, "held-out clips, every method"))
    if (charts := _charts(workspace)) is not None:
        made.append(workspace.root / "quality.png")
        write_png(made[-1], charts)
    return made


def _groups(workspace: Workspace, reserved: int) -> list[Group]:
    """The first scored clips by every method that predicts 16 frames and is no ablation, with its first seed."""
    arms = [arm for arm in ARMS if arm.group == "main" and row_of(workspace, arm.run(0)).is_file()]
    groups = []
    for clip in usable_clips(workspace.data / arms[0].data, "val", arms[0].frames)[reserved:][:SHOWN] if arms else ():
        strips = {arm: read_strip(workspace.root / "clips" / arm.run(0) / f"{clip.id}.png", arm.frames) for arm in arms}
        _, height, width, _ = strips[arms[0]].shape
        config = ClipConfig(frames=arms[0].frames, init_frames=arms[0].given, width=width, height=height, fps=1)
        truth = sample_frames(workspace.data / arms[0].data, "val", clip, config)
        rows = [Row(arm.title, strip) for arm, strip in strips.items()]
        groups.append(Group(clip.text, [Row("truth", truth, config.init_frames), *rows]))
    return groups


def _charts(workspace: Workspace) -> np.ndarray | None:
    """Figures of the validations of every first seed, against steps and against training seconds; None without any."""
    curves = {arm.name: _curve(workspace.runs / arm.run(0)) for arm in ARMS if arm.many}
    curves = {name: curve for name, curve in curves.items() if len(curve) > 1}
    if not curves:
        return None
    rows = []
    for figure, title in PLOTTED.items():
        charts = []
        for axis, label in (("step", "steps"), ("seconds", "seconds of training")):
            series = [
                Series(name, [point[axis] for point in curve], [point.get(figure, np.nan) for point in curve])
                for name, curve in curves.items()
            ]
            charts.append(line_chart(series, title, label))
        rows.append(np.concatenate(charts, axis=1))
    return np.concatenate(rows)


def _curve(run: Path) -> list[dict[str, float]]:
    """The validations of a run, with the seconds of all its training steps up to there."""
    speed = run / "speed.jsonl"
    if not speed.is_file():
        return []
    seconds = {row["step"]: row["seconds"] for row in map(json.loads, speed.read_text(encoding="utf-8").splitlines())}
    points = []
    for path in sorted(run.glob("validation/step-*/validation.json")):
        step = int(path.parent.name.removeprefix("step-"))
        spent = sum(taken for number, taken in seconds.items() if number <= step)
        points.append({"step": step, "seconds": spent, **read_json(path)})
    return points
