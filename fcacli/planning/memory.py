"""Peak memory of every phase of `fca train`: the traces of planner parts, put together.

A phase holds on the device (main memory, on the CPU) what is loaded then; in main memory besides, what passes through it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fcacli.config import ClipConfig, TrainConfig
from fcacli.model.bases import BaseSpec
from fcacli.model.bases.frames import safe_frames
from fcacli.model.bases.published import part_configs
from fcacli.planning import cuda
from fcacli.planning.encoders import Part, trace_decoding, trace_part
from fcacli.planning.live import CountingFakes, Meter
from fcacli.planning.shaped import Configs, ShapedBase
from fcacli.planning.training import Kind, Marks, at_depth, fake_optimizer, trace_training

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
        batches: clips or captions that are encoded at once, by what they are; see workflows/encode/batches.py.
        decoded: clips that wait, decoded, for the encoder.
        in_memory: bytes of encoded clips that training keeps in main memory.
    """

    def __init__(
        self, spec: BaseSpec, clip: ClipConfig, kind: Kind, batches: Mapping[str, int], decoded: int = 0, in_memory: int = 0
    ):
        import torch

        self._spec, self._clip, self._kind = spec, clip, kind
        self._batches, self._decoded, self._in_memory = batches, decoded, in_memory
        self.configs: Configs = part_configs(spec)
        heads = self.configs["transformer"]
        small = heads["num_attention_heads"] * heads["attention_head_dim"] < 1024
        self.dtype = torch.float32 if kind == "cpu" or small else torch.bfloat16  # as CogVideoX chooses it

    def base(self, layers: int | None = None) -> ShapedBase:
        """Outside of CountingFakes its parts are real: ask it for configurations only."""
        return ShapedBase(self._spec, self.configs, self.dtype, layers)

    def memory(self, config: TrainConfig) -> Memory:
        marks = at_depth(lambda layers: self._traced(self._train, layers, config), self.configs["transformer"]["num_layers"])
        stays = {name: marks[name] for name in ("base", "adapter", "optimizer")}
        resident = sum(stays.values())
        phases = [
            *self._encoding,
            self._phase("training step", max(size for name, size in marks.items() if name.startswith("step/")), self._loaded(stays)),
            self._phase("validation: sampling", marks["sampling"], 2 * stays["adapter"], "first one, with the parity gate"),
            self._phase("validation: decoding", resident + self._decoding.peak, self._decoding.weights),
            self._phase("saving", resident, stays["adapter"]),
        ]
        parts = stays | {"gradients": stays["adapter"]}
        return Memory(self._kind, tuple(phases), parts, stays["adapter"] + stays["optimizer"])

    # ---------------------------------------------------------------- phases

    def _phase(self, name: str, tensors: int, passing: int, note: str = "", least: int | None = None) -> Phase:
        """Of tensors on the device, and of what passes through main memory on its way there or from there."""
        least = tensors if least is None else least
        if self._kind == "cuda":
            return Phase(name, tensors, least, passing, passing, note)
        return Phase(name, 0, 0, tensors, least, note)

    def _loaded(self, stays: Marks) -> int:
        """Main memory: weights are read into it and the adapter is drawn there; then the encoded clips are in it."""
        return max(stays["base"], stays["adapter"]) + self._in_memory

    @cached_property
    def _encoding(self) -> tuple[Phase, ...]:
        phases = []
        for part, what in PARTS.items():
            batch = self._batches[what]
            whole, one = (self._traced(self._part, part, size) for size in (batch, 1))
            frames = safe_frames(self._clip.frames) * self._clip.width * self._clip.height * 3 if what == "videos" else 0
            passing, note = frames * (self._decoded + 2 * batch), f"{batch} at once" if batch > 1 else ""
            phase = self._phase(f"encoding {what}", whole.peak, max(whole.weights, passing), note, one.peak)
            phases.append(phase)
        return tuple(phases)

    @cached_property
    def _decoding(self) -> Part:
        return self._traced(self._decode)

    # ---------------------------------------------------------------- traces

    def _traced(self, trace: Callable[..., Any], *arguments: Any) -> Any:
        """`trace(meter, *arguments)` on fakes."""
        on_cuda = self._kind == "cuda"
        meter = Meter(cuda.GRAIN, cuda.attention_workspace) if on_cuda else Meter()
        device: AbstractContextManager[Any] = cuda.as_on_cuda() if on_cuda else nullcontext()
        with device, CountingFakes(meter):
            return trace(meter, *arguments)

    def _train(self, meter: Meter, layers: int, config: TrainConfig) -> Marks:
        return trace_training(self.base(layers), config, meter, self._kind, fake_optimizer)

    def _part(self, meter: Meter, part: str, batch: int) -> Part:
        return trace_part(self.base(), part, self._clip, batch, meter)

    def _decode(self, meter: Meter) -> Part:
        return trace_decoding(self.base(), self._clip, meter)
