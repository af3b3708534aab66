"""Finding the miniature world's things in the pixels of a frame: no training, nothing but what the frame shows.

Things are matched by their own drawing: the squared difference to the drawn thing, over that to the bare table. 1 is a
perfect match, 0 no better than the table. Positions are in world units (48 to a side), as in scene.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import cv2
import numpy as np

from fcacli.mini.drawing import cloth_stamp, thing_stamp
from fcacli.mini.scene import COLOURS, KINDS, SIDE, Thing

FINE = 3
"""Search positions to a pixel of a 48x48 frame."""
SEEN = 0.35
"""Match from which on a thing counts as seen; half hidden by the hand it still has about 0.5."""
FILLED = 0.25
"""Share of a thing's area that must have its hue."""
SIZES = (9.0, 10.5, 12.0, 13.5)
"""Sizes tried where the size is not known."""


@dataclass(frozen=True)
class Found:
    """Where a thing is, and how well it matches there."""

    x: float
    y: float
    match: float


NOWHERE = Found(float("inf"), float("inf"), 0.0)


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
def stamp(kind: str, colour: str, size: float) -> tuple[np.ndarray, np.ndarray]:
    return thing_stamp(kind, colour, size, FINE)


def _place(index: int, side: int) -> float:
    return (index + 0.5) * SIDE / side


def peaks(score: np.ndarray, count: int, apart: float) -> list[Found]:
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
        maps = [match_map(large, stamp(things[i].kind, colour, round(things[i].size, 2))) for i in alike]
        places = [[*peaks(score, len(alike) + 1, 4.0), NOWHERE] for score in maps]
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
        maps = {(kind, size): match_map(large, stamp(kind, colour, size)) for kind in kinds for size in SIZES}
        while True:
            (kind, size), best = max(maps.items(), key=lambda entry: float(entry[1].max()))
            found = peaks(best, 1, 1.0)[0]
            if found.match < SEEN + 0.1:
                break
            out.append(refined(large, kind, colour, size, found))
            axis = (np.arange(len(large)) + 0.5) * SIDE / len(large)
            near = np.hypot(axis[None] - found.x, axis[:, None] - found.y) < 0.8 * size
            for score in maps.values():
                score[near] = -np.inf
    return out


def refined(large: np.ndarray, kind: str, colour: str, size: float, found: Found) -> Thing:
    """The thing with the size that fits best near `found`."""
    best = (-np.inf, size, found)
    for trial in np.arange(size - 1.25, size + 1.5, 0.25):
        score = match_map(large, stamp(kind, colour, round(float(trial), 2)))
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
    return peaks(match_map(enlarged(frame), cloth_stamp(size, style, FINE)), 1, 1.0)[0]
