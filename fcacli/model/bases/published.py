"""Configurations of a base's parts, without its weights: its own files where they are here, else those that were published.

configs/ holds what the authors of CogVideoX, T5 and CLIP published; a named base can so be planned before it is fetched.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcacli.model.bases.hub import fetch_file, in_cache
from fcacli.workspace import read_json

if TYPE_CHECKING:
    from fcacli.model.bases import BaseSpec

CONFIGS = Path(__file__).parent / "configs"
CLIP = "openai/clip-vit-large-patch14"
PARTS = ("transformer", "vae", "text_encoder")
TRANSFORMERS = {
    "zai-org/CogVideoX-2b": "cogvideox-2b",
    "zai-org/CogVideoX-5b": "cogvideox-5b",
    "zai-org/CogVideoX1.5-5B": "cogvideox1.5-5b",
}


def part_configs(spec: BaseSpec) -> dict[str, dict[str, Any]]:
    """config.json of transformer, vae, text_encoder and image_encoder; of a hub model that is neither here nor published
    with fca, these small files are fetched.

    Raises:
        FcaError: a file is missing, or cannot be fetched.
    """
    return {part: _config(spec.source, part) for part in PARTS} | {"image_encoder": _image_encoder(spec.image_encoder)}


def published(name: str) -> dict[str, Any]:
    """One of configs/, by its name there."""
    return read_json(CONFIGS / f"{name}.json")


def _config(source: str, part: str) -> dict[str, Any]:
    if (own := _own(source, f"{part}/config.json")) is not None:
        return own
    if source in TRANSFORMERS:
        return published({"transformer": TRANSFORMERS[source], "vae": "vae", "text_encoder": "t5-v1_1-xxl"}[part])
    return read_json(fetch_file(source, f"{part}/config.json"))


def _image_encoder(source: str) -> dict[str, Any]:
    config = _own(source, "config.json")
    if config is None:
        config = published("clip-vit-large-patch14") if source == CLIP else read_json(fetch_file(source, "config.json"))
    return config.get("vision_config", config)


def _own(source: str, file: str) -> dict[str, Any] | None:
    """Of a folder or of the hub's cache; None where it is not on this machine."""
    if Path(source).is_dir():
        return read_json(Path(source) / file)
    folder = in_cache(source, (file,))
    return None if folder is None else read_json(folder / file)
