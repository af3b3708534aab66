"""Peak memory of every phase of `fca train`: the traces of planner parts, put together.

A phase holds on the device (main memory, on the CPU) what is loaded then; in main memory besides, what passes through it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from fcacli.config import ClipConfig, Keeping, TrainConfig
from fcacli.data.dataset import Images
from fcacli.model.bases.frames import safe_frames
from fcacli.planning import cuda
from fcacli.planning.cpu import convolution_workspace
from fcacli.planning.encoders import Part, trace_decoding, trace_part
from fcacli.planning.estimate import Estimates
from fcacli.planning.fakes import CountingFakes
from fcacli.planning.frozen import as_loaded, elsewhere
from fcacli.planning.live import Meter
from fcacli.planning.repeats import trace_once
from fcacli.planning.shaped import Kind, ShapedBase
from fcacli.planning.training import Marks, at_depth, fake_optimizer, trace_training

PARTS = {"text_encoder": "captions", "vae": "videos", "image_encoder": "images"}
"""Encoders in the order of their work, and what they encode."""
FIRST = "first one, with the parity gate"


@dataclass(frozen=True)
class Phase:
    """Bytes of one phase."""

    name: str
    device: int
    """Peak of tensors on the device; 0 on the CPU, where they are in main memory."""
    device_least: int
    """With what it does by itself where memory ends, see `otherwise`."""
    host: int
    """Peak of tensors in main memory."""
    host_least: int
    note: str = ""
    otherwise: str = "one by one"
    """How it works in the least memory."""


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

    @property
    def host_peak(self) -> Phase:
        """The phase that needs the most main memory."""
        return max(self.phases, key=lambda phase: phase.host_least)


class Planner:
    """Plans configurations of one base at one clip size; what does not depend on the rest is traced once.

    Args:
        kind: the device.
        batches: clips or captions that are encoded at once, by what they are; empty where all is encoded.
        decoded: clips that wait, decoded, for the encoder.
        in_memory: bytes of encoded clips that training keeps in main memory.
        images: "frames" where their features are computed while training: the image encoder stays.
        processes: that train together, each on its device.
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
        processes: int = 1,
    ):
        self._base, self._clip, self.kind = base, clip, kind
        self._batches, self._decoded, self._in_memory, self._images = batches, decoded, in_memory, images
        self.processes = processes
        self._parts: dict[tuple[str, int], Part] = {}
        self._decodings: dict[bool, Part] = {}
        self._trained: list[tuple[TrainConfig, Marks]] = []
        self._estimates = Estimates(base, kind)

    def memory(self, config: TrainConfig) -> Memory:
        """Peaks of all phases under `config`."""
        return self._put_together(config, self._training(config))

    def estimate(self, config: TrainConfig) -> int:
        """What `memory` would most likely find needed, from what it has traced: bytes; see planning/estimate.py."""
        same = self._in_traces(config)
        found = next((marks for traced, marks in self._trained if traced == same), None)
        return self._put_together(config, found or self._estimates.marks(same, self._trained)).needed

    def _put_together(self, config: TrainConfig, marks: Marks) -> Memory:
        """The phases of a training of which these are the traces."""
        away = elsewhere(self._base, config.keeping_among(self.processes))
        on_cuda = self.kind == "cuda"
        stays = {name: marks[name] for name in ("base", "adapter", "optimizer")}
        stays["base"] -= away.gone
        state, inputs, gradients = stays["optimizer"], marks["block inputs"], marks.get("gradients, host", 0)
        encoder = self.work("image_encoder", 1).weights if self._images == "frames" else 0
        more = encoder + away.passing - away.gone
        averaged = stays["adapter"] if self.processes > 1 else 0  # their gradients stay
        resident = sum(stays.values()) + averaged + encoder + away.passing + gradients * (not on_cuda)
        step = more + max(size for name, size in marks.items() if name.startswith("step/"))
        sampling = more + averaged + marks["sampling"]
        picture = self.decoding(config.vae_tiling)
        decoding = resident + picture.peak - (state if on_cuda else 0)  # away while a validation is made

        # main memory beside the device, or all of it
        stored = marks.get("optimizer, host", 0)
        waiting = self._in_memory + away.host + stored + (inputs + gradients) * on_cuda
        validating = waiting + (state if on_cuda else inputs)
        block = away.host // max(1, config.block_swap)  # is there twice while it gets to where it waits
        loading = stays["base"] + away.passing + encoder + marks["drawn"] if on_cuda else self.as_loaded
        training = (
            self._phase("loading", loading, self.as_loaded + block),
            self._phase("training step", step, 0, waiting=waiting),
            self._phase("validation: sampling", sampling, 2 * stays["adapter"], FIRST, waiting=validating),
            self._phase("validation: decoding", decoding, picture.weights, waiting=validating),
            self._phase("saving", resident, stays["adapter"], waiting=waiting),
        )
        phases = (*self._encoding(max(step, sampling, decoding)), *training)
        parts = stays | {"gradients": 0 if gradients else stays["adapter"]}
        hosted = {"blocks": away.host, "block inputs": inputs, "optimizer": stored, "gradients": gradients}
        parts |= {f"{name} in main memory": size for name, size in hosted.items() if size}
        return Memory(self.kind, phases, parts, stays["adapter"] + state + stored)

    @cached_property
    def as_loaded(self) -> int:
        return as_loaded(self._base)

    def _training(self, config: TrainConfig) -> Marks:
        """Marks of the training itself, traced once."""
        same = self._in_traces(config)
        found = next((marks for traced, marks in self._trained if traced == same), None)
        if found is None:
            found = at_depth(
                lambda layers: self.traced(self._train, layers, same, deterministic=same.deterministic), self._base.layers
            )
            self._trained.append((same, found))
        return found

    # ---------------------------------------------------------------- phases

    def _phase(
        self,
        name: str,
        tensors: int,
        passing: int,
        note: str = "",
        *,
        least: int | None = None,
        waiting: int = 0,
        threads: int = 2,
        **more: str,
    ) -> Phase:
        """Of tensors on the device, and of main memory: what passes through it to a CUDA device, and what waits in it.

        Args:
            threads: that have multiplied on the device.
        """
        least = tensors if least is None else least
        if self.kind == "cuda":
            products = threads * cuda.PRODUCTS
            return Phase(name, tensors + products, least + products, passing + waiting, passing + waiting, note, **more)
        return Phase(name, 0, 0, tensors + waiting, least + waiting, note, **more)

    def _encoding(self, others: int) -> Iterator[Phase]:
        """Of each encoder. What it does with smaller batches, or the text encoder block by block, is looked at where it needs
        more than the `others`."""
        for part, what in PARTS.items() if self._batches else ():
            batch = self._batches[what]
            whole = self.work(part, batch)
            in_blocks = whole.spared > 0 and self.kind == "cuda"
            least = whole.peak
            if whole.peak > others:
                least = whole.peak - whole.spared if in_blocks else self.work(part, 1).peak
            pixels = self._clip.width * self._clip.height * 3 * safe_frames(self._clip.frames)
            waiting = pixels * (self._decoded + 2 * batch) if what == "videos" else 0
            note = f"{batch} at once" if batch > 1 else ""
            otherwise = "in blocks from main memory" if in_blocks else "one by one"
            name = f"encoding {what}"
            more = {"otherwise": otherwise}
            yield self._phase(name, whole.peak, whole.weights, note, least=least, waiting=waiting, threads=1, **more)

    def work(self, part: str, batch: int) -> Part:
        """Of an encoder on a batch, traced once."""
        if (part, batch) not in self._parts:
            self._parts[part, batch] = self.traced(self._part, part, batch)
        return self._parts[part, batch]

    def decoding(self, tiling: bool) -> Part:
        """Of the VAE on one clip, traced once."""
        if tiling not in self._decodings:
            self._decodings[tiling] = self.traced(self._decode, tiling)
        return self._decodings[tiling]

    # ---------------------------------------------------------------- traces

    def traced(self, trace: Callable[..., Any], *arguments: Any, deterministic: bool = True) -> Any:
        """`trace(meter, *arguments)` on fakes."""
        on_cuda = self.kind == "cuda"
        meter = Meter(cuda.GRAIN, cuda.workspace(deterministic)) if on_cuda else Meter(also=convolution_workspace)
        device: AbstractContextManager[Any] = cuda.as_on_cuda() if on_cuda else nullcontext()
        with device, CountingFakes(meter):
            return trace(meter, *arguments)

    def _train(self, meter: Meter, layers: int, config: TrainConfig) -> Marks:
        make = partial(fake_optimizer, kind=self.kind)
        return trace_training(self._base.again(layers, config.keeping), config, meter, self.kind, make)

    def _part(self, meter: Meter, part: str, batch: int) -> Part:
        base = self._base.again()
        if part == "vae":
            trace_once(base.vae.encoder, meter)
        return trace_part(base, part, self._clip, batch, meter)

    def _decode(self, meter: Meter, tiling: bool) -> Part:
        base = self._base.again(keeping=Keeping(vae_tiling=tiling))
        trace_once(base.vae.decoder, meter)
        return trace_decoding(base, self._clip, meter)

    def _in_traces(self, config: TrainConfig) -> TrainConfig:
        """Blocks that are elsewhere, and decoding in tiles, are not in the traces of a training. Where several processes train,
        a backward pass always finds gradients, those that DistributedDataParallel keeps to average, and each has its share of
        a batch."""
        if self.processes > 1:
            share = -(-config.batch_size * config.accumulate // self.processes)
            config = replace(config, batch_size=min(config.batch_size, share), accumulate=max(config.accumulate, 2))
        return replace(config, block_swap=0, shard_base=False, vae_tiling=False)
