"""A program that finds the miniature world's things in the pixels: no training, nothing but what a frame shows.

`find` says where given things are in a frame; `read_scene` says what is there; `happened` judges a video against the truth;
`shows` judges one that was made from a caption alone. Things are matched by their own drawing: the squared difference to
the drawn thing, over that to the bare table. 1 is a perfect match, 0 no better than the table.

Positions are in world units (48 to a side), as in scene.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import cv2
import numpy as np

from fcacli.mini.drawing import cloth_stamp, thing_stamp
from fcacli.mini.scene import COLOURS, DIRECTIONS, KINDS, SIDE, Action, Scene, Thing
from fcacli.mini.world import Clip, simulate

FINE = 3
"""Search positions to a pixel of a 48x48 frame."""
NEAR = 3.0
"""World units within which a thing is at its place."""
SEEN = 0.35
"""Match from which on a thing counts as seen; half hidden by the hand it still has about 0.5."""
FILLED = 0.25
"""Share of a thing's area that must have its hue."""
MOVED = 2.5
"""World units from which on a generated thing counts as moved."""
SIZES = (9.0, 10.5, 12.0, 13.5)
"""Sizes tried where the size is not known."""


@dataclass(frozen=True)
class Found:
    """Where a thing is, and how well it matches there."""

    x: float
    y: float
    match: float


NOWHERE = Found(float("inf"), float("inf"), 0.0)


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


# ---------------------------------------------------------------- matching


def match_map(frame: np.ndarray, stamp: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """How well a drawing fits, by the place of its centre.

    Args:
        frame: float (S, S, 3), 0..255, S = FINE * 48.
        stamp: colour (k, k, 3) and opacity (k, k) of the drawing, k odd.

    Returns:
        (S, S): 1 perfect, 0 as the bare table.
    """
    colour, opacity = stamp
    weight = opacity / opacity.sum()
    ring = cv2.dilate(opacity, np.ones((2 * FINE + 1, 2 * FINE + 1))) - opacity
    ring /= ring.sum()
    table = np.median(frame.reshape(-1, 3), axis=0)
    difference = np.zeros(frame.shape[:2])
    contrast = 0.0
    for c in range(3):
        channel = frame[..., c]
        difference += cv2.filter2D(channel**2, -1, weight, borderType=cv2.BORDER_REPLICATE)
        difference -= 2 * cv2.filter2D(channel, -1, weight * colour[..., c], borderType=cv2.BORDER_REPLICATE)
        difference += (weight * colour[..., c] ** 2).sum()
        contrast += (weight * (colour[..., c] - table[c]) ** 2).sum()
    score = 1.0 - difference / max(contrast, 1e-9)
    same_hue = _of_hue(frame, colour, opacity)
    if same_hue is None:
        return score
    spill, filled = (cv2.filter2D(same_hue, -1, part, borderType=cv2.BORDER_REPLICATE) for part in (ring, weight))
    return np.where(filled < FILLED, np.minimum(score, 0.0), score - 0.5 * spill)


def _of_hue(frame: np.ndarray, colour: np.ndarray, opacity: np.ndarray) -> np.ndarray | None:
    """Which pixels have the drawing's hue, (S, S) of 0..1; None where the drawing is grey, as cloths are."""
    mean = (colour * opacity[..., None]).sum((0, 1)) / opacity.sum()
    axis = mean - mean.mean()
    strength = np.linalg.norm(axis)
    if strength < 20:
        return None
    chroma = frame - frame.mean(-1, keepdims=True)
    along = chroma @ (axis / strength)
    across = np.linalg.norm(chroma - along[..., None] * (axis / strength), axis=-1)
    return np.clip(along / strength, 0, 1) * (across < 0.5 * np.maximum(along, 1e-9))


def enlarged(frame: np.ndarray) -> np.ndarray:
    """uint8 (48, 48, 3), or any square size, to float (S, S, 3)."""
    side = round(FINE * SIDE)
    return cv2.resize(frame, (side, side), interpolation=cv2.INTER_CUBIC).astype(np.float64)


@lru_cache(maxsize=4096)
def _stamp(kind: str, colour: str, size: float) -> tuple[np.ndarray, np.ndarray]:
    return thing_stamp(kind, colour, size, FINE)


def _place(index: int, side: int) -> float:
    return (index + 0.5) * SIDE / side


def _peaks(score: np.ndarray, count: int, apart: float) -> list[Found]:
    """The `count` highest places, at least `apart` world units from each other."""
    score, out = score.copy(), []
    side = score.shape[0]
    axis = (np.arange(side) + 0.5) * SIDE / side
    for _ in range(count):
        row, column = np.unravel_index(np.argmax(score), score.shape)
        found = Found(_place(int(column), side), _place(int(row), side), float(score[row, column]))
        out.append(found)
        score[np.hypot(axis[None] - found.x, axis[:, None] - found.y) < apart] = -np.inf
    return out


# ---------------------------------------------------------------- in a frame


def find(frame: np.ndarray, things: Sequence[Thing]) -> list[Found]:
    """Where each of these things is in a frame (uint8, square); things of one colour are told apart by their shape.

    Place and height of the things given are not looked at.
    """
    large = enlarged(frame)
    out: dict[int, Found] = {}
    for colour in {thing.colour for thing in things}:
        alike = [i for i, thing in enumerate(things) if thing.colour == colour]
        maps = [match_map(large, _stamp(things[i].kind, colour, round(things[i].size, 2))) for i in alike]
        places = [[*_peaks(score, len(alike) + 1, 4.0), NOWHERE] for score in maps]
        best = max(product(*places), key=lambda chosen: _together(chosen, [things[i] for i in alike]))
        out |= dict(zip(alike, best, strict=True))
    return [out[i] for i in range(len(things))]


def _together(chosen: Sequence[Found], things: Sequence[Thing]) -> float:
    """Sum of matches, if no two things share a place."""
    total = sum(found.match for found in chosen)
    for i, a in enumerate(chosen):
        for j, b in enumerate(chosen[:i]):
            if (
                a is not NOWHERE
                and b is not NOWHERE
                and np.hypot(a.x - b.x, a.y - b.y) < 0.3 * (things[i].size + things[j].size)
            ):
                total -= 10.0
    return total


def read_scene(
    frame: np.ndarray, kinds: Sequence[str] = KINDS["adapt"], colours: Sequence[str] = tuple(COLOURS)
) -> list[Thing]:
    """Every thing of these kinds and colours that a frame (uint8, square) shows; y is that of the picture, height 0."""
    large, out = enlarged(frame), []
    for colour in colours:
        maps = {(kind, size): match_map(large, _stamp(kind, colour, size)) for kind in kinds for size in SIZES}
        while True:
            (kind, size), best = max(maps.items(), key=lambda entry: float(entry[1].max()))
            found = _peaks(best, 1, 1.0)[0]
            if found.match < SEEN + 0.1:
                break
            out.append(_refined(large, kind, colour, size, found))
            axis = (np.arange(len(large)) + 0.5) * SIDE / len(large)
            near = np.hypot(axis[None] - found.x, axis[:, None] - found.y) < 0.8 * size
            for score in maps.values():
                score[near] = -np.inf
    return out


def _refined(large: np.ndarray, kind: str, colour: str, size: float, found: Found) -> Thing:
    """The thing with the size that fits best near `found`."""
    best = (-np.inf, size, found)
    for trial in np.arange(size - 1.25, size + 1.5, 0.25):
        score = match_map(large, _stamp(kind, colour, round(float(trial), 2)))
        row, column = (int(v * len(large) / SIDE) for v in (found.y, found.x))
        window = score[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4]
        if window.max() > best[0]:
            r, c = np.unravel_index(np.argmax(window), window.shape)
            place = Found(_place(max(column - 3, 0) + int(c), len(large)), _place(max(row - 3, 0) + int(r), len(large)), 0.0)
            best = (float(window.max()), float(trial), place)
    _, size, place = best
    return Thing(kind=kind, colour=colour, x=place.x, y=place.y, size=size)


def find_cloth(frame: np.ndarray, size: float, style: str) -> Found:
    """Where a cloth of that size is."""
    return _peaks(match_map(enlarged(frame), cloth_stamp(size, style, FINE)), 1, 1.0)[0]


# ---------------------------------------------------------------- in a video


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
    score = match_map(enlarged(frame), _stamp(thing.kind, thing.colour, round(thing.size, 2)))
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
    maps = {size: match_map(large, _stamp(action.kind, action.colour, size)) for size in SIZES}
    size, best = max(maps.items(), key=lambda entry: float(entry[1].max()))
    thing = _refined(large, action.kind, action.colour, size, _peaks(best, 1, 1.0)[0])
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
