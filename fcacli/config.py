"""Typed configuration: frozen keyword-only dataclasses, checked when built, saved with each run as JSON.

Every choice that the paper leaves open ([R] in the method notes) is a field here; its default is our reading.
"""

import dataclasses
import math
import types
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from fcacli.errors import Misuse

C = TypeVar("C")


MOST_FRAMES, MOST_PIXELS = 1024, 4096
"""Frames of a clip, and pixels of its width or height; no base comes near."""


def _require(condition: bool, message: str, hint: str = "") -> None:
    if not condition:
        raise Misuse(message, hint)


def _within(name: str, value: float, least: float, most: float) -> None:
    """Neither below nor above, and no NaN."""
    _require(least <= value <= most, f"{name} must be between {least:,} and {most:,}, got {value}")


def _require_alpha(alpha: float | None) -> None:
    _require(alpha is None or (math.isfinite(alpha) and alpha > 0), f"LoRA alpha must be above 0, got {alpha}")


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """The shape of one sample: how a source video becomes T frames of W x H pixels."""

    frames: int
    """T, pixel frames of a clip, the given ones included."""
    init_frames: int
    """How many of them are given."""
    width: int
    """Pixels."""
    height: int
    """Pixels."""
    fps: float
    """Frames per second of the written predictions; the source is sampled over its whole length, whatever its rate."""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """How another aspect ratio is brought to W x H: cut the longer side, pad with black, or distort."""

    def __post_init__(self) -> None:
        _within("--frames", self.frames, 2, MOST_FRAMES)
        _require(
            1 <= self.init_frames < self.frames,
            f"--init-frames must be between 1 and frames - 1 = {self.frames - 1}, got {self.init_frames}",
        )
        for side in (self.width, self.height):
            _require(
                16 <= side <= MOST_PIXELS,
                f"--size must be between 16x16 and {MOST_PIXELS}x{MOST_PIXELS}, got {self.width}x{self.height}",
                "--size 256x256",
            )
        _within("--fps", self.fps, 0.1, 240)


@dataclass(frozen=True, kw_only=True)
class FCAConfig:
    """The adapter of the paper; see model/fca.py and model/qformer.py."""

    kind: Literal["fca"] = "fca"
    width: int
    """Width of the parallel attention; a multiple of the base's head dimension, at most its width d."""
    tokens_per_frame: int = 16
    """M, frame-wise text tokens per latent frame."""
    text_width: int = 512
    """Width of the frame-wise text modules (one per layer)."""
    text_heads: int = 8
    """Attention heads of a frame-wise text module."""
    text_blocks: int = 2
    """Blocks of a frame-wise text module."""
    init_timestep: int = 0
    """Time step of the frozen pass that gives x_init."""
    modulation: Literal["own", "block"] = "own"
    """Adaptive LayerNorm of the module: its own, started as a copy of the frozen block's, or the frozen block's itself."""
    projections: Literal["copy", "random"] = "copy"
    """Start of W_q, W_k, W_v: copies of the frozen layer's (first heads where narrower), or random."""
    init_features: Literal["layer", "patch", "none"] = "layer"
    """x_init: features of each frozen layer, patch-embedded latents for all layers (ablation), or none (ablation)."""
    text_modules: Literal["per_layer", "shared", "none"] = "per_layer"
    """Frame-wise text modules: one per layer, one for all (ablation), or none (ablation)."""
    image_features: Literal["vit", "none"] = "vit"
    """What the frame-wise text modules see of the initial frames: ViT patches, or nothing (ablation)."""
    mask: Literal["frame", "none"] = "frame"
    """Video tokens see the text tokens of their own latent frame, or of all frames (ablation)."""
    injection: Literal["parallel", "text"] = "parallel"
    """y_frames and x_init are read by the parallel modules, or appended to the text that the frozen attention reads (ablation:
    no parallel modules, only the text modules train; unlike all others it changes the base before training)."""

    def __post_init__(self) -> None:
        for name, most in (("tokens_per_frame", 4096), ("text_width", 16384), ("text_heads", 1024), ("text_blocks", 64)):
            _within(f"adapter {name}", getattr(self, name), 1, most)
        _within("adapter width", self.width, 1, 65536)
        _within("adapter init_timestep", self.init_timestep, 0, 999)
        _require(
            self.text_width % self.text_heads == 0,
            f"adapter text_width {self.text_width} is not a multiple of text_heads {self.text_heads}",
        )
        _require(
            not (self.init_features == "none" and self.text_modules == "none"),
            "an adapter with neither initial-frame features nor frame-wise text has nothing to attend to",
        )
        _require(
            not (self.injection == "text" and self.text_modules == "none"),
            "an adapter without parallel modules and without text modules has nothing to train",
        )


@dataclass(frozen=True, kw_only=True)
class InContextFCAConfig(FCAConfig):
    """FCA, and the clean latents of the initial frames as extra token frames in front, as the LoRA baseline has them."""

    kind: Literal["fca-in-context"] = "fca-in-context"  # type: ignore[assignment]


@dataclass(frozen=True, kw_only=True)
class FCALoRAConfig(FCAConfig):
    """FCA, and LoRA on the frozen attention beside it; see model/fca_lora.py."""

    kind: Literal["fca-lora"] = "fca-lora"  # type: ignore[assignment]
    rank: int = 64
    alpha: float | None = None
    """Scale numerator; None means equal to the rank."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _within("--lora-rank", self.rank, 1, 16384)
        _require_alpha(self.alpha)


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """The baseline: PEFT LoRA on the frozen attention, the initial frames given as latents."""

    kind: Literal["lora"] = "lora"
    rank: int = 64
    alpha: float | None = None
    """Scale numerator; None means equal to the rank."""
    init: Literal["front", "in_place"] = "front"
    """Clean latents of the initial frames as extra token frames in front, or in place (8j + 1 given frames of 8k + 1)."""

    def __post_init__(self) -> None:
        _within("--lora-rank", self.rank, 1, 16384)
        _require_alpha(self.alpha)


AdapterConfig = FCAConfig | InContextFCAConfig | FCALoRAConfig | LoRAConfig

BaseWeights = Literal["full", "fp8", "int8", "nf4"]


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """How a frozen base is kept in memory, and run."""

    base_weights: BaseWeights = "full"
    """Of the transformer's blocks: as they are computed with, in 8 bits (float or integer), or in 4."""
    block_swap: int = 0
    """Blocks that wait in main memory."""
    vae_tiling: bool = False
    """Videos are decoded in overlapping tiles."""
    compile: bool = False
    """The transformer's blocks are compiled by torch.compile."""
    shards: int = 1
    """Processes among which its blocks are shared out."""

    def __post_init__(self) -> None:
        _within("--block-swap", self.block_swap, 0, 1000)

    @property
    def decides(self) -> dict[str, Any]:
        """What of it changes a result, where that is not the usual."""
        values = {"base_weights": self.base_weights, "vae_tiling": self.vae_tiling, "compile": self.compile}
        return {name: value for name, value in values.items() if value != getattr(Keeping, name)}


Sampler = Literal["base", "fresh-noise"]
Offload = Literal["none", "model", "sequential"]
"""Of a prediction: nothing waits in main memory, what FCA uses once per clip does, or the base's blocks do too."""


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """How a clip is sampled; validation, `fca predict` and `fca eval` share it."""

    steps: int
    """Denoising steps."""
    guidance: float
    """Classifier-free guidance scale; 1 turns it off."""
    sampler: Sampler | Literal["ddim"] = "base"
    """The base's own scheduler, new noise at every step (see prediction/fresh_noise.py), or, under Seer's protocol, DDIM."""
    seed: int = 0
    """Seed of the initial noise; sample n of a clip uses seed + n."""

    def __post_init__(self) -> None:
        _within("sampling steps", self.steps, 1, 1000)
        _within("guidance", self.guidance, 0, 1000)
        _require(0 <= self.seed < 2**63, f"--seed must be between 0 and 2^63 - 1, got {self.seed}")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides the result of a run; equal configs on equal data give equal adapters."""

    base: str
    """mini, a hub id, or a folder in diffusers layout (resolved, never "auto")."""
    base_fingerprint: str
    """Fingerprint of the base's configuration and weights; a resume on another base is refused."""
    data: str
    """Prepared dataset, the folder name below data/."""
    clip: ClipConfig
    adapter: AdapterConfig
    sample: SampleConfig
    """Of the validation clips, and the defaults of predict and eval."""
    steps: int
    """Optimizer steps."""
    batch_size: int
    """Clips per device and micro-batch."""
    accumulate: int = 1
    """Micro-batches per optimizer step."""
    lr: float
    """Peak learning rate; linear warm-up, cosine decay to a tenth."""
    text_lr_scale: float = 1.0
    """Learning rate of the frame-wise text modules, as a multiple of the others'."""
    timestep_power: float = 1.0
    """Time steps are N u^power, u uniform: below 1 more of them have much noise, where what moves and how far is decided."""
    warmup: int
    """Steps of linear warm-up."""
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    """Gradient norm above which gradients are scaled down."""
    optimizer: Literal["adamw8bit", "paged-adamw8bit", "adamw", "muon"] = "adamw8bit"
    precision: Literal["bf16", "fp32"] = "bf16"
    """Arithmetic of the training step: bf16 autocast, or fp32 throughout."""
    weights: Literal["fp32", "bf16", "bf16-stochastic"] = "fp32"
    """The trained weights between steps: fp32, bf16 with an exact remainder, or bf16 rounded by lot; see
    training/trained_weights.py."""
    offload_optimizer: bool = False
    """Keep the optimizer's state in host memory and bring it to the device part by part; changes no result."""
    offload_gradients: bool = False
    """Have gradients wait in host memory, from the backward pass to the optimizer's step; changes no result."""
    checkpointing: bool = True
    """Recompute block activations in the backward pass instead of keeping them."""
    offload_activations: bool = False
    """Keep in main memory what they are recomputed from, the inputs of each block."""
    base_weights: BaseWeights = "full"
    """Of the frozen blocks: as they are computed with (bfloat16 on a GPU, float32 on the CPU), in 8 bits, or in 4."""
    block_swap: int = 0
    """Frozen blocks that wait in main memory and are copied to the device when they are used."""
    shard_base: bool = False
    """Share the frozen blocks out among the processes, see model/sharding.py; changes no result."""
    vae_tiling: bool = False
    """Decode videos in overlapping tiles; validation, predict and eval alike."""
    deterministic: bool = True
    """On a CUDA device, take kernels that give the same bits each time, see training/kernels.py."""
    compile: bool = False
    """Run the blocks, frozen and trained, compiled by torch.compile; in validation, predict and eval too."""
    caption_dropout: float = 0.1
    """Share of samples trained with the empty caption, for classifier-free guidance."""
    seed: int = 0
    """Fixes initialisation, data order, time steps, noise and dropped captions."""
    validate_every: int
    """Steps between validations; 0 for none but the last."""
    validate_clips: int = 4
    """Clips generated at a validation."""

    def __post_init__(self) -> None:
        most = {"batch_size": 65536, "accumulate": 65536}
        for name in ("steps", "batch_size", "accumulate"):
            _within(f"--{name.replace('_', '-')}", getattr(self, name), 1, most.get(name, 10**9))
        for name in ("warmup", "validate_every", "validate_clips", "seed"):
            _require(getattr(self, name) >= 0, f"--{name.replace('_', '-')} must be 0 or more, got {getattr(self, name)}")
        _require(self.seed < 2**63, f"--seed must be between 0 and 2^63 - 1, got {self.seed}")
        for name in ("lr", "clip_norm"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value > 0, f"--{name.replace('_', '-')} must be above 0, got {value}")
        _require(0 <= self.caption_dropout < 1, f"--caption-dropout must be in [0, 1), got {self.caption_dropout}")
        _within("--weight-decay", self.weight_decay, 0, 1)
        _within("--text-lr-scale", self.text_lr_scale, 0, 100)
        _within("--timestep-power", self.timestep_power, 0.1, 10)
        _require(
            self.weights == "fp32" or self.precision == "bf16",
            f"--weights {self.weights} is for steps in bf16, and these are in {self.precision}",
            "--precision bf16, or --weights fp32",
        )
        _require(
            not (self.offload_optimizer and self.optimizer == "paged-adamw8bit"),
            "--offload-optimizer and --optimizer paged-adamw8bit are two ways to the same end",
            "--offload-optimizer with adamw8bit or adamw, or paged-adamw8bit alone",
        )
        for name, other in (("--block-swap", self.block_swap > 0), ("--compile", self.compile)):
            _require(not (self.shard_base and other), f"--shard-base does not go together with {name}", "one of the two alone")
        waiting = self.keeping.block_swap > 0 or self.offload_activations
        _require(
            self.checkpointing or not waiting,
            "--block-swap and --offload-activations need --checkpointing",
            "add --checkpointing, or leave them out",
        )

    @property
    def keeping(self) -> Keeping:
        """How the frozen base is kept in one process, in range."""
        return Keeping(
            base_weights=self.base_weights, block_swap=self.block_swap, vae_tiling=self.vae_tiling, compile=self.compile
        )

    def keeping_among(self, processes: int) -> Keeping:
        """The same where so many train together."""
        return replace(self.keeping, shards=processes if self.shard_base else 1)


def to_dict(config: Any) -> dict[str, Any]:
    """The JSON form of a config."""
    return dataclasses.asdict(config)


def from_dict(cls: type[C], values: Any, where: str = "config") -> C:
    """Build `cls` from its JSON form, strictly: unknown, missing and wrongly typed fields are named.

    Raises:
        Misuse: naming `where` and the field.
    """
    if not isinstance(values, dict):
        raise Misuse(f"{where}: expected an object with fields, found {type(values).__name__}")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    if unknown := sorted(set(values) - set(fields)):
        raise Misuse(f"{where}: unknown field {', '.join(unknown)}", f"one of {', '.join(fields)}")
    missing = [
        name
        for name, field in fields.items()
        if name not in values and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise Misuse(f"{where}: missing field {', '.join(missing)}")
    return cls(**{name: _coerce(hints[name], value, f"{where}.{name}") for name, value in values.items()})


def differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Fields in which two configs differ, as "name: old -> new" lines, nested names dotted."""
    a, b = (to_dict(c) if dataclasses.is_dataclass(c) else c for c in (old, new))
    lines = []
    for name in sorted(set(a) | set(b)):
        left, right = a.get(name), b.get(name)
        if isinstance(left, dict) and isinstance(right, dict):
            lines += differences(left, right, f"{prefix}{name}.")
        elif left != right:
            lines.append(f"{prefix}{name}: {left} -> {right}")
    return lines


def _coerce(hint: Any, value: Any, where: str) -> Any:
    origin = get_origin(hint)
    if origin is Literal:
        if value not in get_args(hint):
            raise Misuse(f"{where} is {value!r}; expected one of {', '.join(map(repr, get_args(hint)))}")
        return value
    if origin in (Union, types.UnionType):
        options = get_args(hint)
        if value is None and type(None) in options:
            return None
        if isinstance(value, dict):
            kinds: dict[Any, Any] = {
                get_args(get_type_hints(option)["kind"])[0]: option for option in options if dataclasses.is_dataclass(option)
            }
            if not isinstance(value.get("kind"), str) or value["kind"] not in kinds:
                raise Misuse(f"{where}.kind is {value.get('kind')!r}; expected one of {', '.join(map(repr, kinds))}")
            return from_dict(kinds[value["kind"]], value, where)
        return _coerce(next(option for option in options if option is not type(None)), value, where)
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)  # type: ignore[arg-type]
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1e300:
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise Misuse(f"{where} is {value!r}; expected {hint.__name__}")
    return value
