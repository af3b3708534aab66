"""Peak memory of every phase of `fca train`: the traces of planner parts, put together.

A phase holds on the device (main memory, on the CPU) what is loaded then; in main memory besides, what passes through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fcacli.config import ClipConfig, TrainConfig
from fcacli.data.dataset import Images
from fcacli.model.bases.frames import safe_frames
from fcacli.planning import cuda
from fcacli.planning.cpu import convolution_workspace
from fcacli.planning.encoders import Part, trace_decoding, trace_part
from fcacli.planning.live import CountingFakes, Meter
from fcacli.planning.shaped import Kind, ShapedBase
from fcacli.planning.training import Marks, at_depth, fake_optimizer, trace_training

PARTS = {"text_encoder": "captions", "vae": "videos", "image_encoder": "images"}
"""Encoders in the order of their work, and what they encode."""


@dataclass(frozen=True)
class Phase:
    """Bytes of one phase."""

    name: str
    device: int
    """Peak of tensors on the device; 0 on the CPU, where they are in main memory."""
    device_least: int
    """With the smaller batches on which it goes on by itself where memory ends."""
    host: int
    """Peak of tensors in main memory."""
    host_least: int
    note: str = ""


@dataclass(frozen=True)
class Memory:
    """The plan of one configuration."""

    kind: Kind
    phases: tuple[Phase, ...]
    parts: Mapping[str, int]
    """Bytes that stay through training: base, adapter, optimizer; and gradients."""
    checkpoint: int
    """Bytes of one on the disk."""

    @property
    def peak(self) -> Phase:
        """The phase that needs the most where it has to."""
        return max(self.phases, key=lambda phase: phase.device_least if self.kind == "cuda" else phase.host_least)

    @property
    def needed(self) -> int:
        """Bytes of tensors, on the device or, on the CPU, in main memory."""
        return self.peak.device_least if self.kind == "cuda" else self.peak.host_least


class Planner:
    """Plans configurations of one base at one clip size; what does not depend on the rest is traced once.

    Args:
        kind: the device.
        batches: clips or captions that are encoded at once, by what they are; empty where all is encoded.
        decoded: clips that wait, decoded, for the encoder.
        in_memory: bytes of encoded clips that training keeps in main memory.
        images: "frames" where their features are computed while training: the image encoder stays.
    """

    def __init__(
        self,
        base: ShapedBase,
        clip: ClipConfig,
        kind: Kind,
        batches: Mapping[str, int],
        decoded: int = 0,
        in_memory: int = 0,
        images: Images = "packed",
    ):
        self._base, self._clip, self._kind = base, clip, kind
        self._batches, self._decoded, self._in_memory, self._images = batches, decoded, in_memory, images
        self._parts: dict[tuple[str, int], Part] = {}

    def memory(self, config: TrainConfig) -> Memory:
        """Peaks of all phases under `config`."""
        marks = at_depth(lambda layers: self._traced(self._train, layers, config), self._base.layers)
        stays = {name: marks[name] for name in ("base", "adapter", "optimizer")}
        state, waiting = stays["optimizer"], marks.get("optimizer, host", 0)
        encoder = self._work("image_encoder", 1).weights if self._images == "frames" else 0
        resident = sum(stays.values()) + encoder
        step = encoder + max(size for name, size in marks.items() if name.startswith("step/"))
        sampling = encoder + marks["sampling"]
        away = state if self._kind == "cuda" else 0  # in main memory while a validation is made
        decoding = resident - away + self._decoding.peak
        loading = max(stays["base"], stays["adapter"])  # weights are read into main memory, the adapter is drawn there
        training = (
            self._phase("training step", step, loading, waiting=self._in_memory + waiting),
            self._phase(
                "validation: sampling",
                sampling,
                2 * stays["adapter"],
                "first one, with the parity gate",
                waiting=waiting + away,
            ),
            self._phase("validation: decoding", decoding, self._decoding.weights, waiting=waiting + away),
            self._phase("saving", resident, stays["adapter"], waiting=waiting),
        )
        phases = (*self._encoding(max(step, sampling, decoding)), *training)
        parts = stays | {"gradients": stays["adapter"]} | ({"optimizer in main memory": waiting} if waiting else {})
        return Memory(self._kind, phases, parts, stays["adapter"] + state + waiting)

    # ---------------------------------------------------------------- phases

    def _phase(
        self, name: str, tensors: int, passing: int, note: str = "", *, least: int | None = None, waiting: int = 0
    ) -> Phase:
        """Of tensors on the device, and of main memory: what passes through it to a CUDA device, and what waits in it."""
        least = tensors if least is None else least
        if self._kind == "cuda":
            return Phase(name, tensors, least, passing + waiting, passing + waiting, note)
        return Phase(name, 0, 0, tensors + waiting, least + waiting, note)

    def _encoding(self, others: int) -> Iterator[Phase]:
        """Of each encoder. What it does with smaller batches is looked at where it needs more than the `others`."""
        for part, what in PARTS.items() if self._batches else ():
            batch = self._batches[what]
            whole = self._work(part, batch)
            least = self._work(part, 1).peak if whole.peak > others else whole.peak
            pixels = self._clip.width * self._clip.height * 3 * safe_frames(self._clip.frames)
            waiting = pixels * (self._decoded + 2 * batch) if what == "videos" else 0
            note = f"{batch} at once" if batch > 1 else ""
            yield self._phase(f"encoding {what}", whole.peak, whole.weights, note, least=least, waiting=waiting)

    def _work(self, part: str, batch: int) -> Part:
        """Of an encoder on a batch, traced once."""
        if (part, batch) not in self._parts:
            self._parts[part, batch] = self._traced(self._part, part, batch)
        return self._parts[part, batch]

    @cached_property
    def _decoding(self) -> Part:
        return self._traced(self._decode)

    # ---------------------------------------------------------------- traces

    def _traced(self, trace: Callable[..., Any], *arguments: Any) -> Any:
        """`trace(meter, *arguments)` on fakes."""
        on_cuda = self._kind == "cuda"
        meter = Meter(cuda.GRAIN, cuda.attention_workspace) if on_cuda else Meter(also=convolution_workspace)
        device: AbstractContextManager[Any] = cuda.as_on_cuda() if on_cuda else nullcontext()
        with device, CountingFakes(meter):
            return trace(meter, *arguments)

    def _train(self, meter: Meter, layers: int, config: TrainConfig) -> Marks:
        return trace_training(self._base.again(layers), config, meter, self._kind, fake_optimizer)

    def _part(self, meter: Meter, part: str, batch: int) -> Part:
        return trace_part(self._base.again(), part, self._clip, batch, meter)

    def _decode(self, meter: Meter) -> Part:
        return trace_decoding(self._base.again(), self._clip, meter)
