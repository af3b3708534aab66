"""What a user may ask of `fca train`, and how it becomes the TrainConfig of a run."""

import shlex
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fcacli.config import BaseWeights, ClipConfig, Sampler, TrainConfig, differences, from_dict, to_dict
from fcacli.errors import Misuse
from fcacli.events import Message, Report, silent
from fcacli.model.bases import BaseDefaults, BaseSpec
from fcacli.workspace import read_json

if TYPE_CHECKING:
    from fcacli.model.bases.cogvideox import CogVideoX


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What the user asked for; None means the base's default (or, of a run that is continued, the run's own)."""

    base: str | None = None
    """mini, cogvideox-2b, a hub id, a folder; None or "auto" chooses by the machine."""
    data: str | None = None
    """Folder name below data/; None for the latest."""
    adapter: Literal["fca", "lora", "fca-in-context", "fca-lora"] | None = None
    steps: int | None = None
    batch_size: int | None = None
    accumulate: int | None = None
    lr: float | None = None
    text_lr_scale: float | None = None
    timestep_power: float | None = None
    warmup: int | None = None
    weight_decay: float | None = None
    clip_norm: float | None = None
    optimizer: Literal["adamw8bit", "paged-adamw8bit", "adamw", "muon"] | None = None
    precision: Literal["auto", "bf16", "fp32"] | None = None
    """auto: the base's where the device computes in it, else fp32."""
    weights: Literal["fp32", "bf16", "bf16-stochastic"] | None = None
    offload_optimizer: bool | None = None
    offload_gradients: bool | None = None
    checkpointing: bool | None = None
    offload_activations: bool | None = None
    base_weights: BaseWeights | None = None
    block_swap: int | None = None
    shard_base: bool | None = None
    vae_tiling: bool | None = None
    """None: for frames of more than TILED_ABOVE pixels."""
    deterministic: bool | None = None
    compile: bool | None = None
    caption_dropout: float | None = None
    seed: int | None = None
    validate_every: int | None = None
    validate_clips: int | None = None
    frames: int | None = None
    init_frames: int | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    fit: Literal["crop", "pad", "stretch"] | None = None
    sample_steps: int | None = None
    guidance: float | None = None
    sampler: Sampler | None = None
    adapter_width: int | None = None
    """FCAConfig.width."""
    lora_rank: int | None = None
    adapter_fields: Mapping[str, Any] = field(default_factory=dict)
    """Any other field of FCAConfig or LoRAConfig by its name, e.g. {"modulation": "block"}."""


PLACES = {
    "adapter": ("adapter", "kind"),
    "adapter_width": ("adapter", "width"),
    "lora_rank": ("adapter", "rank"),
    "sample_steps": ("sample", "steps"),
    "guidance": ("sample", "guidance"),
    "sampler": ("sample", "sampler"),
    **{name: ("clip", name) for name in ("frames", "init_frames", "width", "height", "fps", "fit")},
}
"""Options whose field lies inside a part of TrainConfig; the others are fields of TrainConfig itself."""
SWITCHES = (
    *("offload_optimizer", "offload_gradients", "checkpointing", "offload_activations", "shard_base", "vae_tiling"),
    *("deterministic", "compile"),
)
"""Options that are written --name or --no-name."""
TILED_ABOVE = 2 * 256 * 256
"""Pixels of a frame above which videos are decoded in tiles: CogVideoX's VAE takes 45 kB of memory a pixel without, in bf16."""


def resolve(options: TrainOptions, spec: BaseSpec, fingerprint: str, data: str, bf16: bool) -> TrainConfig:
    """The configuration of a new run: the base's defaults under what was asked for.

    Args:
        bf16: whether the device computes in it.

    Raises:
        Misuse: an option is out of range, or belongs to the other adapter.
    """
    kind = options.adapter or "fca"
    _require_own_options(options, kind)
    values = _defaults(spec.defaults, kind, bf16) | {"base": spec.name, "base_fingerprint": fingerprint, "data": data}
    values = _apply(values, options)
    if options.warmup is None:
        values["warmup"] = min(values["warmup"], values["steps"] // 10)
    if options.vae_tiling is None:
        values["vae_tiling"] = values["clip"]["width"] * values["clip"]["height"] > TILED_ABOVE
    return from_dict(TrainConfig, values, where="options")


def require_precision(options: TrainOptions, base: "CogVideoX") -> None:
    """
    Raises:
        Misuse: steps in fp32 were asked for, on a base that computes in bf16 there.
    """
    if options.precision == "fp32" and str(base.dtype) == "torch.bfloat16":
        raise Misuse(
            f"--precision fp32: {base.spec.name} is held in bfloat16 on a GPU, and computes in it",
            "leave --precision out; or all in float32 on the CPU, --gpus 0",
        )


def as_stored(options: TrainOptions, dataset: Path, base: "CogVideoX", report: Report = silent) -> TrainOptions:
    """The options of a new run on a dataset: frames, given frames and size that they leave out are those that `fca prepare` was
    given, as far as the base can take them. The miniature, which knows clips of one shape, takes no more frames than its
    own and no other size.
    """
    about = read_json(dataset / "dataset.json")
    form = about.get("form") if isinstance(about, dict) else None
    stored = {name: value for name, value in (form or {}).items() if isinstance(value, int)} if isinstance(form, dict) else {}
    own, mini = base.spec.defaults, base.spec.name == "mini"
    taken: dict[str, Any] = {}
    if options.frames is None and "frames" in stored:
        taken["frames"] = min(stored["frames"], own.frames) if mini else stored["frames"]
    frames = options.frames or taken.get("frames", own.frames)
    if options.init_frames is None and stored.get("init_frames", frames) < frames:
        taken["init_frames"] = stored["init_frames"]
    if options.width is None and options.height is None and not mini and {"width", "height"} <= stored.keys():
        size: dict[str, Any] = {"width": stored["width"], "height": stored["height"]}
        with suppress(Misuse):  # the base cannot take it
            base.check_clip(ClipConfig(frames=2, init_frames=1, **size, fps=own.fps))
            taken |= size
    other = {name: value for name, value in taken.items() if value != getattr(own, name)}
    if other:
        words = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in other.items())
        report(Message(f"as {dataset.name} was prepared: {words}"))
    return replace(options, **taken)


def asked_differently(options: TrainOptions, saved: TrainConfig) -> list[str]:
    """Which of the given options differ from a run's configuration, as "name: old -> new" lines."""
    return differences(to_dict(saved), _apply(to_dict(saved), options))


FIXED_IN_A_FORK = ("adapter.", "base_fingerprint: ", "clip.frames: ")
"""What the weights of the source fit."""


def resolve_fork(options: TrainOptions, source: TrainConfig, base: str, fingerprint: str, data: str) -> TrainConfig:
    """The configuration of a run that starts from the weights of another: that run's under what was asked for.

    Raises:
        Misuse: an option is out of range, or the weights would not fit; the fields are named.
    """
    if changed := forked_differently(options, source, fingerprint):
        raise Misuse(
            f"a fork has the adapter, the frames and the base of its source, these differ: {'; '.join(changed)}",
            "leave these options out, or start from the beginning: fca train --new",
        )
    values = _apply(to_dict(source), options) | {"base": base, "base_fingerprint": fingerprint, "data": data}
    if options.warmup is None:
        values["warmup"] = min(values["warmup"], values["steps"] // 10)
    return from_dict(TrainConfig, values, where="options")


def forked_differently(options: TrainOptions, source: TrainConfig, fingerprint: str | None = None) -> list[str]:
    """Which of the options forbid a fork, as "name: old -> new" lines; `fingerprint` is that of the base, if known."""
    asked = _apply(to_dict(source), options) | ({"base_fingerprint": fingerprint} if fingerprint else {})
    return [line for line in differences(to_dict(source), asked) if line.startswith(FIXED_IN_A_FORK)]


def as_arguments(options: TrainOptions, gpus: int | None = None) -> str:
    """The options as they are written on a command line."""
    values = {option.name: getattr(options, option.name) for option in fields(options)} | {"gpus": gpus}
    adapter_fields, switches = values.pop("adapter_fields"), {name: values.pop(name) for name in SWITCHES}
    if (size := (values.pop("width"), values.pop("height"))) != (None, None):
        values["size"] = f"{size[0]}x{size[1]}"
    words = [f"--{name.replace('_', '-')} {shlex.quote(str(value))}" for name, value in values.items() if value is not None]
    words += [f"--set {shlex.quote(f'{name}={value}')}" for name, value in adapter_fields.items()]
    for name, on in switches.items():
        if on is not None:
            words.append(f"--{'' if on else 'no-'}{name.replace('_', '-')}")
    return " ".join(words)


def _require_own_options(options: TrainOptions, kind: str) -> None:
    own = (
        ("--adapter-width", "fca", options.adapter_width),
        ("--text-lr-scale", "fca", options.text_lr_scale),
        ("--lora-rank", "lora", options.lora_rank),
    )
    for option, owner, value in own:
        if value is not None and owner not in kind:
            raise Misuse(f"{option} belongs to --adapter {owner}", f"leave it out, or --adapter {owner}")


def _apply(values: dict[str, Any], options: TrainOptions) -> dict[str, Any]:
    values = deepcopy(values)
    for name in (option.name for option in fields(options)):
        value = getattr(options, name)
        if value is None or name in ("base", "data", "adapter_fields") or value == "auto":
            continue
        *part, last = PLACES.get(name, (name,))
        (values[part[0]] if part else values)[last] = value
    values["adapter"] |= options.adapter_fields
    return values


def _defaults(row: BaseDefaults, kind: str, bf16: bool) -> dict[str, Any]:
    """TrainConfig's JSON form from a base's row of the table."""
    if kind != "lora":
        adapter = {name: getattr(row, name) for name in ("tokens_per_frame", "text_width", "text_heads", "text_blocks")}
        adapter["width"] = row.adapter_width
        if kind == "fca-lora":
            adapter["rank"] = row.lora_rank
    else:
        adapter = {"rank": row.lora_rank}
    shared = ("steps", "batch_size", "accumulate", "warmup", "timestep_power", "optimizer", "checkpointing", "validate_every")
    return {
        **{name: getattr(row, name) for name in shared},
        "clip": {name: getattr(row, name) for name in ("frames", "init_frames", "width", "height", "fps")},
        "sample": {"steps": row.sample_steps, "guidance": row.guidance, "sampler": row.sampler},
        "adapter": {"kind": kind, **adapter},
        "lr": row.lora_lr if kind == "lora" else row.lr,
        "text_lr_scale": 1.0 if kind == "lora" else row.text_lr_scale,
        "precision": row.precision if bf16 else "fp32",
    }
