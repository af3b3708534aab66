"""Methods against the truth, clip by clip: per-frame scores and distances of sets.

N clips, T frames each, the first K given, P = T - K predicted. Videos are uint8 (T, H, W, 3), read one at a time whenever they
are needed, so that memory does not grow with N. Every clip is scored alone: batching, order and workers change nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np

from fcacli.errors import FcaError
from fcacli.evaluation.frame import psnr, ssim
from fcacli.evaluation.intervals import bootstrap_interval
from fcacli.evaluation.metrics import METRICS
from fcacli.events import Report, track

PSNR_CAP = 100.0
"""dB that a frame equal in every pixel counts as in a mean; its PSNR is infinite."""

Frames = Callable[[str], np.ndarray]
"""Name of a clip -> its frames, uint8 (T, H, W, 3)."""
Role = Literal["method", "baseline", "run", "pipeline"]


@dataclass(frozen=True)
class Clips:
    """What is scored: the true frames, and what was said of them."""

    names: Sequence[str]
    truth: Frames
    given: int
    """K."""
    texts: Mapping[str, str]
    """Prompt by name; empty where there are none."""


@dataclass(frozen=True)
class Method:
    """One row: what predicted, and its videos."""

    name: str
    role: Role
    samples: Sequence[Frames]
    """Its predictions of every clip, one or several."""
    about: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FrameScorer:
    """A per-frame metric, ready to use."""

    name: str
    function: Callable[[np.ndarray, np.ndarray, int, str], np.ndarray]
    """(prediction (T, H, W, 3), truth (T, H, W, 3), K, prompt) -> (P,) float64."""
    conditions: dict[str, Any]


class Extractor(Protocol):
    """A network whose features a distance of sets is computed on."""

    identity: str
    """What decides its features: weights and preprocessing."""

    def __call__(self, videos: Sequence[np.ndarray]) -> np.ndarray:
        """Videos uint8 (T, H, W, 3) -> (rows, D) float64, one row a video or one a frame, whatever the others are."""
        ...


class Cache(Protocol):
    """Where features lie, by the content of the frames (`fcacli.evaluation.feature_cache`)."""

    def features(self, extractor: Extractor, names: Sequence[str], video: Frames, report: Report) -> np.ndarray:
        """(rows, D) float64 in the order of `names`."""
        ...


@dataclass(frozen=True)
class SetScorer:
    """A distance between the predicted and the true set, ready to use."""

    name: str
    extractor: Extractor
    distance: Callable[[np.ndarray, np.ndarray], float]
    conditions: dict[str, Any]
    view: Callable[[np.ndarray, int], np.ndarray] = lambda video, given: video
    """What of a video (T, H, W, 3), given its K, the extractor sees."""


@dataclass(frozen=True)
class Score:
    """One metric of one method over N clips; the mean over its samples where it has several."""

    value: float
    interval: tuple[float, float] | None
    """95 % bootstrap interval over clips; None below two clips, and for a distance of sets unless it was asked for."""
    per_frame: list[float] | None = None
    """Mean over clips of each predicted frame, first to last: (P,)."""
    per_clip: list[float] | None = None
    """Mean over the predicted frames of each clip: (N,)."""
    best_of: dict[str, Any] | None = None
    """Where there are several samples: of each clip the one that this metric likes best. Never the headline."""
    truth: float | None = None
    """Of a metric of which neither way is better: what the true videos have."""


@dataclass(frozen=True)
class Scored:
    """One row of the table."""

    method: Method
    metrics: dict[str, Score]
    features: dict[str, tuple[np.ndarray, np.ndarray]]
    """Distance of sets -> features of the first sample and of the truth, (N, D) each, a row a clip in the order of the clips;
    none where each frame has a row of its own."""


# ---------------------------------------------------------------- per frame


def capped_psnr(prediction: np.ndarray, truth: np.ndarray, given: int, text: str) -> np.ndarray:
    """PSNR of the predicted frames (P,), at most PSNR_CAP."""
    return np.minimum(psnr(prediction[given:], truth[given:]), PSNR_CAP)


def ssim_of_predicted(prediction: np.ndarray, truth: np.ndarray, given: int, text: str) -> np.ndarray:
    """SSIM of the predicted frames (P,)."""
    return ssim(prediction[given:], truth[given:])


def score_clip(prediction: np.ndarray, truth: np.ndarray, given: int) -> dict[str, np.ndarray]:
    """PSNR and SSIM of the predicted frames of one clip, the first `given` left out: name -> (P,) float64."""
    functions = {"psnr": capped_psnr, "ssim": ssim_of_predicted}
    return {name: function(prediction, truth, given, "") for name, function in functions.items()}


def copy_last_frame(truth: np.ndarray, given: int) -> np.ndarray:
    """The baseline that repeats the last given frame: uint8 (T, H, W, 3)."""
    still = truth.copy()
    still[given:] = truth[given - 1]
    return still


def score_frames(
    methods: Sequence[Method], clips: Clips, scorers: Sequence[FrameScorer], report: Report
) -> list[dict[str, Score]]:
    """Every method's per-frame metrics: of each method name of metric -> score.

    Raises:
        FcaError: a video cannot be read, or a metric of it is not finite; the clip is named.
    """
    found: list[dict[str, list[list[np.ndarray]]]] = [{s.name: [[] for _ in m.samples] for s in scorers} for m in methods]
    true: dict[str, list[float]] = {s.name: [] for s in scorers if METRICS[s.name].better == "none"}
    for name in track(clips.names, report, "score") if scorers else ():
        truth = clips.truth(name)
        for scorer in scorers:
            if scorer.name in true:
                true[scorer.name].append(float(_values(scorer, truth, truth, clips, name, "truth").mean()))
        for method, scores in zip(methods, found, strict=True):
            for number, sample in enumerate(method.samples):
                prediction = sample(name)
                for scorer in scorers:
                    scores[scorer.name][number].append(_values(scorer, prediction, truth, clips, name, method.name))
    return [{name: summarise(name, samples, true.get(name)) for name, samples in scores.items()} for scores in found]


def _values(scorer: FrameScorer, video: np.ndarray, truth: np.ndarray, clips: Clips, name: str, whose: str) -> np.ndarray:
    """One metric of one clip, (P,) float64.

    Raises:
        FcaError: it is not finite.
    """
    values = np.asarray(scorer.function(video, truth, clips.given, clips.texts.get(name, "")), np.float64)
    if not np.isfinite(values).all():
        raise FcaError(f"{METRICS[scorer.name].title} of clip {name} ({whose}) is not a finite number")
    return values


def summarise(metric: str, samples: Sequence[Sequence[np.ndarray]], true: Sequence[float] | None = None) -> Score:
    """S samples of N clips, (P,) each -> means and interval; where clips differ in length, a frame's mean is over those that
    have it.

    Args:
        true: what the true videos of the clips have.
    """
    by_sample = np.array([[clip.mean() for clip in clips] for clips in samples])  # (S, N)
    per_clip = by_sample.mean(axis=0)  # (N,)
    every = [clip for clips in samples for clip in clips]
    per_frame = [float(np.mean([clip[p] for clip in every if p < len(clip)])) for p in range(max(map(len, every)))]
    best = None
    if len(samples) > 1 and METRICS[metric].better != "none":
        chosen = by_sample.max(axis=0) if METRICS[metric].better == "higher" else by_sample.min(axis=0)
        best = {"samples": len(samples), "value": float(chosen.mean()), "interval": bootstrap_interval(chosen)}
        best["per_clip"] = chosen.tolist()
    natural = None if true is None else float(np.mean(true))
    return Score(float(per_clip.mean()), bootstrap_interval(per_clip), per_frame, per_clip.tolist(), best, natural)


# ---------------------------------------------------------------- sets


Features = tuple[np.ndarray, np.ndarray]
"""Of the predicted and of the true set, (rows, D) float64 each."""


class Interval(Protocol):
    """A bootstrap interval of a distance of sets (`fcacli.evaluation.set_interval`)."""

    def __call__(
        self, distance: Callable[[np.ndarray, np.ndarray], float], x: np.ndarray, y: np.ndarray, *, clips: int
    ) -> tuple[float, float]:
        """Of features (rows, D) each, which belong to so many clips, equally many to each."""
        ...


def score_sets(
    methods: Sequence[Method],
    clips: Clips,
    scorers: Sequence[SetScorer],
    cache: Cache,
    interval: Interval | None,
    report: Report,
) -> list[tuple[dict[str, Score], dict[str, Features]]]:
    """Every method's distances of sets, and the features they were computed on; of several samples the mean distance.

    Args:
        interval: None for none.

    Raises:
        FcaError: a video cannot be read, or its features are not finite; the clip is named.
    """
    found: list[tuple[dict[str, Score], dict[str, Features]]] = [({}, {}) for _ in methods]
    by_extractor: dict[str, list[SetScorer]] = {}
    for scorer in scorers:
        by_extractor.setdefault(scorer.extractor.identity, []).append(scorer)
    for alike in by_extractor.values():
        true = _features(alike[0], clips, clips.truth, cache, report)
        for method, (scores, features) in zip(methods, found, strict=True):
            samples = [_features(alike[0], clips, sample, cache, report) for sample in method.samples]
            for scorer in alike:
                scores[scorer.name] = _distance(scorer, [(sample, true) for sample in samples], interval, len(clips.names))
                if len(true) == len(clips.names):
                    features[scorer.name] = (samples[0], true)
    return found


def _distance(scorer: SetScorer, samples: Sequence[Features], interval: Interval | None, clips: int) -> Score:
    """Mean over samples of distance and interval."""
    value = float(np.mean([scorer.distance(*sample) for sample in samples]))
    if interval is None:
        return Score(value, None)
    low, high = np.mean([interval(scorer.distance, *sample, clips=clips) for sample in samples], axis=0)
    return Score(value, (float(low), float(high)))


def _features(scorer: SetScorer, clips: Clips, videos: Frames, cache: Cache, report: Report) -> np.ndarray:
    return cache.features(scorer.extractor, clips.names, lambda name: scorer.view(videos(name), clips.given), report)


def score(
    methods: Sequence[Method],
    clips: Clips,
    frames: Sequence[FrameScorer],
    sets: Sequence[SetScorer],
    cache: Cache,
    interval: Interval | None,
    report: Report,
) -> list[Scored]:
    """The rows of the table, metrics in the order of METRICS."""
    per_frame = score_frames(methods, clips, frames, report)
    per_set = score_sets(methods, clips, sets, cache, interval, report)
    rows = []
    for method, ours, (theirs, features) in zip(methods, per_frame, per_set, strict=True):
        together = ours | theirs
        rows.append(Scored(method, {name: together[name] for name in METRICS if name in together}, features))
    return rows
