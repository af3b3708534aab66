"""Whether the configuration files of a base say what fca reads of them, in a sensible range."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, TypeVar

from fcacli.config import from_dict
from fcacli.errors import FcaError, Misuse

Row = TypeVar("Row")
Ranges = dict[str, tuple[int, int]]

TRANSFORMER: Ranges = {
    "num_attention_heads": (1, 1024),
    "attention_head_dim": (1, 1024),
    "num_layers": (1, 1000),
    "max_text_seq_length": (1, 4096),
    "patch_size": (1, 64),
    "sample_width": (1, 4096),
    "sample_height": (1, 4096),
    "sample_frames": (1, 1024),
}
VAE: Ranges = {"latent_channels": (1, 1024)}
HINT = "fetch the folder again, or --base with another"


def check_transformer(config: Any, where: str) -> dict[str, Any]:
    """transformer/config.json as it is.

    Raises:
        FcaError: a field that fca reads is missing, of the wrong type or out of range.
    """
    values = _check(config, TRANSFORMER, where)
    for name, usual in (("patch_size_t", 1), ("temporal_compression_ratio", 4)):
        _check({name: usual, **{key: value for key, value in values.items() if value is not None}}, {name: (1, 64)}, where)
    if not isinstance(values.get("use_rotary_positional_embeddings", False), bool):
        raise FcaError(f"{where}: use_rotary_positional_embeddings should be true or false", HINT)
    return values


def check_vae(config: Any, where: str) -> dict[str, Any]:
    """vae/config.json as it is.

    Raises:
        FcaError: a field that fca reads is missing, of the wrong type or out of range.
    """
    values = _check(config, VAE, where)
    stages = values.get("block_out_channels")
    if not isinstance(stages, list) or not 1 <= len(stages) <= 8 or not all(_is_number(stage, int) for stage in stages):
        raise FcaError(f"{where}: block_out_channels should be a list of 1 to 8 whole numbers", HINT)
    scale = values.get("scaling_factor")
    if not _is_number(scale, int | float) or not 0 < scale < 1e6:  # type: ignore[operator]
        raise FcaError(f"{where}: scaling_factor should be a number above 0, found {scale!r:.60}", HINT)
    return values


def check_defaults(row: Row, given: Any, where: Path) -> Row:
    """The defaults `row` of a base with what its fca.json gives; other fields of that file are not ours.

    Raises:
        FcaError: the file is no object, or a field is of the wrong type.
    """
    if not isinstance(given, dict):
        raise FcaError(f"{where} should hold an object, found {type(given).__name__}", HINT)
    own = dataclasses.asdict(row)  # type: ignore[call-overload]
    try:
        return from_dict(type(row), own | {key: value for key, value in given.items() if key in own}, str(where))
    except Misuse as error:
        raise FcaError(error.message, HINT) from None


def _check(config: Any, ranges: Ranges, where: str) -> dict[str, Any]:
    if not isinstance(config, dict):
        raise FcaError(f"{where} should hold an object, found {type(config).__name__}", HINT)
    for name, (least, most) in ranges.items():
        value = config.get(name)
        if not _is_number(value, int) or not least <= value <= most:  # type: ignore[operator]
            found = f"{value!r:.60}" if name in config else "nothing"
            raise FcaError(f"{where}: {name} should be a whole number between {least} and {most}, found {found}", HINT)
    return config


def _is_number(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)
