"""report.html: the table, the curves and every clip to look at, in one file that needs no network.

page.html.j2 is its text, page.css its look, page.js what it does. Whatever comes from files is escaped by the template
engine, and the page's own policy lets nothing run but page.js: it asks its reader's browser for nothing but itself.
"""

import base64
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fcacli.evaluation.page_charts import AXES, horizon_charts, training_charts, which_way
from fcacli.evaluation.sprite import EXACT_SIDE, QUALITIES, Sprite, make_sprite
from fcacli.workspace import atomic_file

PICTURE_BYTES = 28_000_000
"""Room for the pictures of all clips, base64; the page with everything else stays below 30 MB."""
MOST_CLIPS = 64
"""On the page."""
EXTREMES = 16
"""Of these so many are the worst and so many the best, where there are more; the rest is drawn."""
FEW_CLIPS = 256
"""Below it a distance of sets is mostly its bias; PROTOCOL.md, FVD."""
PARTS = ("clips", "names", "content", "metrics", "rows", "missing", "conditions")
"""Of the results; what else they hold says what was scored."""


@dataclass(frozen=True)
class PageClip:
    """One clip to look at."""

    name: str
    text: str
    videos: dict[str, np.ndarray]
    """"truth", and one under the name of each row: uint8 (T, H, W, 3)."""
    scores: dict[str, dict[str, float]]
    """Row -> metric -> mean over the predicted frames."""


def clips_to_show(results: Mapping[str, Any]) -> list[str]:
    """Names of the clips on the page: all, or the worst, the best, and others by a fixed draw; in the order of `names`.

    Worst and best are the scored method's in the first metric that has a score for each clip.
    """
    names = list(results["names"])
    if len(names) <= MOST_CLIPS:
        return names
    chosen: list[int] = []
    scored = next((metric for metric in results["metrics"].values() if metric.get("per_clip")), None)
    if scored is not None:
        order = np.argsort([np.nan if value is None else value for value in scored["per_clip"]], kind="stable")
        chosen = [*order[:EXTREMES], *order[-EXTREMES:]]
    others = (i for i in np.random.default_rng(0).permutation(len(names)) if i not in set(chosen))
    chosen += [i for i, _ in zip(others, range(MOST_CLIPS - len(chosen)), strict=False)]
    return [names[i] for i in sorted(chosen)]


def write_page(
    path: Path,
    results: Mapping[str, Any],
    clips: Iterable[PageClip],
    *,
    given: int,
    fps: float,
    training: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write the page of what results.json holds, one clip in memory at a time.

    Args:
        clips: those of `clips_to_show`, others are passed over.
        training: rows of the run's log.jsonl.

    Raises:
        FcaError: the videos of a clip differ in size, or the file cannot be written.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    here = Path(__file__).parent
    environment = Environment(
        loader=FileSystemLoader(here), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"amount": _amount, "plain": _plain, "way": which_way}
    script = (here / "page.js").read_text(encoding="utf-8")
    album = Album(results, clips, given)
    page = environment.get_template("page.html.j2").stream(
        results=results,
        title=_title(results),
        about={name: value for name, value in results.items() if name not in PARTS},
        rows=[row["name"] for row in results["rows"]],
        missing=_missing(results),
        sortable=_sortable(results),
        best_of=any(metric.get("best_of") for row in results["rows"] for metric in row["metrics"].values()),
        few=FEW_CLIPS if results["clips"] < FEW_CLIPS and _has_set_metric(results) else 0,
        horizon=horizon_charts(results, given),
        training=training_charts(training),
        axes=AXES,
        album=album,
        given=given,
        fps=fps,
        exact_side=EXACT_SIDE,
        style=(here / "page.css").read_text(encoding="utf-8"),
        script=script,
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        page.dump(file, encoding="utf-8", errors="xmlcharrefreplace")


class Album:
    """Clips with their pictures, made while the page is written: what one leaves of its room goes to those after it."""

    def __init__(self, results: Mapping[str, Any], clips: Iterable[PageClip], given: int) -> None:
        self._rows = [row["name"] for row in results["rows"]]
        self._names = clips_to_show(results)
        self._clips, self._given = clips, given
        self.all = len(results["names"])
        self.count = 0
        self.frames = 0
        """Of the longest clip so far."""
        self._qualities: list[int] = []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        room, quality, waiting = PICTURE_BYTES, QUALITIES[0], set(self._names)
        for clip in self._clips:
            if clip.name not in waiting:
                continue
            sprite = make_sprite(clip.videos, room // len(waiting), quality)
            waiting.remove(clip.name)
            room -= len(sprite.base64)
            quality = _one_better(sprite.quality)
            if sprite.quality is not None:
                self._qualities.append(sprite.quality)
            self.frames = max(self.frames, *map(len, sprite.cells.values()))
            self.count += 1
            yield {"clip": clip, "sprite": sprite, "panels": self._panels(clip, sprite)}

    @property
    def quality(self) -> str:
        """How the pictures so far were stored, in words."""
        if not self._qualities:
            return "lossless"
        low, high = min(self._qualities), max(self._qualities)
        return f"of quality {low}" if low == high else f"of quality {low} to {high}"

    def _panels(self, clip: PageClip, sprite: Sprite) -> list[dict[str, Any]]:
        """Given | prediction | truth | every other row; `row` is its place in the table, None for the first and third."""
        panels = [
            {"title": name, "row": number, "cells": sprite.cells[name], "scores": clip.scores.get(name, {})}
            for number, name in enumerate(self._rows)
            if name in sprite.cells
        ]
        truth: dict[str, Any] = {"title": "truth", "row": None, "cells": sprite.cells["truth"], "scores": {}}
        panels.insert(1, truth)
        if self._given:
            panels.insert(0, truth | {"title": "given", "cells": sprite.cells["truth"][: self._given]})
        return panels


def _one_better(quality: int | None) -> int:
    """Where the next clip begins to try: most are alike."""
    return QUALITIES[0] if quality is None else QUALITIES[max(0, QUALITIES.index(quality) - 1)]


def _title(results: Mapping[str, Any]) -> str:
    if results.get("kind") == "run":
        return f"{results.get('run', 'run')}: {results['rows'][0]['name']}"
    return f"{results.get('pred', 'predictions')} against {results.get('real', 'truth')}"


def _has_set_metric(results: Mapping[str, Any]) -> bool:
    return any(metric.get("per_clip") is None for metric in results["metrics"].values())


def _missing(results: Mapping[str, Any]) -> dict[tuple[str, str], list[str]]:
    """Why a metric is missing and what helps -> the metrics."""
    alike: dict[tuple[str, str], list[str]] = {}
    for one in results.get("missing", ()):
        alike.setdefault((one["why"], one["how"]), []).append(one["metric"])
    return alike


def _sortable(results: Mapping[str, Any]) -> list[dict[str, str]]:
    """The metrics that have a score for each clip and a better way, and which way that is."""
    return [
        {"name": name, "title": metric["title"], "better": metric["better"]}
        for name, metric in results["metrics"].items()
        if metric.get("per_clip") and metric["better"] != "none"
    ]


def _amount(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _plain(value: Any) -> str:
    """A condition in words: lists joined, the fields of an object one after the other."""
    if isinstance(value, Mapping):
        return "; ".join(f"{name}: {_plain(item)}" for name, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
