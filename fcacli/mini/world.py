"""The miniature world: what a hand does to toys on a table follows from the given frames and the caption.

`sample_clip(seed, index, domain)` draws a scene and a sentence; `simulate(scene, action, frames)` moves everything exactly;
`render(scene, paths, size)` draws it. Frames 0 and 1 are at rest, the hand arrives at frame 5, acts until frame 14, rests.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from fcacli.mini.drawing import TABLES, render
from fcacli.mini.scene import (
    AMOUNTS,
    COLOURS,
    DIRECTIONS,
    KINDS,
    SIDE,
    Action,
    Cloth,
    Domain,
    Paths,
    Scene,
    Thing,
    Verb,
    parse_caption,
)

__all__ = ["Action", "Clip", "Paths", "Scene", "Thing", "parse_caption", "render", "sample_clip", "simulate"]

EDGE_MARGIN = 3.0
CONTACT, END = 5.0, 14.0
MOST_OTHERS = 3
_OTHERS = (0.15, 0.3, 0.3, 0.25)
"""Shares of clips with 0 .. MOST_OTHERS things beside the target, where there is room."""
_VERBS: dict[Verb, float] = {"push": 0.34, "pull": 0.26, "lift": 0.13, "drop": 0.09, "cover": 0.09, "uncover": 0.09}
ALL_VERBS: tuple[Verb, ...] = tuple(_VERBS)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A scene and the sentence that is acted out in it."""

    scene: Scene
    action: Action

    @property
    def caption(self) -> str:
        """The sentence."""
        return self.action.caption

    def paths(self, frames: int = 16) -> Paths:
        """Exact motion over `frames` frames."""
        return simulate(self.scene, self.action, frames)

    def video(self, size: int = 48, frames: int = 16) -> np.ndarray:
        """uint8 (T, size, size, 3), RGB."""
        return render(self.scene, self.paths(frames), size)


def simulate(scene: Scene, action: Action, frames: int = 16) -> Paths:
    """Exact motion of all things, knowing only the scene at rest and the sentence; ValueError if it names no thing there.

    Up to 17 frames the clock is the frame number; longer clips run the same motion slower.
    """
    clock = np.arange(frames) * (1.0 if frames <= 17 else 15.0 / (frames - 1))  # (T,)
    target = scene.find(action.colour, action.kind)
    thing = scene.things[target]
    state = np.array([[s.x, s.y, s.height, s.angle] for s in scene.things])
    things = np.repeat(state[None], frames, 0)  # (T, n, 4)
    cloth = None
    if action.verb in ("push", "pull"):
        hand, moved = _slide(scene, action, thing, clock)
    elif action.verb == "lift":
        hand, moved = _lift(scene, action, thing, clock)
    elif action.verb == "drop":
        hand, moved = _drop(scene, thing, clock)
    else:
        hand, cloth = _carry_cloth(scene, action, thing, clock)
        moved = things[:, target]
    if cloth is None and scene.cloth is not None:
        cloth = np.repeat([[scene.cloth.x, scene.cloth.y]], frames, 0)
    things[:, target] = moved
    return Paths(things=things, hand=hand, cloth=cloth)


def travel(action: Action, thing: Thing) -> float:
    """How far a pushed or pulled thing goes, in pixels."""
    if action.amount != "edge":
        return AMOUNTS[action.amount]
    dx, dy = DIRECTIONS[action.verb][action.direction]
    along, sign = (thing.x, dx) if dx else (thing.y, dy)
    return (along if sign < 0 else SIDE - along) - thing.size / 2 - EDGE_MARGIN


def _ease(clock: np.ndarray, start: float, end: float) -> np.ndarray:
    """Smoothstep from 0 at `start` to 1 at `end`: (T,)."""
    u = np.clip((clock - start) / (end - start), 0.0, 1.0)
    return u * u * (3.0 - 2.0 * u)


def _approach(start: tuple[float, float, float], goal: tuple[float, float, float], clock: np.ndarray) -> np.ndarray:
    """Hand from rest to the contact pose, turning the short way: (T, 3)."""
    turn = (goal[2] - start[2] + 180.0) % 360.0 - 180.0
    step = np.array([goal[0] - start[0], goal[1] - start[1], turn])
    return np.array(start) + _ease(clock, 1.0, CONTACT)[:, None] * step


def _rest(thing: Thing, clock: np.ndarray) -> np.ndarray:
    return np.repeat([[thing.x, thing.y, thing.height, thing.angle]], len(clock), 0)


def _slide(scene: Scene, action: Action, thing: Thing, clock: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A push has the hand behind the thing, a pull has it in front."""
    dx, dy = DIRECTIONS[action.verb][action.direction]
    r = thing.size / 2 * (0.6 if dx and thing.kind == "bottle" else 0.9)  # to the rim on the hand's side
    pointing = float(np.rad2deg(np.arctan2(dy, dx)))
    if action.verb == "push":
        grip = (thing.x - dx * r, thing.y - dy * r, pointing)
    else:
        grip = (thing.x + dx * 0.6 * r, thing.y + dy * 0.6 * r, pointing + 180.0)
    gone = travel(action, thing) * _ease(clock, CONTACT, END)[:, None] * np.array([dx, dy])  # (T, 2)
    hand, moved = _approach(scene.hand, grip, clock), _rest(thing, clock)
    hand[:, :2] += gone
    moved[:, :2] += gone
    return hand, moved


def _top(thing: Thing) -> tuple[float, float, float]:
    """The grip from above; a bottle is held by its cap."""
    above = 1.0 if thing.kind == "bottle" else 0.6
    return thing.x, thing.y - thing.height - above * thing.size / 2, 90.0


def _lift(scene: Scene, action: Action, thing: Thing, clock: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hand, moved = _approach(scene.hand, _top(thing), clock), _rest(thing, clock)
    moved[:, 2] = AMOUNTS[action.amount] * _ease(clock, CONTACT, END)
    hand[:, 1] -= moved[:, 2]
    return hand, moved


def _fall(height: float, since: np.ndarray) -> np.ndarray:
    """Height above the table of a thing let go `since` frames ago: (T,)."""
    return np.maximum(height - 0.9 * np.maximum(since, 0.0) ** 2, 0.0)


def _drop(scene: Scene, thing: Thing, clock: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    moved = _rest(thing, clock)
    moved[:, 2] = _fall(thing.height, clock - 3.0)
    return np.repeat([scene.hand], len(clock), 0), moved


def _carry_cloth(scene: Scene, action: Action, thing: Thing, clock: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cover: the cloth goes from the hand's place to the thing, the hand goes back. Uncover: the hand fetches it."""
    if scene.cloth is None:
        raise ValueError(f"{action.caption!r} needs a cloth in the scene")
    grip = np.array([0.0, -0.4 * scene.cloth.size])  # fingertip relative to the cloth's centre
    over = np.array([thing.x, thing.y])
    home = np.array(scene.hand[:2])
    if action.verb == "cover":
        carried = home + _ease(clock, 1.0, 9.0)[:, None] * (over + grip - home)  # (T, 2)
        back = _ease(clock, 9.5, END)[:, None]
        hand, cloth = carried + back * (home - over - grip), carried - grip
    else:
        fetch, back = _ease(clock, 1.0, CONTACT)[:, None], _ease(clock, CONTACT, END - 1)[:, None]
        hand = home + (fetch - back) * (over + grip - home)
        cloth = over + back * (home - over - grip)
    angle = np.full((len(clock), 1), scene.hand[2])
    return np.concatenate([hand, angle], 1), cloth


def sample_clip(
    seed: int, index: int, domain: Domain = "base", verbs: tuple[Verb, ...] = ALL_VERBS, others: int = MOST_OTHERS
) -> Clip:
    """Clip number `index` of a seed, the same for ever: one of `verbs` acted out, at most `others` things beside the target."""
    rng = np.random.default_rng([seed, index, ("base", "adapt").index(domain)])
    while True:
        clip = _try_clip(rng, domain, verbs, others)
        if clip is not None:
            return clip


def _try_clip(rng: np.random.Generator, domain: Domain, verbs: tuple[Verb, ...], others: int) -> Clip | None:
    """One attempt: sentence, target, distractors, hand; None where something finds no place."""
    action = _sample_action(rng, domain, verbs)
    r = rng.uniform(5.0, 7.0)
    height = rng.uniform(9.0, 15.0) if action.verb == "drop" else 0.0
    x, y = rng.uniform(r + 3, SIDE - r - 3), rng.uniform(r + 3, SIDE - r - 3)
    angle = 0.0 if action.verb in ("cover", "uncover") else float(rng.normal(0, 4))
    target = Thing(kind=action.kind, colour=action.colour, x=x, y=y, size=2 * r, angle=angle, height=height)
    swept = _swept(action, target)
    if swept is None:
        return None
    things = [target]
    for _ in range(min(others, rng.choice(len(_OTHERS), p=_OTHERS))):
        other = _sample_distractor(rng, things, swept, domain)
        if other is None:
            return None
        things.append(other)
    style: Literal["bare", "glove"] = "bare" if domain == "base" else "glove"
    table = str(rng.choice(TABLES[domain]))
    scene = Scene(things=tuple(things), hand=_top(target), cloth=None, table=table,
                  table_seed=int(rng.integers(2**31)), hand_style=style, camera_seed=int(rng.integers(2**31)))  # fmt: skip
    placed = scene if action.verb == "drop" else _with_hand(rng, scene, action)
    if placed is None:
        return None
    order = rng.permutation(len(things))
    return Clip(scene=replace(placed, things=tuple(things[i] for i in order)), action=action)


def _sample_action(rng: np.random.Generator, domain: Domain, verbs: tuple[Verb, ...]) -> Action:
    shares = np.array([_VERBS[verb] for verb in verbs])
    verb: Verb = rng.choice(list(verbs), p=shares / shares.sum() if len(verbs) < len(_VERBS) else shares)
    kinds = KINDS[domain]
    weight = np.array([2.0 if kind == "star" else 1.0 for kind in kinds])
    kind = str(rng.choice(kinds, p=weight / weight.sum()))
    direction, amount = "", ""
    if verb in DIRECTIONS:
        direction = str(rng.choice(list(DIRECTIONS[verb])))
        amount = str(rng.choice([*AMOUNTS, "edge"], p=[0.25, 0.35, 0.2, 0.2]))
    elif verb == "lift":
        direction, amount = "up", str(rng.choice(["", "slightly"], p=[0.6, 0.4]))
    colour = str(rng.choice(list(COLOURS)))
    return Action(verb=str(verb), colour=colour, kind=kind, direction=direction, amount=amount)  # type: ignore[arg-type]


def _swept(action: Action, thing: Thing) -> np.ndarray | None:
    """Places (k, 2) that the target passes; None where it or the hand that must show would leave the picture."""
    r, here = thing.size / 2, np.array([thing.x, thing.y])
    if action.verb in DIRECTIONS:
        step = np.array(DIRECTIONS[action.verb][action.direction])
        gone = travel(action, thing)
        end = here + gone * step
        start = here - step * (r + 5) if action.verb == "push" else here
        inside = (end > r + EDGE_MARGIN - 1e-6).all() and (end < SIDE - r - EDGE_MARGIN + 1e-6).all()
        seen = (start > 0).all() and (start < SIDE).all()
        if (gone < 7 and action.amount == "edge") or not inside or not seen:
            return None
        return here + np.linspace(0, 1, 7)[:, None] * (gone * step)
    rise = {"lift": AMOUNTS.get(action.amount, 0.0), "drop": thing.height}.get(action.verb, 0.0)
    if thing.y - rise < r + 7:
        return None
    return here - np.linspace(0, 1, 5)[:, None] * np.array([0.0, rise])


def _sample_distractor(rng: np.random.Generator, things: list[Thing], swept: np.ndarray, domain: Domain) -> Thing | None:
    """A thing off the target's way, often sharing its colour or its kind, never both with any other."""
    target, taken = things[0], {thing.name for thing in things}
    for _ in range(25):
        share = rng.uniform()
        colour = target.colour if share < 0.4 else str(rng.choice(list(COLOURS)))
        kind = target.kind if 0.4 <= share < 0.8 else str(rng.choice(KINDS[domain]))
        r = rng.uniform(4.5, 6.5)
        x, y = rng.uniform(r + 1.5, SIDE - r - 1.5, 2)
        apart = np.hypot(*(swept - [x, y]).T) > r + target.size / 2 + 1.5
        others = all(np.hypot(o.x - x, o.y - y) > r + o.size / 2 + 1.5 for o in things[1:])
        if f"{colour} {kind}" not in taken and apart.all() and others:
            return Thing(kind=kind, colour=colour, x=float(x), y=float(y), size=2 * r, angle=float(rng.normal(0, 4)))
    return None


def _with_hand(rng: np.random.Generator, scene: Scene, action: Action) -> Scene | None:
    """The scene with the hand (and cloth) resting at a free place near the border, away from the target."""
    target = scene.things[0]
    cloth_size = 1.4 * target.size + 1.0
    for _ in range(30):
        along, inside = rng.uniform(9, SIDE - 9), rng.uniform(9.5, 11.5)
        side = int(rng.integers(4))
        pose = [(inside, along, 0.0), (along, inside, 90.0), (SIDE - inside, along, 180.0), (along, SIDE - inside, -90.0)][side]
        cloth = None
        if action.verb in ("cover", "uncover"):
            pose = (along, inside, 90.0)
            cloth = Cloth(x=along, y=inside + 0.4 * cloth_size, size=cloth_size)
        back = np.deg2rad(pose[2])
        body = [np.array([pose[0] - d * np.cos(back), pose[1] - d * np.sin(back)]) for d in (1.5, 6.0)]
        reach = [(point, 4.5) for point in body] + ([(np.array([cloth.x, cloth.y]), cloth.size / 2)] if cloth else [])
        free = all(
            np.hypot(*(point - [s.x, s.y])) > s.size / 2 + radius + (4.0 if s is target else 0.0)
            for point, radius in reach
            for s in scene.things
        )
        if free:
            if cloth and action.verb == "uncover":
                cloth = Cloth(x=target.x, y=target.y, size=cloth_size)
            return replace(scene, hand=tuple(float(v) for v in pose), cloth=cloth)  # type: ignore[arg-type]
    return None
