"""The text-to-video bases that fca adapts: a table of defaults, how a name becomes a base, and one file per family.

Nothing here loads torch until a base is loaded (or `auto` looks for a CUDA device).
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import fcacli
from fcacli.config import Sampler
from fcacli.errors import FcaError, Misuse, nearest
from fcacli.model.arithmetic import repeatable_libraries
from fcacli.model.bases.check import check_defaults, check_transformer, check_vae
from fcacli.model.bases.hub import ENCODER_FILES, PIPELINE_NEEDS, fetch_file, in_cache
from fcacli.model.host_memory import keep_freed_memory
from fcacli.workspace import read_json

if TYPE_CHECKING:
    import torch

    from fcacli.model.bases.cogvideox import CogVideoX

MINI = Path(fcacli.__file__).parent / "mini" / "weights"
CLIP_VIT_L = "openai/clip-vit-large-patch14"
FAMILIES = {"CogVideoXPipeline": "cogvideox"}
"""Pipeline class named in model_index.json -> family; each family is a module of this package."""


@dataclass(frozen=True, kw_only=True)
class BaseDefaults:
    """One row of the table: what `fca train` uses where the user gives no option."""

    frames: int
    init_frames: int = 2
    width: int
    height: int
    fps: float
    sample_steps: int = 50
    guidance: float = 6.0
    sampler: Sampler = "base"
    adapter_width: int
    """Width of the parallel attention; a multiple of the base's head dimension."""
    tokens_per_frame: int = 16
    text_width: int = 512
    text_heads: int = 8
    text_blocks: int = 2
    lora_rank: int = 64
    lr: float = 1e-4
    lora_lr: float = 1e-4
    text_lr_scale: float = 1.0
    """Of FCA's text modules, as a multiple of lr."""
    timestep_power: float = 1.0
    steps: int = 10_000
    batch_size: int = 1
    accumulate: int = 4
    warmup: int = 200
    validate_every: int = 1000
    precision: Literal["bf16", "fp32"] = "bf16"
    checkpointing: bool = True
    optimizer: Literal["adamw8bit", "adamw", "muon"] = "adamw8bit"
    cuda_gib: float = 0.0
    """Device memory below which `auto` does not choose this base."""


_MINI = BaseDefaults(
    frames=16,
    width=48,
    height=48,
    fps=12,
    sample_steps=4,
    guidance=1.5,
    sampler="fresh-noise",
    adapter_width=192,
    tokens_per_frame=4,
    text_width=64,
    text_heads=4,
    text_blocks=1,
    lora_rank=64,
    lr=9e-3,
    lora_lr=9e-3,
    optimizer="muon",
    timestep_power=0.6,
    steps=600,
    batch_size=16,
    accumulate=1,
    warmup=20,
    validate_every=200,
    checkpointing=False,
)
_2B = BaseDefaults(frames=16, width=256, height=256, fps=8, adapter_width=1920, cuda_gib=20)
_5B = BaseDefaults(frames=16, width=256, height=256, fps=8, adapter_width=1536, cuda_gib=36)
_15_5B = BaseDefaults(frames=16, width=256, height=256, fps=8, adapter_width=1536, cuda_gib=36)

DEFAULTS: dict[str, tuple[str, BaseDefaults]] = {
    "mini": (str(MINI), _MINI),
    "cogvideox-2b": ("zai-org/CogVideoX-2b", _2B),
    "cogvideox-5b": ("zai-org/CogVideoX-5b", _5B),
    "cogvideox1.5-5b": ("zai-org/CogVideoX1.5-5B", _15_5B),
}
"""Known bases: short name -> (folder or hub id, defaults). Other ids and folders get the row that fits their config."""


@dataclass(frozen=True, kw_only=True)
class BaseSpec:
    """Which base, from where, and why; resolved once at the command line."""

    name: str
    """mini, a hub id, or a folder path."""
    family: str
    source: str
    """Folder or hub id."""
    image_encoder: str
    """Folder or hub id of the CLIP vision tower that feeds the frame-wise text modules."""
    defaults: BaseDefaults
    reason: str
    """Why this base, for the first line of output."""


def resolve_base(name: str = "auto") -> BaseSpec:
    """Turn `--base` into a base: auto, a short name of DEFAULTS, a hub id, or a folder in diffusers layout.

    Raises:
        Misuse: the name is none of these.
        FcaError: the folder or hub model is not a pipeline that fca adapts, or cannot be fetched.
    """
    if name == "auto":
        return _auto()
    known = {row_id.lower(): key for key, (row_id, _) in DEFAULTS.items()} | {key: key for key in DEFAULTS}
    known |= {row_id.lower().replace("zai-org/", "thudm/"): key for row_id, key in list(known.items())}
    if key := known.get(name.lower()):
        return _known(key, f"chosen by --base {name}")
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _folder(folder)
    if re.fullmatch(r"[\w][\w.-]*/[\w.-]+", name) and not folder.parent.is_dir():
        return _hub(name)
    raise Misuse(
        f"unknown base {name!r}: not a folder, a hub id (owner/name) or one of {', '.join(DEFAULTS)}",
        f"--base {nearest(name, DEFAULTS, 'cogvideox-2b')}",
    )


def load_base(spec: BaseSpec, device: str | torch.device = "cpu", dtype: torch.dtype | None = None) -> CogVideoX:
    """The base of `spec`; its parts are loaded when first used, onto `device` in `dtype`.

    `dtype` None: float32 on the CPU and for the miniature, bfloat16 elsewhere.
    """
    from fcacli.model.bases.cogvideox import CogVideoX

    if str(device) == "cpu":
        keep_freed_memory()
    else:
        from fcacli.model.device_memory import growing_segments

        repeatable_libraries()
        growing_segments()
    classes = {"cogvideox": CogVideoX}
    return classes[spec.family](spec, device, dtype)


def _known(key: str, reason: str) -> BaseSpec:
    source, defaults = DEFAULTS[key]
    if key == "mini":
        image_encoder, name = str(MINI / "clip"), "mini"
        if not (MINI / "model_index.json").is_file():
            raise FcaError(f"the bundled miniature is missing from {MINI}", "reinstall fca: pip install -e .")
    else:
        image_encoder, name = CLIP_VIT_L, source
    return BaseSpec(name=name, family="cogvideox", source=source, image_encoder=image_encoder, defaults=defaults, reason=reason)


def _auto() -> BaseSpec:
    import torch

    hub_id, defaults = DEFAULTS["cogvideox-2b"]
    if not torch.cuda.is_available():
        return _known("mini", "no CUDA device: the bundled miniature")
    name = torch.cuda.get_device_name(0)
    gib = torch.cuda.get_device_properties(0).total_memory / 2**30
    if gib < defaults.cuda_gib:
        fitting = f"fca plan --base cogvideox-2b --gpu-memory {int(gib * 15 / 16)}GiB finds options that fit"
        needs = f"CogVideoX-2B as it comes needs {defaults.cuda_gib:.0f}, {fitting}"
        return _known("mini", f"{name} has {gib:.0f} GiB, {needs}: the bundled miniature")
    if not (in_cache(hub_id, PIPELINE_NEEDS) and in_cache(CLIP_VIT_L, ENCODER_FILES)):
        return _known("mini", f"{hub_id} is not on this machine, --base cogvideox-2b fetches it: the bundled miniature")
    return _known("cogvideox-2b", f"{name} with {gib:.0f} GiB holds CogVideoX-2B")


def _folder(folder: Path) -> BaseSpec:
    if not (folder / "model_index.json").is_file():
        raise FcaError(
            f"{folder} is not a pipeline folder in diffusers layout: it has no model_index.json",
            "--base takes a folder with model_index.json, transformer/, vae/, text_encoder/, tokenizer/ and scheduler/",
        )
    family = _family(read_json(folder / "model_index.json"), str(folder))
    transformer, vae = folder / "transformer" / "config.json", folder / "vae" / "config.json"
    for path in (transformer, vae):
        if not path.is_file():
            raise FcaError(f"{folder} is not a complete pipeline folder: {path} is missing", "fetch the folder again")
    defaults = _row_for(check_transformer(read_json(transformer), str(transformer)), check_vae(read_json(vae), str(vae)))
    if (folder / "fca.json").is_file():
        defaults = check_defaults(defaults, read_json(folder / "fca.json"), folder / "fca.json")
    image_encoder = str(folder / "clip") if (folder / "clip" / "config.json").is_file() else CLIP_VIT_L
    return BaseSpec(
        name=str(folder.resolve()),
        family=family,
        source=str(folder.resolve()),
        image_encoder=image_encoder,
        defaults=defaults,
        reason=f"chosen by --base {folder}",
    )


def _hub(hub_id: str) -> BaseSpec:
    family = _family(read_json(fetch_file(hub_id, "model_index.json")), hub_id)
    transformer = check_transformer(read_json(fetch_file(hub_id, "transformer/config.json")), f"{hub_id} transformer")
    defaults = _row_for(transformer, check_vae(read_json(fetch_file(hub_id, "vae/config.json")), f"{hub_id} vae"))
    return BaseSpec(
        name=hub_id,
        family=family,
        source=hub_id,
        image_encoder=CLIP_VIT_L,
        defaults=defaults,
        reason=f"chosen by --base {hub_id}",
    )


def _family(model_index: Any, where: str) -> str:
    name = model_index.get("_class_name") if isinstance(model_index, dict) else None
    if not isinstance(name, str) or name not in FAMILIES:
        raise FcaError(
            f"{where} holds a {name or 'pipeline without a class name'}; fca adapts {', '.join(FAMILIES)}",
            "fca train --base cogvideox-2b",
        )
    return FAMILIES[name]


def _row_for(transformer: dict[str, Any], vae: dict[str, Any]) -> BaseDefaults:
    """Defaults for a base outside the table, by its configuration: temporal patch, rotary embedding, width."""
    head_dim = transformer.get("attention_head_dim", 64)
    heads = transformer.get("num_attention_heads", 30)
    d = heads * head_dim
    if d >= 1024:
        row = _15_5B if transformer.get("patch_size_t") else _5B if d > 1920 else _2B
        return dataclasses.replace(row, adapter_width=min(row.adapter_width, d) // head_dim * head_dim)
    stride = 2 ** (len(vae.get("block_out_channels", (0,) * 4)) - 1)
    latents = (transformer.get("sample_frames", 49) - 1) // transformer.get("temporal_compression_ratio", 4) + 1
    return dataclasses.replace(
        _MINI,
        frames=4 * latents if latents % 2 == 0 else max(4 * latents - 3, 2),
        width=transformer.get("sample_width", 12) * stride,
        height=transformer.get("sample_height", 12) * stride,
        adapter_width=d,
    )
