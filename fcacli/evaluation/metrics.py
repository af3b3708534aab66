"""The metrics by name: what each is called, in which unit, and which way is better; weights.py knows what they need.

"frame": one number per predicted frame, averaged over frames, then over clips. "set": one number for all clips together.
A metric computed by the bundled miniature's networks has a name of its own; its numbers compare with nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fcacli.errors import Misuse


@dataclass(frozen=True)
class Metric:
    """One metric, whatever computes it."""

    title: str
    unit: str
    better: Literal["higher", "lower", "none"]
    """"none" of what is best for a picture that stands still: neither way is better, the true videos' own value is natural."""
    digits: int
    """Decimals that are shown."""
    of: Literal["frame", "set"]
    mini: bool = False
    """Whether the bundled miniature's networks compute it."""


METRICS: dict[str, Metric] = {
    "psnr": Metric("PSNR", "dB", "higher", 2, "frame"),
    "ssim": Metric("SSIM", "", "higher", 4, "frame"),
    "lpips": Metric("LPIPS", "", "lower", 4, "frame"),
    "clip-text": Metric("CLIP text", "", "higher", 4, "frame"),
    "clip-init": Metric("CLIP init", "", "none", 4, "frame"),
    "flickering": Metric("flickering", "", "none", 4, "frame"),
    "fvd": Metric("FVD", "", "lower", 2, "set"),
    "kvd": Metric("KVD", "", "lower", 3, "set"),
    "kvd-seer": Metric("KVD (Seer's)", "", "lower", 3, "set"),
    "fid": Metric("FID", "", "lower", 2, "set"),
    "mini-clip-text": Metric("mini-CLIP text", "", "higher", 4, "frame", mini=True),
    "mini-clip-init": Metric("mini-CLIP init", "", "none", 4, "frame", mini=True),
    "mini-fvd": Metric("mini-FVD", "", "lower", 2, "set", mini=True),
    "mini-kvd": Metric("mini-KVD", "", "lower", 3, "set", mini=True),
}
"""In the order of the table."""

NEVER_UNASKED = ("kvd-seer",)
"""Computed only where it is named: a second reading of a metric that is there."""


def parse_metrics(words: Sequence[str]) -> tuple[str, ...]:
    """Names from "psnr,ssim" or several such, in the order of METRICS.

    Raises:
        Misuse: one is no metric.
    """
    names = {name.strip().lower() for word in words for name in word.split(",") if name.strip()}
    if unknown := sorted(names - set(METRICS)):
        raise Misuse(
            f"--metrics: there is no metric {unknown[0]!r}; known: {', '.join(METRICS)}", "fca eval --metrics psnr,fvd"
        )
    if words and not names:
        raise Misuse(f"--metrics names no metric; known: {', '.join(METRICS)}", "fca eval --metrics psnr,fvd")
    return tuple(name for name in METRICS if name in names)


def default_metrics(mini: bool) -> tuple[str, ...]:
    """What is computed where none is named: every metric whose weights are here, the miniature's own ones on the miniature."""
    return tuple(name for name, metric in METRICS.items() if name not in NEVER_UNASKED and (mini or not metric.mini))
