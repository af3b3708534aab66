"""What the miniature world is made of, and the grammar of its captions.

Units: lengths are pixels of a 48x48 picture (`SIDE`), x to the right, y down; angles are degrees, positive = clockwise;
times are frames at 12 fps. T pixel frames, n things.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

SIDE = 48.0
SHAKE = 0.5
"""Pixels that the camera moves at most, each way."""
LENS = 0.6
"""Pixels: the standard deviation of the lens's blur."""
COLOURS = {
    "red": (218, 38, 44),
    "green": (34, 160, 72),
    "blue": (36, 92, 222),
    "yellow": (248, 204, 24),
    "purple": (146, 48, 196),
}
Domain = Literal["base", "adapt"]
KINDS: dict[str, tuple[str, ...]] = {
    "base": ("cup", "box", "ball", "bottle"),
    "adapt": ("cup", "box", "ball", "bottle", "star"),
}
Verb = Literal["push", "pull", "lift", "drop", "cover", "uncover"]
DIRECTIONS: dict[str, dict[str, tuple[int, int]]] = {
    "push": {"left": (-1, 0), "right": (1, 0), "away": (0, -1)},
    "pull": {"left": (-1, 0), "right": (1, 0), "closer": (0, 1)},
}
AMOUNTS = {"slightly": 5.0, "": 11.0, "far": 18.0}


@dataclass(frozen=True, kw_only=True)
class Thing:
    """One toy: centre (x, y) when it stands on the table, diameter `size`, `height` above the table, `angle`."""

    kind: str
    colour: str
    x: float
    y: float
    size: float
    angle: float = 0.0
    height: float = 0.0

    @property
    def name(self) -> str:
        """The caption's words for it, as "red cup"."""
        return f"{self.colour} {self.kind}"


@dataclass(frozen=True, kw_only=True)
class Cloth:
    """A cloth of diameter `size` with its centre at (x, y)."""

    x: float
    y: float
    size: float


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything the given frames show (and what a cloth hides): the state at rest in frames 0 and 1."""

    things: tuple[Thing, ...]
    hand: tuple[float, float, float]
    """Fingertip x, y and the angle the fingers point to."""
    cloth: Cloth | None
    table: str
    """Texture family, see drawing.TABLES."""
    table_seed: int
    hand_style: Literal["bare", "glove"]
    camera_seed: int
    """Of the slight movement of the camera, at most SHAKE pixels each way."""

    def find(self, colour: str, kind: str) -> int:
        """Index of the thing a caption names; ValueError when there is none."""
        for i, thing in enumerate(self.things):
            if (thing.colour, thing.kind) == (colour, kind):
                return i
        raise ValueError(f"no {colour} {kind} in the scene")

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers; `scene_from_json` gives the scene back."""
        return asdict(self)


def scene_from_json(row: dict[str, Any]) -> Scene:
    """The inverse of `Scene.to_json`."""
    return Scene(
        things=tuple(Thing(**thing) for thing in row["things"]),
        hand=tuple(row["hand"]),  # type: ignore[arg-type]
        cloth=Cloth(**row["cloth"]) if row["cloth"] else None,
        table=row["table"],
        table_seed=row["table_seed"],
        hand_style=row["hand_style"],
        camera_seed=row["camera_seed"],
    )


@dataclass(frozen=True)
class Paths:
    """Exact motion of all that moves, one row a frame."""

    things: np.ndarray
    """(T, n, 4): x, y, height, angle of each thing."""
    hand: np.ndarray
    """(T, 3): fingertip x, y, angle."""
    cloth: np.ndarray | None
    """(T, 2): centre x, y; None where there is no cloth."""

    def at(self, frames: tuple[int, ...]) -> Paths:
        """Some of the frames."""
        rows = list(frames)
        return Paths(self.things[rows], self.hand[rows], None if self.cloth is None else self.cloth[rows])


@dataclass(frozen=True, kw_only=True)
class Action:
    """What a caption says: verb, object phrase, direction ("" where the verb has none), amount."""

    verb: Verb
    colour: str
    kind: str
    direction: str = ""
    amount: str = ""

    @property
    def caption(self) -> str:
        """The sentence, as "pushing red cup slightly left"."""
        return self._sentence(f"{self.colour} {self.kind}").lower()

    @property
    def template(self) -> str:
        """Something-Something's template of the sentence, as "Pushing [something] slightly left"."""
        return self._sentence("[something]")

    def _sentence(self, noun: str) -> str:
        amount = f"{self.amount} " if self.amount and self.amount != "edge" else ""
        edge = " to the edge" if self.amount == "edge" else ""
        return {
            "push": f"Pushing {noun} {amount}{self.direction}{edge}",
            "pull": f"Pulling {noun} {amount}{self.direction}{edge}",
            "lift": f"Lifting {noun} {amount}up",
            "drop": f"Dropping {noun}",
            "cover": f"Covering {noun} with cloth",
            "uncover": f"Uncovering {noun}",
        }[self.verb]


def actions(domain: Domain = "base") -> list[Action]:
    """Every action the grammar can say in a domain."""
    out = []
    for colour in COLOURS:
        for kind in KINDS[domain]:
            for verb, directions in DIRECTIONS.items():
                for direction in directions:
                    out += [_action(verb, colour, kind, direction, amount) for amount in (*AMOUNTS, "edge")]
            out += [_action("lift", colour, kind, "up", amount) for amount in ("", "slightly")]
            out += [_action(verb, colour, kind) for verb in ("drop", "cover", "uncover")]
    return out


def _action(verb: str, colour: str, kind: str, direction: str = "", amount: str = "") -> Action:
    return Action(verb=verb, colour=colour, kind=kind, direction=direction, amount=amount)  # type: ignore[arg-type]


_NOUN = rf"(?P<colour>{'|'.join(COLOURS)}) (?P<kind>{'|'.join(KINDS['adapt'])})"
_FORMS = [
    ("push", rf"pushing {_NOUN}(?: (?P<amount>slightly|far))? (?P<direction>left|right|away)(?P<edge> to the edge)?"),
    ("pull", rf"pulling {_NOUN}(?: (?P<amount>slightly|far))? (?P<direction>left|right|closer)(?P<edge> to the edge)?"),
    ("lift", rf"lifting {_NOUN}(?: (?P<amount>slightly))? (?P<direction>up)"),
    ("drop", rf"dropping {_NOUN}"),
    ("cover", rf"covering {_NOUN} with cloth"),
    ("uncover", rf"uncovering {_NOUN}"),
]


def parse_caption(caption: str) -> Action:
    """The action a caption names; ValueError for a sentence outside the grammar."""
    text = " ".join(caption.lower().replace("[", "").replace("]", "").split()).rstrip(".")
    for verb, form in _FORMS:
        found = re.fullmatch(form, text)
        if found:
            part = found.groupdict()
            amount = "edge" if part.get("edge") else part.get("amount") or ""
            return _action(verb, part["colour"], part["kind"], part.get("direction") or "", amount)
    raise ValueError(f"not a sentence of the miniature world: {caption!r}")
