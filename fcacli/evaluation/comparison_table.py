"""A comparison as aligned text, and as plain values for JSON."""

from typing import Any

from fcacli.evaluation.comparison import Compared, Comparison
from fcacli.evaluation.paired import RESAMPLES, SET_RESAMPLES


def table(found: Comparison) -> str:
    """A block for each other contestant: a line for each metric."""
    blocks, count = [], 0
    for other, metrics in found.others:
        lines = [["", found.first.label, other.label, "difference [95 % interval]", "p", ""]]
        for one in metrics.values():
            title = f"{one.title} ({one.unit})" if one.unit else one.title
            lines.append([title, f"{one.first:.{one.digits}f}", f"{one.value:.{one.digits}f}", *_told(one)])
            count += one.difference is not None
        widths = [max(len(line[i]) for line in lines) for i in range(5)]
        text = ["  ".join([*(c.ljust(w) for c, w in zip(line, widths, strict=False)), line[5]]).rstrip() for line in lines]
        blocks.append("\n".join([text[0], "-" * max(map(len, text)), *text[1:]]))
    return "\n\n".join([*blocks, _conditions(found, count)])


def _told(one: Compared) -> list[str]:
    if one.difference is None:
        return ["", "", one.note]
    low, high = one.difference.interval
    digits = one.digits
    interval = f"{one.difference.value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
    return [interval, f"{one.difference.p:.2g}", "; ".join(filter(None, (one.verdict, one.note)))]


def _conditions(found: Comparison, count: int) -> str:
    said = found.first.results["conditions"]
    size, frames = (said.get(name, "not said") for name in ("size", "scored_frames"))
    lines = [
        f"{found.clips} clips, the same for all, at {size}, frames {frames}",
        f"difference: the row's value minus that of {found.first.label}; better, worse: than {found.first.label}",
    ]
    if count:
        lines.append(f"interval: paired bootstrap over clips, {RESAMPLES} resamples, of distances of sets {SET_RESAMPLES}")
    if count > 1:
        lines.append(f"{count} comparisons: of 20 without any difference one is expected to look real")
    return "\n".join([*lines, *(f"UNLIKE CONDITIONS: {line}" for line in found.unlike)])


def as_json(found: Comparison) -> dict[str, Any]:
    """Every number with what it stands under."""
    return {
        "clips": found.clips,
        "first": _identity(found.first),
        "others": [
            _identity(other) | {"metrics": {name: _plain(one) for name, one in metrics.items()}}
            for other, metrics in found.others
        ],
        "conditions": found.first.results["conditions"],
        "unlike": found.unlike,
        "noted": found.noted,
        "resamples": {"per_clip": RESAMPLES, "sets": SET_RESAMPLES},
    }


def _identity(one: Any) -> dict[str, Any]:
    kept = ("kind", "run", "checkpoint", "pred", "real", "protocol")
    return {"label": one.label, "row": one.row, **{name: one.results[name] for name in kept if name in one.results}}


def _plain(one: Compared) -> dict[str, Any]:
    plain: dict[str, Any] = {"title": one.title, "unit": one.unit, "first": one.first, "value": one.value}
    if one.difference is not None:
        plain |= {"difference": one.difference.value, "interval": list(one.difference.interval), "p": one.difference.p}
        plain |= {"verdict": one.verdict} if one.verdict else {}
    return plain | ({"note": one.note} if one.note else {})
