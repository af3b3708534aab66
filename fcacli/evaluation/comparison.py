"""Results side by side: what is unlike in their conditions, and the paired difference of every metric.

The first of them is what the others are compared with. A difference is the other's value less the first's.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from fcacli.evaluation.frechet import frechet_distance
from fcacli.evaluation.kernel import kernel_distance, kernel_distance_seer
from fcacli.evaluation.metrics import METRICS
from fcacli.evaluation.paired import Difference, paired_bootstrap, paired_bootstrap_of_sets
from fcacli.evaluation.set_interval import SetDistance

OF_THE_METHOD = ("sampling", "noise", "left_out", "interval")
"""Conditions that may differ: how a method predicts is its own affair, and clips are compared one by one."""
FEWEST = 6
"""Clips below which even differences of one sign in all of them come by chance more often than one time in 20."""
SAME = 1e-6
"""Relative: features whose distance is not the value that was reported belong to something else."""

Features = Callable[[str], tuple[np.ndarray, np.ndarray] | None]
"""Metric -> features of the predicted and of the true clips, (N, D) each; None where they are not there."""


@dataclass(frozen=True)
class Contestant:
    """One row of a results file."""

    label: str
    row: str
    """Its name in that file."""
    results: Mapping[str, Any]
    metrics: Mapping[str, Any]
    features: Features


@dataclass(frozen=True)
class Compared:
    """One metric of one contestant beside the first one's."""

    title: str
    unit: str
    digits: int
    first: float
    value: float
    difference: Difference | None
    """None where only the values are known, or below FEWEST clips."""
    verdict: str
    """"better", "worse" or "undecided"; "" without a difference, or where neither way is better."""
    note: str


@dataclass(frozen=True)
class Comparison:
    """The first contestant and what each other one is beside it."""

    first: Contestant
    others: list[tuple[Contestant, dict[str, Compared]]]
    """Each with its metrics by name."""
    clips: int
    """Those that all have."""
    unlike: list[str]
    """Conditions that differ, where it was told to compare anyway."""
    noted: list[str]
    """What else differs."""


def unlike(first: Contestant, other: Contestant) -> list[str]:
    """Conditions of all numbers that differ, and clips that only one of them has; metrics are another matter."""
    found, clips = [], {one.label: set(clip_keys(one)) for one in (first, other)}
    for one, another in ((first.label, other.label), (other.label, first.label)):
        if lost := clips[one] - clips[another]:
            found.append(f"{len(lost)} of the {len(clips[one])} clips of {one} are not in {another}")
    ours, theirs = ({"protocol": c.results.get("protocol")} | dict(c.results["conditions"]) for c in (first, other))
    return found + [line for line in changed(ours, theirs) if line.split(":")[0] not in OF_THE_METHOD]


def noted(first: Contestant, other: Contestant) -> list[str]:
    """What differs and does not make them unlike."""
    ours, theirs = (
        {"samples": c.results.get("samples", 1), "sampling": c.results["conditions"].get("sampling")} for c in (first, other)
    )
    return changed(ours, theirs)


def changed(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """ "name: ours -> theirs" of every value that differs."""
    names = [*ours, *(name for name in theirs if name not in ours)]
    lines = []
    for name in names:
        a, b = ours.get(name), theirs.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += [f"{name}: {line}" for line in changed(a, b)]
        elif a != b:
            lines.append(f"{name}: {'not said' if a is None else a} -> {'not said' if b is None else b}")
    return lines


def clip_keys(contestant: Contestant) -> list[tuple[str, int]]:
    """What a clip is known by: the SHA-256 of its true frames, and which of the clips with that it is."""
    seen: dict[str, int] = {}
    keys = []
    for content in contestant.results["content"]:
        keys.append((content, seen.get(content, 0)))
        seen[content] = seen.get(content, 0) + 1
    return keys


def common_clips(contestants: Sequence[Contestant]) -> list[np.ndarray]:
    """Of each contestant the places of the clips that all have, (M,); in one order for all."""
    places = [{key: place for place, key in enumerate(clip_keys(one))} for one in contestants]
    shared = [key for key in places[0] if all(key in other for other in places)]
    return [np.array([place[key] for key in shared], int) for place in places]


def compare_metrics(
    first: Contestant, other: Contestant, places: tuple[np.ndarray, np.ndarray], anyway: bool
) -> dict[str, Compared]:
    """Every metric that both have, on the clips at `places` of each; one under other conditions only if `anyway`."""
    compared = {}
    for name, ours in first.metrics.items():
        if (theirs := other.metrics.get(name)) is None:
            continue
        differs = changed(ours.get("conditions") or {}, theirs.get("conditions") or {})
        if differs and not anyway:
            compared[name] = _only_values(ours, theirs, f"not compared: {differs[0]}")
            continue
        if ours.get("per_clip") and theirs.get("per_clip"):
            a, b = (np.array(one["per_clip"], np.float64)[place] for one, place in zip((ours, theirs), places, strict=True))
            compared[name] = _with(name, ours, float(a.mean()), float(b.mean()), paired_bootstrap(a, b), len(a))
        else:
            compared[name] = _of_sets(name, (first, other), (ours, theirs), places)
        if differs:
            compared[name] = replace(
                compared[name], note="; ".join(filter(None, (compared[name].note, f"unlike: {differs[0]}")))
            )
    return compared


def _of_sets(
    name: str,
    both: tuple[Contestant, Contestant],
    metrics: tuple[Mapping[str, Any], Mapping[str, Any]],
    places: tuple[np.ndarray, np.ndarray],
) -> Compared:
    """A distance of sets, from the features beside the results."""
    found = [contestant.features(name) for contestant in both]
    distance = _distance(name, metrics[0])
    if distance is None or None in found:
        return _only_values(*metrics, "not compared: no features of single clips beside the results")
    sets = [features for features in found if features is not None]
    for (predicted, true), contestant, metric in zip(sets, both, metrics, strict=True):
        again = distance(predicted, true)
        if contestant.results.get("samples", 1) == 1 and abs(again - metric["value"]) > SAME * max(1.0, abs(again)):
            return _only_values(*metrics, f"not compared: the features of {contestant.label} give {again:.6g}")
    (a, true), (b, true_again) = ((p[place], t[place]) for (p, t), place in zip(sets, places, strict=True))
    if not np.allclose(true, true_again, rtol=1e-3, atol=1e-3):
        return _only_values(*metrics, "not compared: the features of the true clips differ")
    difference = paired_bootstrap_of_sets(distance, a, b, true)
    return _with(name, metrics[0], distance(a, true), distance(b, true), difference, len(true))


def _distance(name: str, metric: Mapping[str, Any]) -> SetDistance | None:
    """What computes a metric from features; None where features of single clips do not decide it."""
    if name == "fvd":
        from fcacli.evaluation.fvd import PRESETS

        preset = metric["conditions"].get("preset")
        known = PRESETS.get(preset["name"] if isinstance(preset, Mapping) else preset)
        if known is None:
            return None
        return frechet_distance if known.ddof == 1 else partial(frechet_distance, ddof=known.ddof)
    return {
        "mini-fvd": frechet_distance,
        "kvd": kernel_distance,
        "mini-kvd": kernel_distance,
        "kvd-seer": kernel_distance_seer,
    }.get(name)


def _with(name: str, metric: Mapping[str, Any], first: float, value: float, difference: Difference, clips: int) -> Compared:
    way = METRICS[name].better if name in METRICS else metric["better"]  # earlier versions called a still picture better
    better = difference.value > 0 if way == "higher" else difference.value < 0
    verdict, notes = ("better" if better else "worse") if difference.real else "undecided", []
    if way == "none":
        verdict, natural = "", metric.get("truth") if len(metric["per_clip"]) == clips else None
        notes.append("neither way is better")
        notes += [] if natural is None else [f"the true videos have {natural:.{metric['digits']}f}"]
    shown = None if clips < FEWEST else difference
    if shown is None:
        verdict, notes = "", ["too few clips", *notes]
    return Compared(metric["title"], metric["unit"], metric["digits"], first, value, shown, verdict, "; ".join(notes))


def _only_values(ours: Mapping[str, Any], theirs: Mapping[str, Any], note: str) -> Compared:
    return Compared(ours["title"], ours["unit"], ours["digits"], ours["value"], theirs["value"], None, "", note)
