"""Which metrics an evaluation computes and with whose weights: decided before anything is predicted; scorers.py loads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from fcacli.errors import FcaError, Misuse
from fcacli.evaluation.frame import WINDOW
from fcacli.evaluation.metrics import METRICS, default_metrics
from fcacli.evaluation.report import Missing
from fcacli.events import Message, Report

I3D_FRAMES, LPIPS_SIDE = 9, 31
"""Frames below which I3D has no output (PROTOCOL.md, "FVD"), and pixels below which LPIPS has none."""


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How to score; what is None follows from the protocol."""

    metrics: tuple[str, ...] | None = None
    """Names from METRICS; None for all whose weights are here."""
    fvd_preset: str | None = None
    i3d: Path | None = None
    """A file of I3D weights, in place of the one that is found."""
    weights_dir: Path | None = None
    """Where weights are looked for first."""
    intervals: bool = True
    """Whether distances of sets get bootstrap intervals; per-frame metrics always do."""
    protocol: Literal["ours", "seer"] = "ours"
    prepend_given: bool = False
    """Whether every method's first frames are replaced by the true given ones."""


def under_protocol(asked: Scoring) -> Scoring:
    """`asked` with what its protocol sets: Seer's includes the true given frames, VideoGPT's FVD and the centred KVD.

    What it asks of clips and sampling is in seer.py.

    Source: PROTOCOL.md, "Protocol of the published numbers" and "KVD".

    Raises:
        Misuse: another FVD preset is asked for with Seer's protocol.
    """
    from fcacli.evaluation.fvd import DEFAULT_PRESET, PRESETS

    if asked.fvd_preset is not None and asked.fvd_preset not in PRESETS:
        raise Misuse(f"--fvd-preset: there is no {asked.fvd_preset!r}; known: {', '.join(PRESETS)}")
    if asked.protocol == "ours":
        return replace(asked, fvd_preset=asked.fvd_preset or DEFAULT_PRESET)
    if asked.fvd_preset not in (None, "videogpt"):
        raise Misuse(f"--protocol seer computes FVD as videogpt does; --fvd-preset {asked.fvd_preset} is another protocol")
    return replace(asked, fvd_preset="videogpt", prepend_given=True)


@dataclass(frozen=True)
class Facts:
    """What the clips are like, as far as a metric cares."""

    given: int
    shapes: Sequence[tuple[int, ...]]
    """(T, H, W, 3) of every clip."""
    prompts: bool
    """Whether every clip has one."""
    mini: bool
    """Whether the miniature predicted them."""


@dataclass(frozen=True)
class Plan:
    """The metrics that can be computed, and whose files they need."""

    asked: Scoring
    facts: Facts
    names: tuple[str, ...]
    weights: Mapping[str, Path]
    checked: Mapping[str, str]
    """Weights -> "verified" or how far they are not."""
    missing: list[Missing]


def plan(asked: Scoring, facts: Facts, report: Report) -> Plan:
    """Which of the metrics asked for, `under_protocol`, can be computed.

    Raises:
        FcaError: metrics were named and none of them can be computed, or weights are not what their source says.
    """
    from fcacli.evaluation.weights import check_weights, find_weights, weights_of

    wanted = asked.metrics or default_metrics(facts.mini)
    if asked.protocol == "seer" and asked.metrics is None:
        wanted = tuple(name for name in METRICS if name in (*wanted, "kvd-seer"))
    if asked.i3d is not None and not asked.i3d.is_file():
        raise FcaError(f"--i3d {asked.i3d} is not a file", "fca weights")
    weights: dict[str, Path] = {}
    missing = {}
    for name in wanted:
        if why := _unfit(name, facts):
            missing[name] = Missing(name, why, "")
            continue
        for kind in weights_of(name):
            found = asked.i3d if kind == "i3d" and asked.i3d else find_weights(kind, asked.weights_dir)
            if found is None:
                missing[name] = Missing(name, f"no {kind} weights here", f"fca weights --fetch {name}")
            else:
                weights[kind] = found
    names = tuple(name for name in wanted if name not in missing)
    if not names:
        first = next(iter(missing.values()))
        raise FcaError(f"{METRICS[first.metric].title} cannot be computed: {first.why}", first.how or "other --metrics")
    used = {kind for name in names for kind in weights_of(name)}
    checked = {kind: check_weights(kind, path) for kind, path in weights.items() if kind in used}
    for one in missing.values():
        report(
            Message(f"{METRICS[one.metric].title} is not computed: {one.why}", "detail" if asked.metrics is None else "warning")
        )
    return Plan(asked, facts, names, weights, checked, list(missing.values()))


def _unfit(name: str, facts: Facts) -> str:
    """Why a metric says nothing about such clips; "" if it does."""
    lengths = {shape[0] for shape in facts.shapes}
    if name in ("clip-text", "mini-clip-text") and not facts.prompts:
        return "the clips have no prompts"
    if name in ("clip-init", "mini-clip-init") and not facts.given:
        return "no frame is given"
    smallest = min(min(shape[1:3]) for shape in facts.shapes)
    if name == "ssim" and smallest < WINDOW:
        return f"SSIM's window is {WINDOW}x{WINDOW} pixels, a clip has {smallest}"
    if name == "lpips" and smallest < LPIPS_SIDE:
        return f"LPIPS needs frames of {LPIPS_SIDE}x{LPIPS_SIDE} pixels, a clip has {smallest}"
    if name == "flickering" and min(lengths) - max(facts.given - 1, 0) < 2:
        return "one frame does not flicker"
    if METRICS[name].of == "set" and len(facts.shapes) < 2:
        return "one clip is no set"
    if name in ("fvd", "kvd", "kvd-seer") and min(lengths) < I3D_FRAMES:
        return f"I3D needs {I3D_FRAMES} frames, a clip has {min(lengths)}"
    if name == "fid" and len(lengths) > 1:
        return "the clips differ in length"
    return ""
