"""A program that judges videos of the miniature world by their pixels.

`happened` compares a video with the truth; `shows` judges one that was made from a caption alone; `foresee` says from a
given frame and the caption where the named thing will end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from fcacli.mini.finding import (
    FINE,
    SEEN,
    SIZES,
    Found,
    enlarged,
    find,
    find_cloth,
    match_map,
    peaks,
    read_scene,
    refined,
    stamp,
)
from fcacli.mini.scene import DIRECTIONS, KINDS, SIDE, Action, Scene, Thing
from fcacli.mini.world import Clip, simulate

NEAR = 3.0
"""World units within which a thing is at its place."""
MOVED = 2.5
"""World units from which on a generated thing counts as moved."""


@dataclass(frozen=True)
class Verdict:
    """What became of a task."""

    target: bool
    """The named thing is where it should be at the end (or hidden under the cloth there)."""
    others: bool
    """Everything else stayed."""
    distance: float
    """Of the named thing to its true place in the last frame; infinite where it is not seen."""

    @property
    def success(self) -> bool:
        """The task was done."""
        return self.target and self.others


def happened(video: np.ndarray, clip: Clip) -> Verdict:
    """Whether a video (uint8 (T, H, W, 3)) ends as the true clip does: judged on its last frame.

    The named thing within NEAR of its true place (for covering: the cloth there, and nothing of the thing to be seen), the
    others within NEAR of theirs.
    """
    scene, action, last = clip.scene, clip.action, video[-1]
    named, paths = scene.find(action.colour, action.kind), simulate(clip.scene, clip.action, len(video))
    true = [(x, y - height) for x, y, height, _ in paths.things[-1]]
    covers = action.verb == "cover"
    sought = [i for i in range(len(true)) if not (covers and i == named)]
    found = dict(zip(sought, find(last, [scene.things[i] for i in sought]), strict=True))
    distances = {i: _distance(f, true[i]) for i, f in found.items()}
    others = all(distance <= NEAR for i, distance in distances.items() if i != named)
    if not covers:
        return Verdict(distances[named] <= NEAR, others, distances[named])
    assert scene.cloth is not None and paths.cloth is not None
    distance = _distance(find_cloth(last, scene.cloth.size, scene.hand_style), tuple(paths.cloth[-1]))
    return Verdict(distance <= NEAR and not _is_at(last, scene.things[named], true[named]), others, distance)


def _distance(found: Found, place: Sequence[float]) -> float:
    """Infinite for what is not seen."""
    return float(np.hypot(found.x - place[0], found.y - place[1])) if found.match >= SEEN else float("inf")


def _is_at(frame: np.ndarray, thing: Thing, place: Sequence[float]) -> bool:
    """Whether a thing is seen within NEAR of a place, whatever else is there."""
    score = match_map(enlarged(frame), stamp(thing.kind, thing.colour, round(thing.size, 2)))
    axis = (np.arange(len(score)) + 0.5) * SIDE / len(score)
    near = np.hypot(axis[None] - place[0], axis[:, None] - place[1]) <= NEAR
    return bool(score[near].max() >= SEEN)


@dataclass(frozen=True)
class Shown:
    """What a video made from a caption alone shows of it."""

    colour: bool
    """Something of the named colour is there."""
    thing: bool
    """It has the named shape."""
    motion: bool
    """It moves, or is covered or uncovered, as the caption says."""


def shows(video: np.ndarray, action: Action, kinds: Sequence[str] = KINDS["base"]) -> Shown:
    """Judge a video (uint8 (T, H, W, 3)) by its caption: named colour and shape, and the named thing moving the named way.

    Amounts are not judged: a move counts from MOVED on, if it goes more along the named way than across it.
    """
    first, last = (video[-1], video[0]) if action.verb == "uncover" else (video[0], video[-1])
    there = read_scene(first, kinds, [action.colour])
    named = [i for i, thing in enumerate(there) if thing.kind == action.kind]
    if not named:
        return Shown(bool(there), False, False)
    ends = find(last, there)
    return Shown(True, True, any(_moved_as(action, there[i], ends[i]) for i in named))


def _far(found: Found, thing: Thing) -> bool:
    return bool(np.hypot(found.x - thing.x, found.y - thing.y) > NEAR)


def _moved_as(action: Action, thing: Thing, end: Found) -> bool:
    """Whether a thing went from its place to `end` the way an action says."""
    if action.verb in ("cover", "uncover"):
        return end.match < SEEN or _far(end, thing)
    if end.match < SEEN:
        return False
    way = {"lift": (0, -1), "drop": (0, 1)}.get(action.verb) or DIRECTIONS[action.verb][action.direction]
    step = np.array([end.x - thing.x, end.y - thing.y])
    along = float(step @ np.array(way))
    return along > MOVED and along > float(np.linalg.norm(step - along * np.array(way)))


# ---------------------------------------------------------------- from given frames and caption


def foresee(frame: np.ndarray, action: Action, scene: Scene) -> tuple[float, float]:
    """Where the named thing will be in the picture at the end, from one given frame and the caption alone.

    Of `scene` only what no frame says is used: sizes and styles of hand and cloth.
    """
    if action.verb == "uncover":
        assert scene.cloth is not None
        cloth = find_cloth(frame, scene.cloth.size, scene.hand_style)
        return cloth.x, cloth.y
    large = enlarged(frame)
    maps = {size: match_map(large, stamp(action.kind, action.colour, size)) for size in SIZES}
    size, best = max(maps.items(), key=lambda entry: float(entry[1].max()))
    thing = refined(large, action.kind, action.colour, size, peaks(best, 1, 1.0)[0])
    if action.verb == "drop":
        return thing.x, _shadow_below(frame, thing)
    bare = Scene(things=(thing,), hand=(0.0, 0.0, 0.0), cloth=None, table=scene.table, table_seed=0,
                 hand_style=scene.hand_style, camera_seed=0)  # fmt: skip
    if action.verb == "cover":
        return thing.x, thing.y
    x, y, height, _ = simulate(bare, action).things[-1, 0]
    return float(x), float(y - height)


def _shadow_below(frame: np.ndarray, thing: Thing) -> float:
    """The y at which a falling thing will stand: its shadow lies there already."""
    grey = cv2.GaussianBlur(enlarged(frame).mean(-1), (0, 0), FINE / 2)
    r, side = thing.size / 2, len(grey)
    axis = (np.arange(side) + 0.5) * SIDE / side
    best, at = np.inf, thing.y
    for y in np.arange(thing.y + 6.0, SIDE - 0.5 * r, 0.25):
        shrink = 1.0 - (y - thing.y) / 60.0
        across = (axis[None] - thing.x - 0.8) / (0.98 * r * shrink)
        down = (axis[:, None] - y - 0.8 * r) / (0.42 * r * shrink)
        inside, outside = across**2 + down**2 < 1, (across**2 + down**2 > 1.5) & (across**2 + down**2 < 4)
        below = axis[:, None] > thing.y + r * 1.1
        if (inside & below).sum() < 20 or not (outside & below).any():
            continue
        darkness = grey[inside & below].mean() - grey[outside & below].mean()
        if darkness < best:
            best, at = darkness, float(y)
    return at
