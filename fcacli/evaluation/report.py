"""From per-frame scores to what is reported: means, intervals, curves over the horizon, a table and results.json.

N clips, P predicted frames a clip. The order of clips, their batching and the number of workers change nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fcacli.evaluation.frame import SIGMA, WINDOW, psnr, ssim

PSNR_CAP = 100.0
"""dB that a frame equal in every pixel counts as in a mean; its PSNR is infinite."""
RESAMPLES = 10_000
"""Bootstrap resamples, over clips."""
METRICS = {"psnr": (psnr, "PSNR", "dB", 2), "ssim": (ssim, "SSIM", "", 4)}
"""Metric -> its function of two videos, its name in the table, unit, digits."""


@dataclass(frozen=True)
class Score:
    """One metric of one method over N clips."""

    value: float
    """Mean over the predicted frames of a clip, then over clips."""
    interval: tuple[float, float] | None
    """95 % bootstrap interval over clips; None below two clips."""
    per_frame: list[float]
    """Mean over clips of each predicted frame, first to last: (P,)."""
    per_clip: list[float]
    """Mean over the predicted frames of each clip, in the order of `clips`: (N,)."""


@dataclass(frozen=True)
class Line:
    """One row of the table."""

    name: str
    metrics: dict[str, Score]


def score_clip(prediction: np.ndarray, truth: np.ndarray, given: int) -> dict[str, np.ndarray]:
    """Every metric on the predicted frames of one clip, the first `given` left out: name -> (P,) float64."""
    scores = {name: metric(prediction[given:], truth[given:]) for name, (metric, *_) in METRICS.items()}
    scores["psnr"] = np.minimum(scores["psnr"], PSNR_CAP)
    return scores


def copy_last_frame(truth: np.ndarray, given: int) -> np.ndarray:
    """The baseline that repeats the last given frame: uint8 (T, H, W, 3)."""
    still = truth.copy()
    still[given:] = truth[given - 1]
    return still


def summarise(name: str, clips: Sequence[Mapping[str, np.ndarray]]) -> Line:
    """The row of one method from the scores of its clips, each metric -> (P,)."""
    return Line(name, {metric: _score([clip[metric] for clip in clips]) for metric in METRICS})


def _score(scores: Sequence[np.ndarray]) -> Score:
    """N arrays (P,) -> means and interval; where clips differ in length, a frame's mean is over those that have it."""
    per_clip = np.array([clip.mean() for clip in scores])  # (N,)
    horizon = max(len(clip) for clip in scores)
    per_frame = [float(np.mean([clip[p] for clip in scores if p < len(clip)])) for p in range(horizon)]
    return Score(float(per_clip.mean()), bootstrap_interval(per_clip), per_frame, per_clip.tolist())


def bootstrap_interval(values: np.ndarray, seed: int = 0) -> tuple[float, float] | None:
    """95 % percentile bootstrap interval of the mean of (N,) values; None below two (Efron, 1979)."""
    count = len(values)
    if count < 2:
        return None
    rng = np.random.default_rng(seed)
    means = np.concatenate([values[rng.integers(0, count, (100, count))].mean(axis=1) for _ in range(RESAMPLES // 100)])
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def conditions(given: int, shapes: Iterable[tuple[int, ...]], source: str) -> dict[str, Any]:
    """What every number stands under, said beside it.

    Args:
        shapes: (T, H, W, 3) of the clips.
        source: where the scored pixels come from, and whether a lossy codec stands between.
    """
    shapes = set(shapes)
    lengths = sorted({shape[0] for shape in shapes})
    last = f"{lengths[0] - 1}" if len(lengths) == 1 else f"{lengths[0] - 1} to {lengths[-1] - 1}"
    return {
        "given_frames": given,
        "scored_frames": f"{given}..{last}" + ("; the given frames do not count" if given else ""),
        "size": ", ".join(sorted({f"{shape[2]}x{shape[1]}" for shape in shapes})),
        "range": "[0, 1], RGB",
        "average": "over the predicted frames of a clip, then over clips",
        "psnr": f"per frame; a frame equal in every pixel counts as {PSNR_CAP:g} dB",
        "ssim": f"gaussian window {WINDOW}, sigma {SIGMA}, population covariance, float64",
        "interval": f"95 % percentile bootstrap over clips, {RESAMPLES} resamples",
        "source": source,
    }


def results(
    lines: Sequence[Line], clips: Sequence[str], conditions: Mapping[str, Any], about: Mapping[str, Any]
) -> dict[str, Any]:
    """results.json: the scored method first, as `metrics.<name>.value`, then every row, clip names and conditions."""
    rows = [
        {"name": line.name, "metrics": {name: _plain(name, score) for name, score in line.metrics.items()}} for line in lines
    ]
    return {
        **about,
        "clips": len(clips),
        "metrics": rows[0]["metrics"],
        "rows": rows,
        "conditions": dict(conditions),
        "names": list(clips),
    }


def _plain(name: str, score: Score) -> dict[str, Any]:
    unit = METRICS[name][2]
    return {
        "value": score.value,
        "interval": score.interval,
        "unit": unit,
        "per_frame": score.per_frame,
        "per_clip": score.per_clip,
    }


def table(lines: Sequence[Line], clips: int, conditions: Mapping[str, Any]) -> str:
    """The rows as aligned text, every number with its interval, the conditions below."""
    head = ["", *(f"{title} ({unit})" if unit else title for _, title, unit, _ in METRICS.values()), "first / last frame PSNR"]
    body = []
    for line in lines:
        curve = line.metrics["psnr"].per_frame
        cells = [_cell(line.metrics[name], digits) for name, (_, _, _, digits) in METRICS.items()]
        body.append([line.name, *cells, f"{curve[0]:.2f} / {curve[-1]:.2f}"])
    widths = [max(len(row[i]) for row in [head, *body]) for i in range(len(head))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *body]]
    text.insert(1, "-" * max(len(row) for row in text))
    interval = "; [95 % bootstrap interval over clips]" if clips > 1 else "; one clip says little"
    noun = "clip" if clips == 1 else "clips"
    text.append(f"{clips} {noun} at {conditions['size']}, frames {conditions['scored_frames']}{interval}")
    return "\n".join(text)


def _cell(score: Score, digits: int) -> str:
    if score.interval is None:
        return f"{score.value:.{digits}f}"
    low, high = score.interval
    return f"{score.value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
