"""The bytes of `fca predict`: encoders, conditions, a denoising step and decoding, one part of the base after the other.

Planned with fake tensors, and counted with real ones by the tests, as training is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fcacli.config import Offload, TrainConfig
from fcacli.model.attach import attach
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.model.fca import FCAAdapter
from fcacli.planning import cuda
from fcacli.planning.encoders import Part, weights_of
from fcacli.planning.frozen import elsewhere
from fcacli.planning.live import Meter
from fcacli.planning.memory import Memory, Phase, Planner
from fcacli.planning.repeats import trace_once
from fcacli.planning.shaped import Kind, ShapedBase
from fcacli.planning.training import Marks, at_depth, given_of

HALVES = 2
"""Captions of a prediction: its own and the empty one."""
IN_BLOCKS = "in blocks from main memory"


class PredictionPlanner:
    """Plans predictions of one base at one clip size; what does not depend on the rest is traced once.

    Args:
        base, kind: see Planner.
        config: of the run, whose clip, adapter and sampling all plans have.
    """

    def __init__(self, base: ShapedBase, config: TrainConfig, kind: Kind):
        self.kind = kind
        self._base, self._config = base, config
        self._planner = Planner(base, config.clip, kind, {})
        self._marks: dict[tuple[str, bool], Marks] = {}
        self._init: Part | None = None

    def memory(self, config: TrainConfig, offload: Offload) -> Memory:
        """Peaks of all phases; of `config` the base's weights and decoding in tiles may differ from the planner's."""
        marks = self._traced(config, offload != "none")
        keeping = config.keeping
        if offload == "sequential":
            keeping = replace(keeping, block_swap=self._base.layers)
        away = elsewhere(self._base, keeping)
        base, waiting = marks["base"] - away.gone, marks["waiting"]
        there = away.passing - away.gone - waiting * (self.kind == "cuda")
        conditioning = there + max(size for name, size in marks.items() if name.startswith("conditioning"))
        parts = {"base": base, "adapter": marks["adapter"]}
        hosted = {"blocks": away.host, "adapter": waiting}
        parts |= {f"{name} in main memory": size for name, size in hosted.items() if size}
        phases = (
            *self._encoding(),
            self._loading(marks, base + marks["adapter"] + away.passing, away.host),
            self._phase("conditions", conditioning, 0, away.host + waiting),
            self._phase("denoising", there + marks["denoising"], 0, away.host + waiting),
            self._phase("decoding", (picture := self._planner.decoding(config.vae_tiling)).peak, picture.weights),
        )
        return Memory(self.kind, phases, parts, marks["as saved"])

    # ---------------------------------------------------------------- phases

    def _encoding(self) -> Iterator[Phase]:
        """Of each encoder, alone."""
        text = self._planner.work("text_encoder", HALVES)
        spared = text.spared if self.kind == "cuda" else 0
        yield self._phase("captions", text.peak, text.weights, spared=spared)
        if self._init is None:
            self._init = self._planner.traced(_trace_init, self._base, self._config)
        for name, part in (("latents", self._init), ("features", self._planner.work("image_encoder", 1))):
            yield self._phase(f"given frames: {name}", part.peak, part.weights)

    def _loading(self, marks: Marks, there: int, swapped: int) -> Phase:
        """The transformer is read into main memory and brought to the device block by block, then the adapter is read."""
        if self.kind == "cpu":
            return self._phase("loading", max(there, marks["base"] + marks["as saved"]), 0)
        return self._phase("loading", there, max(self._planner.as_loaded, swapped + marks["as saved"]))

    def _phase(self, name: str, tensors: int, passing: int, waiting: int = 0, spared: int = 0) -> Phase:
        least = tensors - spared
        if self.kind == "cuda":
            products = cuda.PRODUCTS
            return Phase(name, tensors + products, least + products, passing + waiting, passing + waiting, otherwise=IN_BLOCKS)
        return Phase(name, 0, 0, tensors, least)

    # ---------------------------------------------------------------- traces

    def _traced(self, config: TrainConfig, waits: bool) -> Marks:
        """Marks of conditions and denoising, traced once for each form of the base's weights."""
        key = (config.base_weights, waits)
        if key not in self._marks:
            offload: Offload = "model" if waits else "none"

            def trace(meter: Meter, layers: int) -> Marks:
                return trace_prediction(self._base.again(layers, config.keeping), config, meter, offload)

            self._marks[key] = at_depth(lambda layers: self._planner.traced(trace, layers), self._base.layers)
        return self._marks[key]


@torch.no_grad()
def trace_prediction(base: CogVideoX, config: TrainConfig, meter: Meter, offload: Offload) -> Marks:
    """The adapter as workflows/trained.py loads it, then conditions and a denoising step of prediction/sampler.py.

    Returns:
        what stays: base, adapter, and "waiting" in main memory; "as saved", of the adapter's file; peaks: conditioning/<place>
        and denoising, with all of these in them.
    """
    before = meter.now
    meter.see_all([*base.transformer.parameters(), *base.transformer.buffers()])
    marks, before = {"base": meter.now - before}, meter.now
    adapter: Any = attach(base, config.adapter, config.clip, torch.float32 if config.weights == "fp32" else torch.bfloat16)
    marks["as saved"], marks["waiting"] = sum(parameter.nbytes for _, parameter in adapter.trainable()), 0
    if isinstance(adapter, FCAAdapter):
        adapter.only_sample(base.dtype)
        if offload != "none":
            adapter.wait(base.device)
        marks["waiting"] = adapter.waiting_bytes
    marks["adapter"] = meter.now - before - marks["waiting"]
    meter.marks.clear()
    guided = 1 if config.sample.guidance == 1.0 else 2
    given = given_of(base, config, 1)
    halves = given.cat(given) if guided == 2 else given
    hooks = (
        base.transformer.register_forward_pre_hook(lambda *_: meter.mark("conditioning/text")),
        base.transformer.register_forward_hook(lambda *_: meter.mark("conditioning/frozen pass")),
    )
    meter.restart()
    conditioning = adapter.condition(base, halves)
    meter.mark("conditioning/keys")
    for hook in hooks:
        hook.remove()
    x = torch.zeros(1, *base.latent_shape(config.clip))
    doubled, t = torch.cat([x] * guided), torch.zeros(guided, dtype=torch.int64)
    output = adapter.denoise(base, doubled, t, halves.text, conditioning).float()
    if guided == 2:
        null, full = output.chunk(2)
        output = null + config.sample.guidance * (full - null)
    meter.mark("denoising")
    return marks | meter.marks


def _trace_init(meter: Meter, base: ShapedBase, config: TrainConfig) -> Part:
    made = base.again()
    trace_once(made.vae.encoder, meter)
    return trace_init(made, config, meter)


def trace_init(base: CogVideoX, config: TrainConfig, meter: Meter) -> Part:
    """The VAE encoding the given frames of one clip."""
    clip, weights = config.clip, weights_of(base.vae, meter)
    base.encode_init(np.zeros((clip.init_frames, clip.height, clip.width, 3), np.uint8))
    meter.mark("init")
    return Part(weights, meter.marks["init"])
