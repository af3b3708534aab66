"""The results of `fca benchmark` to read: in the terminal, and as Markdown with every condition."""

from collections.abc import Mapping, Sequence
from typing import Any

from fcacli.workflows.benchmark.arms import FEW, GROUPS, RATES, TRIAL_SHARE
from fcacli.workflows.benchmark.company import COMPANY

COLUMNS = (
    *("", "task success", "PSNR (dB)", "first / last frame", "SSIM", "given (dB)", "mini-FVD", "mini-KVD"),
    *("trained", "multiply-adds", "s/step", "s/clip", "seeds x clips"),
)
IN_TERMINAL = (0, 1, 2, 4, 5, 6, 8, 10, 11, 12)
"""Columns that fit there."""
IN_FRONT = "of all frames, with the true given ones in front of every row, the base's too"
"""What the distances of sets are computed on."""
Line = Mapping[str, Any]


def text(results: Mapping[str, Any]) -> str:
    """The tables aligned, a group each."""
    parts = []
    for group, title in GROUPS.items():
        if lines := [line for line in results["lines"] if line["group"] == group]:
            rows = [[row[i] for i in IN_TERMINAL] for row in (COLUMNS, *map(cells, lines))]
            widths = [max(len(row[i]) for row in rows) for i in range(len(IN_TERMINAL))]
            shown = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
            parts.append("\n".join([title, shown[0], "-" * max(map(len, shown)), *shown[1:]]))
    trained = {line["arm"] for line in results["lines"] if line["parameters"]}
    differences = [found for found in results["differences"] if found["group"] != "ablation" and found["other"] in trained]
    parts.append("\n".join(f"{found['title']}: {_of_difference(found)}" for found in differences))
    return "\n\n".join(part for part in parts if part) + f"\n[95 % bootstrap interval over clips]; mini-FVD: {IN_FRONT}"


def cells(line: Line) -> list[str]:
    """One line of a table, as COLUMNS."""
    return [
        line["title"],
        _percent(line["success"]),
        _figure(line["psnr"], 2),
        f"{line['psnr']['per_frame'][0]:.1f} / {line['psnr']['per_frame'][-1]:.1f}",
        f"{line['ssim']['value']:.3f}",
        "" if line["arm"].startswith("copy") else f"{line['given_psnr']['value']:.1f}",
        "" if line["frechet"] is None else f"{line['frechet']:.2f}",
        "" if line["kernel"] is None else f"{line['kernel']:.3f}",
        f"{line['parameters'] / 1e6:.2f} M" if line["parameters"] else "",
        f"{line['multiply_adds'] / 1e9:.2f} G" if line["multiply_adds"] else "",
        f"{line['seconds_per_step']:.2f}" if line["seconds_per_step"] is not None else "",
        f"{line['seconds_per_clip']:.2f}" if line["seconds_per_clip"] is not None else "",
        f"{line['seeds']} x {line['clips']}",
    ]


def _percent(score: Mapping[str, Any]) -> str:
    value = f"{100 * score['value']:.0f} %"
    if score["interval"] is None:
        return value
    low, high = (100 * bound for bound in score["interval"])
    return f"{value} [{low:.0f}, {high:.0f}]"


def _figure(score: Mapping[str, Any], digits: int) -> str:
    value = f"{score['value']:.{digits}f}"
    if score["interval"] is None:
        return value
    low, high = score["interval"]
    return f"{value} [{low:.{digits}f}, {high:.{digits}f}]"


def _of_difference(found: Mapping[str, Any]) -> str:
    return f"task success {_percent(found['success']).replace(' %', ' points')}, PSNR {_figure(found['psnr'], 2)} dB"


# ---------------------------------------------------------------- Markdown


def markdown(results: Mapping[str, Any]) -> str:
    """benchmark.md."""
    parts = ["# fca benchmark"]
    for group, title in GROUPS.items():
        lines = [line for line in results["lines"] if line["group"] == group]
        if lines:
            parts += [f"## {title[0].upper()}{title[1:]}", _table(COLUMNS, [cells(line) for line in lines])]
        if differences := [found for found in results["differences"] if found["group"] == group]:
            rows = [[found["title"], _percent(found["success"]).replace(" %", ""), _figure(found["psnr"], 2)]
                    for found in differences]  # fmt: skip
            parts.append(_table(("clip by clip", "task success, points", "PSNR (dB)"), rows))
    if results["by_company"]:
        parts += ["## Task success by what else is on the table", _by_company(results["by_company"])]
    parts += ["## What was tried", _tried(results), "## Conditions", _conditions(results)]
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _by_company(lines: Sequence[Mapping[str, Any]]) -> str:
    """A method or a difference a row, a company a column."""
    there = [name for name in COMPANY if name in lines[0]]
    head = ["%, points", *(f"{COMPANY[name]} ({lines[0][name]['clips']} clips)" for name in there)]
    return _table(head, [[line["title"], *(_percent(line[name]).replace(" %", "") for name in there)] for line in lines])


def _tried(results: Mapping[str, Any]) -> str:
    """Every learning rate that was tried, and those that the tables stand under, with how the arms were trained and sampled."""
    used = _table(
        ("arm", "learning rate", "steps", "optimizer", "denoising steps", "guidance", "sampler"),
        list({line["arm"]: _settings(line) for line in results["lines"] if line["lr"] is not None}.values()),
    )
    if not results["tried"]:
        return f"Nothing was tried (`--choose` does); the learning rates are the base's defaults.\n\n{used}"
    rows = []
    for trial in results["tried"]:
        outcome = [trial["failed"], "", ""] if trial["failed"] else [f"{100 * trial['success']:.0f} %", f"{trial['psnr']:.2f}"]
        rows.append([trial["arm"], f"{trial['lr']:g}", str(trial["steps"]), *outcome, str(trial.get("clips", ""))][:6])
    factors = ", ".join(f"{factor:.2g}" for factor in RATES)
    said = (
        f"Each kind of adapter was trained for 1/{TRIAL_SHARE} of the steps at {factors} times the base's default learning"
        " rate, and beyond where the best was at the edge, and scored on reserved clips; the highest PSNR of predicted frames"
        " was taken."
    )
    heads = ("arm", "learning rate", "steps", "task success", "PSNR (dB)", "clips")
    return f"{said}\n\n{_table(heads, rows)}\n\nThe tables stand under:\n\n{used}"


def _settings(line: Mapping[str, Any]) -> list[str]:
    config = line.get("config") or {}
    sample = config.get("sample", {})
    own = [config.get("optimizer", ""), *(sample.get(name, "") for name in ("steps", "guidance", "sampler"))]
    return [line["arm"], f"{line['lr']:g}", *map(str, [line["steps"], *own])]


def _conditions(results: Mapping[str, Any]) -> str:
    settings, made = results["settings"], results["conditions"]
    said = {name: ", ".join(values) or "unknown" for name, values in made.items()}
    return "\n".join(
        f"- {line}"
        for line in (
            f"fca {said['version']}, commit {said['commit']}, {said['date']}, {said['hardware']}",
            f"base {settings['base']}, fingerprint {settings['base_fingerprint']}",
            f"{settings['steps']} steps on {settings['clips']} clips; all arms see the same clips, noise and time steps in the"
            " same order; clips of objects and backgrounds that the base has not seen",
            f"scored on {settings['scored']} held-out clips ({min(FEW, settings['scored'])} for one part changed), on the"
            " frames that were not given" + "; learning rates were chosen on other clips" * bool(results["tried"]),
            "[95 % bootstrap interval over clips; a clip counts with its mean over seeds; differences are paired by clip]",
            "task success: a pixel program finds the named thing within 3 pixels of its true place in the last frame, all"
            " others within 3 pixels of theirs",
            "given (dB): PSNR of the model's own version of the given frames, which the given ones replace in all others",
            "mini-FVD, mini-KVD: Frechet distance and unbiased cubic-kernel distance on features of the bundled 3-D network,"
            f" {IN_FRONT}, against the true versions of the same clips;"
            " comparable with nothing but each other, at equal numbers of clips;"
            " below 256 clips they say little",
            "multiply-adds: of one call of the model for one clip, what is computed once per clip not counted",
            "s/step, s/clip: median time of a training step, and of predicting one clip with all its denoising steps",
        )
    )
