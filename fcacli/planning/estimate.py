"""What a configuration would take, worked out from the traces of a similar one: for a search, which traces what it finds.

What stays (base, weights, gradients, state) is exact but for what the allocator rounds; what is computed meanwhile is taken to
be as it was.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from torch.nn import Parameter

from fcacli.config import AdapterConfig, TrainConfig
from fcacli.model.attach import attach
from fcacli.model.frozen_memory import frozen_bytes
from fcacli.planning.fakes import CountingFakes
from fcacli.planning.live import Meter
from fcacli.planning.shaped import Kind, ShapedBase
from fcacli.planning.training import Marks
from fcacli.training.footprint import TrainedMemory, trained_memory
from fcacli.training.optim import in_order, parts_of
from fcacli.training.parts import Part

Traced = tuple[TrainConfig, Marks]
Named = list[tuple[str, Parameter]]
NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
"""The first one in a weight's name is its layer's."""


class Estimates:
    """Of one base at one clip size."""

    def __init__(self, base: ShapedBase, kind: Kind):
        self._base, self._kind = base, kind
        self._weights: dict[AdapterConfig, Named] = {}
        self._parts: dict[tuple[AdapterConfig, str, float], list[Part]] = {}

    def marks(self, config: TrainConfig, traced: Sequence[Traced]) -> Marks:
        """Of `config`, from those that were traced; without checkpointing they are a lower bound."""
        near, marks = max(traced, key=lambda one: _alike(one[0], config))
        was, will = self._trained(near), self._trained(config)
        drawn_was, drawn = (self._trained(replace(one, weights="fp32")).weights for one in (near, config))
        base, passing = (new - old for new, old in zip(self._frozen(config), self._frozen(near), strict=True))
        adapter, gradients = will.weights - was.weights, will.gradients - was.gradients
        state, inputs = self._state(will) - self._state(was), self._inputs(config) - self._inputs(near)
        waiting = will.host_gradients - was.host_gradients
        there = base + passing + adapter + state + (waiting if self._kind == "cpu" else -inputs)
        shifts = {
            "base": base,
            "drawn": drawn - drawn_was,
            "adapter": adapter,
            "optimizer": state,
            "optimizer, host": will.host - was.host,
            "gradients, host": will.host_gradients - was.host_gradients,
            "block inputs": inputs,
            "sampling": base + passing + (2 * adapter + state + waiting if self._kind == "cpu" else adapter),
            "step/forward": there + gradients * (config.accumulate > 1),
            "step/backward": there + gradients,
            "step/clipping": there + gradients,
            "step/optimizer": there + gradients + will.step - was.step,
        }
        stays = sum(marks[name] for name in ("base", "adapter", "optimizer"))
        more = config.batch_size / near.batch_size - 1
        return {
            name: size + shifts[_stage(name)] + round(more * max(0, size - stays) * name.startswith("step/"))
            for name, size in marks.items()
        }

    def _state(self, trained: TrainedMemory) -> int:
        return trained.state if self._kind == "cuda" else trained.state + trained.host

    def _frozen(self, config: TrainConfig) -> tuple[int, int]:
        """Bytes of the transformer, and of what of it is made dense for a while."""
        counted = frozen_bytes(self._base.shapes, replace(config.keeping, block_swap=0), self._base.dtype)
        return counted.device, counted.passing

    def _inputs(self, config: TrainConfig) -> int:
        """Bytes of the inputs of all blocks in main memory."""
        if not config.offload_activations:
            return 0
        frames, _, height, width = self._base.latent_shape(config.clip)
        tokens = frames // self._base.temporal_patch * height * width // self._base.config("transformer")["patch_size"] ** 2
        each = (tokens + self._base.text_length) * self._base.d * self._base.dtype.itemsize
        return self._base.layers * config.batch_size * each

    def _trained(self, config: TrainConfig) -> TrainedMemory:
        """What is trained, at the base's own depth."""
        if config.adapter not in self._weights:
            self._weights[config.adapter] = self._trainable(config)
        key = config.adapter, config.optimizer, config.text_lr_scale
        if key not in self._parts:
            self._parts[key] = parts_of(in_order(self._weights[config.adapter], config), config)
        return trained_memory(self._parts[key], config)

    def _trainable(self, config: TrainConfig) -> Named:
        """Of an adapter of two layers, the second one again for each that the base has more."""
        with CountingFakes(Meter()):
            few = attach(self._base.again(min(2, self._base.layers)), config.adapter, config.clip).trainable()
        deep: Named = []
        for of_second, run in groupby(few, key=lambda item: _layer(item[0]) == 1):
            same = list(run)
            deep += same
            for layer in range(2, self._base.layers) if of_second else ():
                deep += [(NUMBER.sub(str(layer), name, count=1), parameter) for name, parameter in same]
        return deep


def _layer(name: str) -> int | None:
    found = NUMBER.search(name)
    return int(found[0]) if found else None


DECIDE: tuple[tuple[str, int], ...] = (
    *(("checkpointing", 8), ("batch_size", 4), ("adapter", 2), ("weights", 2)),
    *(("base_weights", 2), ("offload_activations", 2), ("optimizer", 1), ("offload_optimizer", 1), ("offload_gradients", 1)),
)
"""Fields, and how much it matters that they are the same."""


def _alike(one: TrainConfig, other: TrainConfig) -> int:
    return sum(weight for name, weight in DECIDE if getattr(one, name) == getattr(other, name))


def _stage(name: str) -> str:
    """Of step/forward 1, step/backward <place> and so on, the stage."""
    return name if name.count(" ") == 0 or not name.startswith("step/") else name.split(" ")[0]
