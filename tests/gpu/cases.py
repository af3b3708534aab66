"""What is measured on a GPU: bases, shapes, options and the cards that they are meant for."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from fcacli.config import Offload
from fcacli.planning.choice import CONTEXT
from fcacli.workflows.train_options import TrainOptions

SHAPES = {"16x256x256": (16, 256, 256), "16x480x720": (16, 480, 720), "49x480x720": (49, 480, 720)}
SMALL, LARGE = "16x256x256", "49x480x720"
BF16: dict[str, Any] = {"weights": "bf16", "offload_optimizer": True}
INPUTS: dict[str, Any] = {"offload_activations": True}
TILES: dict[str, Any] = {"vae_tiling": True}


@dataclass(frozen=True)
class Case:
    """One line of a table."""

    kind: Literal["encode", "train", "predict", "time"]
    base: str
    shape: str
    card: float | None
    """GB (10^9 bytes), which the process is kept to; None for the whole one that is there."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of TrainOptions."""
    offload: Offload = "none"
    """Of a prediction."""
    wide: float = 0
    """GiB of the device that it takes where nothing keeps it to a card."""
    decodes: bool = True
    """A training's validation is decoded too; at 49x480x720 that takes as long as some steps."""
    rank: int = 0
    """The lower, the earlier it is measured."""

    @property
    def cap(self) -> float | None:
        """GiB that the allocator may have: the card's without what `fca plan` takes CUDA's context to be."""
        return (self.card * 1e9 - CONTEXT) / 2**30 if self.card else None

    @property
    def device_gib(self) -> float:
        """What it takes of the device that all share, at most; a prediction first makes its adapter, without a limit."""
        return max(self.wide, (self.card or 0) * 1e9 / 2**30, 26 if self.kind == "predict" else 0)

    @property
    def main_gib(self) -> float:
        """The same of main memory; what it keeps there, its base's file and its checkpoint."""
        if self.kind == "predict" or self.kind == "encode":
            return 25
        most = {"offload_activations", "offload_gradients"} & self.options.keys()
        return (22 if "5b" in self.base else 10) + 10 * bool(most) * ("5b" in self.base)

    @property
    def all_options(self) -> TrainOptions:
        frames, height, width = SHAPES[self.shape]
        accumulate = 2 if self.kind == "train" else 1  # from the second clip of a step on, there are gradients of the first
        size = {"frames": frames, "height": height, "width": width, "batch_size": 1, "accumulate": accumulate}
        return TrainOptions(**(size | self.options))


def encode_cases() -> Iterator[Case]:
    """Text encoder, VAE and image encoder, the same for all bases: in whole batches, and one by one where there is no room."""
    for shape, card, wide in ((SMALL, 8, 0), (LARGE, 12, 0), (SMALL, None, 30), (LARGE, None, 40)):
        yield Case("encode", "cogvideox-2b", shape, card, {"adapter_width": 448, **BF16}, wide=wide, rank=2)


def memory_cases() -> Iterator[Case]:
    """The target table: what must fit into which card, at the largest shape that it is meant for, with options by which it
    does (results/plan_targets.md); two more ways to save."""

    def case(base: str, shape: str, card: float, rank: int = 0, decodes: bool = True, **options: Any) -> Case:
        return Case("train", base, shape, card, options, rank=rank, decodes=decodes)

    two, five, newer = "cogvideox-2b", "cogvideox-5b", "cogvideox1.5-5b"
    saved, nf4 = BF16 | {"offload_gradients": True}, {"base_weights": "nf4"}
    yield case(two, LARGE, 24, adapter_width=1920, **TILES)
    yield case(two, LARGE, 16, adapter_width=1920, **BF16, **TILES, decodes=False)
    yield case(two, LARGE, 12, adapter_width=1920, **BF16, **TILES, **nf4, block_swap=10)
    yield case(two, SMALL, 8, adapter_width=448, **BF16, **nf4)
    yield case(five, LARGE, 24, adapter_width=1536, **BF16, **TILES, **nf4, decodes=False)
    yield case(five, LARGE, 16, adapter_width=1536, **BF16, **INPUTS, **TILES, **nf4, block_swap=28)
    yield case(five, LARGE, 12, adapter_width=1536, **saved, **INPUTS, **TILES, **nf4, block_swap=28, decodes=False)
    yield case(five, SMALL, 8, adapter_width=768, **saved, block_swap=42)
    yield case(newer, LARGE, 24, 3, adapter_width=1536, **BF16, **TILES, base_weights="int8", decodes=False)
    yield case(newer, LARGE, 16, 3, adapter_width=1536, **BF16, **TILES, **nf4, block_swap=28, decodes=False)
    yield case(newer, LARGE, 12, adapter_width=1536, **saved, **TILES, block_swap=42)
    yield case(newer, SMALL, 8, adapter_width=768, **BF16, **INPUTS, **nf4, block_swap=42)
    yield case(five, "16x480x720", 12, adapter_width=1536, **BF16, **INPUTS, **TILES, block_swap=42)
    yield case(five, "16x480x720", 16, 3, adapter_width=1536, **BF16, **TILES, **nf4)
    yield case(two, "16x480x720", 16, 3, adapter_width=1920, **TILES, optimizer="paged-adamw8bit", weights="bf16")


def predict_cases() -> Iterator[Case]:
    """What must fit into which card (results/predict_targets.md)."""
    for base, card, rank in (("cogvideox-2b", 6, 1), ("cogvideox-5b", 8, 1), ("cogvideox1.5-5b", 8, 3)):
        yield Case("predict", base, LARGE, card, offload="sequential", rank=rank)
    yield Case("predict", "cogvideox-2b", SMALL, 6, offload="model", rank=1)
    yield Case("predict", "cogvideox-5b", SMALL, 8, {"base_weights": "nf4"}, offload="model", rank=1)


def speed_cases() -> Iterator[Case]:
    """FCA first, then LoRA, narrower adapters, and FCA with one option more."""

    def case(base: str, shape: str, wide: float, rank: int = 2, **options: Any) -> Case:
        return Case("time", base, shape, None, options, wide=wide, rank=rank)

    two, five = "cogvideox-2b", "cogvideox-5b"
    lora: dict[str, Any] = {"adapter": "lora", "lora_rank": 64}
    yield case(two, SMALL, 24, adapter_width=1920)
    yield case(two, SMALL, 24, **lora)
    yield case(two, SMALL, 24, adapter_width=960)
    yield case(two, SMALL, 24, adapter_width=448)
    yield case(two, LARGE, 30, adapter_width=1920)
    yield case(two, LARGE, 30, adapter_width=1920, deterministic=False)
    yield case(two, LARGE, 30, **lora)
    yield case(five, SMALL, 40, adapter_width=1536)
    yield case(five, SMALL, 40, **lora)
    yield case(five, SMALL, 40, adapter_width=768)
    yield case(five, SMALL, 55, adapter_width=3072)
    yield case(two, SMALL, 24, 3, adapter_width=1920, deterministic=False)
    yield case(two, SMALL, 24, 3, adapter_width=1920, compile=True)
    yield case(two, LARGE, 30, 3, adapter_width=1920, block_swap=15)
    yield case(two, LARGE, 30, 4, adapter_width=1920, compile=True)
    yield case(two, SMALL, 24, 4, adapter_width=1920, block_swap=15)
    yield case(two, SMALL, 24, 4, adapter_width=1920, **BF16)
    yield case(two, SMALL, 24, 4, adapter_width=1920, optimizer="paged-adamw8bit")
    for more in (INPUTS, {"base_weights": "fp8"}, {"base_weights": "nf4"}, {"base_weights": "int8"}):
        yield case(two, LARGE, 30, 4, adapter_width=1920, **more)
    yield case(five, SMALL, 40, 4, adapter_width=1536, block_swap=21)


CASES = {"encode": encode_cases, "memory": memory_cases, "predict": predict_cases, "speed": speed_cases}
