"""From scores to what is reported: results.json, the table, and the conditions that every number stands under.

results.json holds the scored method first, as `metrics.<name>.value` with its interval and conditions beside it, then every
row, the clips by name and content, and what is missing.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fcacli.evaluation.frame import SIGMA, WINDOW
from fcacli.evaluation.intervals import RESAMPLES
from fcacli.evaluation.metrics import METRICS
from fcacli.evaluation.scoring import PSNR_CAP, Score, Scored
from fcacli.workspace import atomic_file, slug

ENOUGH = 256
"""Clips below which a distance of sets says little; it falls with their number (PROTOCOL.md, "FVD", on few samples)."""
WIDTH = 118
"""Columns of the terminal that a table may take; wider ones are folded."""


@dataclass(frozen=True)
class Missing:
    """A metric that was not computed."""

    metric: str
    why: str
    how: str
    """The command that helps; "" if none does."""


def frame_conditions(given: int) -> dict[str, Any]:
    """What every per-frame number stands under."""
    return {
        "frames": "predicted" + (f", the {given} given ones do not count" if given else ""),
        "average": "over the predicted frames of a clip, then over clips",
    }


PSNR_CONDITIONS = {"range": "[0, 1], RGB", "per": f"frame; one equal in every pixel counts as {PSNR_CAP:g} dB"}
SSIM_CONDITIONS = {"range": "[0, 1], RGB", "window": f"gaussian {WINDOW}, sigma {SIGMA}, population covariance, float64"}


def conditions(given: int, shapes: Iterable[tuple[int, ...]], source: Mapping[str, str]) -> dict[str, Any]:
    """What all numbers stand under.

    Args:
        shapes: (T, H, W, 3) of the clips.
        source: by side, where the scored pixels come from, and whether a lossy codec stands between.
    """
    shapes = set(shapes)
    lengths = sorted({shape[0] for shape in shapes})
    last = f"{lengths[0] - 1}" if len(lengths) == 1 else f"{lengths[0] - 1} to {lengths[-1] - 1}"
    return {
        "given_frames": given,
        "frames": lengths[0] if len(lengths) == 1 else lengths,
        "scored_frames": f"{given}..{last}" + ("; the given frames do not count" if given else ""),
        "size": ", ".join(sorted({f"{shape[2]}x{shape[1]}" for shape in shapes})),
        "interval": f"95 % percentile bootstrap over clips, {RESAMPLES} resamples",
        "source": dict(source),
    }


# ---------------------------------------------------------------- results.json


def results(
    rows: Sequence[Scored],
    names: Sequence[str],
    content: Sequence[str],
    *,
    conditions: Mapping[str, Any],
    metric_conditions: Mapping[str, Mapping[str, Any]],
    missing: Sequence[Missing],
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """What results.json holds.

    Args:
        content: SHA-256 of each clip's true frames.
        metric_conditions: of each metric.
        about: kind, version, what was scored, protocol and samples.
    """
    plain = [
        {
            "name": row.method.name,
            "role": row.method.role,
            "metrics": {name: _plain(name, score, metric_conditions[name]) for name, score in row.metrics.items()},
            "features": {name: f"features/{file}" for name, file in _feature_files(number, row).items()},
            "about": row.method.about,
        }
        for number, row in enumerate(rows)
    ]
    return {
        **about,
        "clips": len(names),
        "metrics": plain[0]["metrics"],
        "rows": plain,
        "missing": [asdict(one) for one in missing],
        "conditions": dict(conditions),
        "names": list(names),
        "content": list(content),
    }


def _plain(name: str, score: Score, conditions: Mapping[str, Any]) -> dict[str, Any]:
    metric = METRICS[name]
    plain = {
        "value": score.value,
        "interval": score.interval and list(score.interval),
        "title": metric.title,
        "unit": metric.unit,
        "better": metric.better,
        "digits": metric.digits,
        "per_frame": score.per_frame,
        "per_clip": score.per_clip,
        "conditions": dict(conditions),
    }
    more = {"best_of": score.best_of, "truth": score.truth}
    return plain | {name: value for name, value in more.items() if value is not None}


def write_features(folder: Path, rows: Sequence[Scored]) -> None:
    """The features behind each row's distances of sets, as results.json names them: arrays `predicted`, `true` (N, D)."""
    for number, row in enumerate(rows):
        for name, file in _feature_files(number, row).items():
            predicted, true = row.features[name]
            buffer = io.BytesIO()
            np.savez(buffer, predicted=predicted, true=true)
            with atomic_file(folder / "features" / file) as temporary:
                temporary.write_bytes(buffer.getvalue())


def _feature_files(number: int, row: Scored) -> dict[str, str]:
    """Distance of sets -> file; those on the same features share one."""
    files: dict[int, str] = {}
    for name, (predicted, _) in row.features.items():
        files.setdefault(id(predicted), f"{number}-{slug(row.method.name)}-{name}.npz")
    return {name: files[id(predicted)] for name, (predicted, _) in row.features.items()}


# ---------------------------------------------------------------- the table


def table(
    rows: Sequence[Scored],
    clips: int,
    conditions: Mapping[str, Any],
    said: Mapping[str, Mapping[str, Any]],
    missing: Sequence[Missing] = (),
) -> str:
    """The rows as aligned text, every number with its interval; below it what they stand under and what is missing.

    Args:
        said: conditions of each metric.
    """
    columns = [["", *(row.method.name for row in rows)]]
    for name in rows[0].metrics:
        metric = METRICS[name]
        columns.append(
            [
                f"{metric.title} ({metric.unit})" if metric.unit else metric.title,
                *(_cell(row.metrics[name], metric.digits) for row in rows),
            ]
        )
        if name == "psnr":
            curves = [row.metrics[name].per_frame or [0.0] for row in rows]
            columns.append(["first / last frame PSNR", *(f"{curve[0]:.2f} / {curve[-1]:.2f}" for curve in curves)])
    lines = [line for block in _folded(columns) for line in _aligned(block)]
    interval = "; [95 % bootstrap interval over clips]" if clips > 1 else "; one clip says little"
    noun = "clip" if clips == 1 else "clips"
    lines.append(f"{clips} {noun} at {conditions['size']}, frames {conditions['scored_frames']}{interval}")
    lines += _best_of(rows) + _natural(rows[0]) + _about_sets(rows, clips, said) + _not_computed(missing)
    return "\n".join(lines)


def _cell(score: Score, digits: int) -> str:
    if score.interval is None:
        return f"{score.value:.{digits}f}"
    low, high = score.interval
    return f"{score.value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _folded(columns: Sequence[Sequence[str]]) -> list[list[Sequence[str]]]:
    """Columns in blocks of at most WIDTH, the names of the rows in front of each."""
    names, taken = columns[0], 0
    blocks: list[list[Sequence[str]]] = []
    for column in columns[1:]:
        width = 2 + max(map(len, column))
        if not blocks or taken + width > WIDTH:
            blocks.append([names])
            taken = max(map(len, names))
        blocks[-1].append(column)
        taken += width
    return blocks


def _aligned(columns: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in columns]
    rows = zip(*columns, strict=True)
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [text[0], "-" * max(map(len, text)), *text[1:]]


def _best_of(rows: Sequence[Scored]) -> list[str]:
    """A line for each row with several samples: never beside the means, which are what is compared."""
    lines = []
    for row in rows:
        best = {name: score.best_of for name, score in row.metrics.items() if score.best_of}
        if best:
            count = next(iter(best.values()))["samples"]
            cells = (f"{METRICS[name].title} {value['value']:.{METRICS[name].digits}f}" for name, value in best.items())
            lines.append(
                f"{row.method.name}: mean of {count} samples; best of {count}, chosen by the metric: {', '.join(cells)}"
            )
    return lines


def _natural(row: Scored) -> list[str]:
    """What the true videos have of metrics of which neither way is better."""
    true = {METRICS[name]: score.truth for name, score in row.metrics.items() if score.truth is not None}
    cells = (f"{metric.title} {value:.{metric.digits}f}" for metric, value in true.items())
    return [f"neither way is better, the true videos have {', '.join(cells)}"] if true else []


def _about_sets(rows: Sequence[Scored], clips: int, said: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What the distances of sets were computed on, and whether there are enough clips for them."""
    names = [name for name in rows[0].metrics if METRICS[name].of == "set"]
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(str(said[name].get("summary", "")), []).append(METRICS[name].title)
    lines = [f"{', '.join(titles)}: {summary}" for summary, titles in alike.items() if summary]
    if names and clips < ENOUGH:
        few = ", ".join(METRICS[name].title for name in names)
        lines.append(f"{clips} clips are few for {few}: below {ENOUGH} compare only equal numbers of clips")
    return lines


def _not_computed(missing: Sequence[Missing]) -> list[str]:
    """A line for each way to get some."""
    alike: dict[tuple[str, str], list[str]] = {}
    for one in missing:
        reason = ("no weights here", "fca weights") if one.how.startswith("fca weights") else (one.why, one.how)
        alike.setdefault(reason, []).append(METRICS[one.metric].title)
    return [f"not computed: {', '.join(titles)} ({why})" + (f"; {how}" if how else "") for (why, how), titles in alike.items()]
