"""The table of `fca benchmark`: from rows/*.json to benchmark.json, benchmark.md and a contact sheet."""

import platform
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from fcacli import __version__
from fcacli.data.dataset import sample_frames
from fcacli.evaluation.report import bootstrap_interval
from fcacli.prediction.pictures import Group, Row, contact_sheet
from fcacli.prediction.video import read_pngs, write_png
from fcacli.training.checkpoint import read_config
from fcacli.workflows.benchmark_arms import ARMS, BASE, COPY, scored_clips
from fcacli.workspace import Workspace, read_json, write_json

SHOWN = 6
"""Clips on the contact sheet."""
HEAD = (
    "",
    "task success",
    "PSNR (dB)",
    "SSIM",
    "given frames (dB)",
    "trained",
    "multiply-adds",
    "s/step",
    "s/clip",
    "seeds x clips",
)


def write_table(workspace: Workspace) -> tuple[list[Path], str]:
    """Write benchmark.json, benchmark.md and the contact sheet from all rows there are; returns them and the table."""
    folder = workspace.root
    rows = [read_json(path) for path in sorted((folder / "rows").glob("*.json"))]
    names = [name for name in (BASE, COPY, *(arm.name for arm in ARMS)) if any(row["arm"] == name for row in rows)]
    lines = [_line(name, [row for row in rows if row["arm"] == name]) for name in names]
    hardware = f"{platform.machine()}, {platform.processor() or platform.system()}"
    about = {"version": __version__, "hardware": hardware, "date": f"{datetime.now():%Y-%m-%d}", "lines": lines}
    write_json(folder / "benchmark.json", about)
    text = _markdown(lines)
    (folder / "benchmark.md").write_text(text + "\n", encoding="utf-8")
    write_png(folder / "contact_sheet.png", contact_sheet(_groups(workspace), "held-out clips, every method"))
    return [folder / name for name in ("contact_sheet.png", "benchmark.md", "benchmark.json")], text


def _line(name: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One method over its seeds: a clip counts with its mean over seeds, the interval is over clips."""
    line: dict[str, Any] = {"name": name, "seeds": len(rows), "clips": len(rows[0]["clips"])}
    for metric in ("success", "target", "others", "psnr", "ssim", "given_psnr"):
        values = [[np.mean(clip[metric]) for clip in row["clips"]] for row in rows if row["clips"][0][metric] is not None]
        if values:
            per_clip = np.mean(np.array(values, np.float64), axis=0)  # (N,)
            of_seeds = [float(np.mean(seed)) for seed in values]
            line[metric] = {"value": float(per_clip.mean()), "interval": bootstrap_interval(per_clip), "seeds": of_seeds}
    for metric in ("psnr", "ssim"):
        line[metric]["per_frame"] = np.mean([[clip[metric] for clip in row["clips"]] for row in rows], axis=(0, 1)).tolist()
    line |= {name: rows[0][name] for name in ("parameters", "multiply_adds", "seconds_per_step", "steps")}
    return line | {"seconds_per_clip": float(np.median([clip["seconds"] for row in rows for clip in row["clips"]]))}


def _markdown(lines: Sequence[Mapping[str, Any]]) -> str:
    text = ["| " + " | ".join(HEAD) + " |", "|---" * len(HEAD) + "|"]
    for line in lines:
        low, high = (100 * bound for bound in line["success"]["interval"])
        given = f"{line['given_psnr']['value']:.1f}" if "given_psnr" in line else ""
        step = f"{line['seconds_per_step']:.2f}" if line["seconds_per_step"] else ""
        cells = [
            line["name"],
            f"{100 * line['success']['value']:.0f} % [{low:.0f}, {high:.0f}]",
            f"{line['psnr']['value']:.2f} [{line['psnr']['interval'][0]:.2f}, {line['psnr']['interval'][1]:.2f}]",
            f"{line['ssim']['value']:.3f}",
            given,
            f"{line['parameters'] / 1e6:.2f} M" if line["parameters"] else "",
            f"{line['multiply_adds'] / 1e9:.2f} G" if line["multiply_adds"] else "",
            step,
            f"{line['seconds_per_clip']:.1f}",
            f"{line['seeds']} x {line['clips']}",
        ]
        text.append("| " + " | ".join(cells) + " |")
    return "\n".join(text)


def _groups(workspace: Workspace) -> list[Group]:
    """The first scored clips by every method of the first setting that has them."""
    arm = ARMS[0]
    config = read_config(workspace.run(arm.runs()[0])).clip
    groups = []
    for clip in scored_clips(workspace.data / arm.data, arm)[:SHOWN]:
        rows = [Row("truth", sample_frames(workspace.data / arm.data, "val", clip, config), arm.given)]
        for name in [BASE, *(arm.runs()[0] for arm in ARMS if arm.frames == 16)]:
            if (folder := workspace.root / "clips" / name / clip.id).is_dir():
                rows.append(Row(name, read_pngs(folder), 0))
        groups.append(Group(clip.text, rows))
    return groups
