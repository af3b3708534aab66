"""Task success by what else is on the table: is the caption needed to know which thing moves?"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from fcacli.mini.scene import parse_caption, scene_from_json

Company = Literal["alone", "unlike", "alike"]
COMPANY: dict[Company, str] = {
    "alone": "one thing",
    "unlike": "others, of other kinds and colours",
    "alike": "another of its kind or colour",
}


def companies(raw: Path) -> dict[str, Company]:
    """Of each clip of a drawn dataset (`fca toy`), by its id."""
    with (raw / "truth.jsonl").open(encoding="utf-8") as lines:
        return {row["id"]: _company(row) for row in map(json.loads, lines)}


def _company(row: Mapping[str, Any]) -> Company:
    scene, action = scene_from_json(row["scene"]), parse_caption(row["caption"])
    named = scene.find(action.colour, action.kind)
    others = [thing for place, thing in enumerate(scene.things) if place != named]
    if not others:
        return "alone"
    return "alike" if any(thing.kind == action.kind or thing.colour == action.colour for thing in others) else "unlike"
