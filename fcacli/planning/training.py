"""The bytes of training: what stays on the device, one step, and the sampling of a validation. The project's own code runs.

Planned with fake tensors, and counted with real ones by the tests. The layers of a transformer are alike: a step is traced
at two small depths, and its peaks, each at a place of its own (`_place`), go on in a straight line to the real depth.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from fcacli.config import TrainConfig
from fcacli.model.attach import Adapter, attach
from fcacli.model.bases.cogvideox import CogVideoX
from fcacli.model.bases.frames import latent_frames
from fcacli.model.conditioning import Given
from fcacli.planning.live import Meter
from fcacli.planning.optimizer import COPIES_ON_CPU, FakeAdamW8bit
from fcacli.planning.shaped import Kind
from fcacli.training.activations import keep_inputs_in_main_memory
from fcacli.training.footprint import TrainedMemory, trained_memory
from fcacli.training.kernels import step_kernels
from fcacli.training.objective import Draw, diffusion_loss
from fcacli.training.optim import make_optimizer
from fcacli.training.stepping import AdapterOptimizer

DEPTHS = (4, 5)
"""Layers at which a deeper transformer is traced: in both there are the first two and the last two."""
Marks = dict[str, int]
"""Bytes by the name of a place."""
MakeOptimizer = Callable[[Sequence[tuple[str, Parameter]], TrainConfig], AdapterOptimizer]
"""As training/optim.py's."""


def at_depth(trace: Callable[[int], Marks], layers: int) -> Marks:
    """The marks of `trace` for so many layers: traced where these are few, else continued from DEPTHS in straight lines."""
    if layers <= DEPTHS[-1] + 1:
        return trace(layers)
    low, high = (trace(depth) for depth in DEPTHS)
    steps = (layers - DEPTHS[1]) / (DEPTHS[1] - DEPTHS[0])
    return {name: round(size + steps * (size - low.get(name, size))) for name, size in high.items()}


def trace_training(base: CogVideoX, config: TrainConfig, meter: Meter, kind: Kind, make: MakeOptimizer) -> Marks:
    """One training step, and before it one call of a validation's sampling, on a base of any depth.

    Args:
        kind: the device that it is planned for; see planning/cuda.py.
        make: `make_optimizer`, or for fake tensors `fake_optimizer`.

    Returns:
        what stays: base, adapter, optimizer, "block inputs" and "gradients, host" in main memory, and beside a CUDA device
        "optimizer, host"; the adapter as it is "drawn"; peaks: sampling, and step/<place> for each place of the step.
    """
    before = meter.now
    meter.see_all([*base.transformer.parameters(), *base.transformer.buffers()])
    stays, before = {"base": meter.now - before}, meter.now
    adapter = attach(base, config.adapter, config.clip)
    parameters = [parameter for _, parameter in adapter.trainable()]
    drawn, attached = _nbytes(parameters), meter.now - before
    optimizer = make(adapter.trainable(), config)
    stays["drawn"] = attached  # in float32, until the optimizer is made
    stays["adapter"] = attached - drawn + _nbytes(parameters)  # the weights have the type that they are kept in
    _give_state(optimizer, parameters, kind)
    trained = trained_memory(optimizer.parts, config)
    stays["gradients, host"] = trained.host_gradients
    stays["optimizer"] = meter.now - before - stays["adapter"] - stays["gradients, host"]
    meter.marks.clear()
    _sampling(base, adapter, config, parameters if kind == "cpu" else [], meter)
    _recompute(base, config)
    inputs = meter.now
    if config.offload_activations:  # the buffers of block inputs stay from the first forward pass on
        _forward(base, adapter, config, kind)
    stays["block inputs"] = meter.now - inputs
    if config.accumulate > 1:  # all but the first batch of a step find gradients
        for parameter in parameters:
            parameter.grad = torch.zeros_like(parameter)
        optimizer.gradients.put_away()
    _step(base, adapter, config, optimizer, meter, kind)
    marks = stays | meter.marks
    return marks if kind == "cpu" else _without_host(marks, trained)


# ---------------------------------------------------------------- the parts


def fake_optimizer(trainable: Sequence[tuple[str, Parameter]], config: TrainConfig, kind: Kind = "cpu") -> AdapterOptimizer:
    """The optimizer of the run, with what runs on fake tensors in the place of bitsandbytes on such a device."""
    if config.optimizer in ("adamw", "muon"):
        return make_optimizer(trainable, config)
    return make_optimizer(trainable, config, partial(FakeAdamW8bit, copies=COPIES_ON_CPU * (kind == "cpu")))


def _nbytes(parameters: Sequence[Tensor]) -> int:
    return sum(parameter.nbytes for parameter in parameters)


def _without_host(marks: Marks, trained: TrainedMemory) -> Marks:
    """A CUDA device has not what was traced on the CPU for main memory: state and block inputs that live there; in a
    validation, no state at all."""
    host = trained.host + trained.host_gradients
    there = {name: size - (host + marks["block inputs"]) * name.startswith("step/") for name, size in marks.items()}
    there["optimizer"] -= trained.host
    there["sampling"] -= marks["optimizer"] + trained.host_gradients
    return there | {"optimizer, host": trained.host}


def _give_state(optimizer: AdapterOptimizer, parameters: list[Parameter], kind: Kind) -> None:
    """The state that an optimizer has from the first step on."""
    if kind == "cuda":  # what torch chooses for CUDA tensors; others go one by one
        for group in optimizer.param_groups:
            group["foreach"] = True
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(0)


def _recompute(base: CogVideoX, config: TrainConfig) -> None:
    """As training/loop.py."""
    if config.checkpointing:
        base.transformer.enable_gradient_checkpointing()
    if config.offload_activations:
        keep_inputs_in_main_memory(base.transformer)


def _forward(base: CogVideoX, adapter: Adapter, config: TrainConfig, kind: Kind) -> None:
    """A forward pass, and nothing of it is kept."""
    with step_kernels(config, torch.device("cpu")) if kind == "cpu" else nullcontext(), _autocast(config):
        diffusion_loss(base, adapter, *_batch(base, config))


def _step(
    base: CogVideoX, adapter: Adapter, config: TrainConfig, optimizer: AdapterOptimizer, meter: Meter, kind: Kind
) -> None:
    """Forward pass, backward pass, clipping and the optimizer's step; see training/loop.py."""
    batch, null, drawn = _batch(base, config)
    calls = iter(range(9))
    hooks = [base.transformer.register_forward_pre_hook(lambda *_: meter.mark(f"step/forward {next(calls)}"))]
    for name, parameter in adapter.trainable():
        place = f"step/backward {_place(name, base.layers)}"
        hooks.append(parameter.register_post_accumulate_grad_hook(lambda _, place=place: meter.mark(place)))  # type: ignore[misc]
    meter.restart()
    with step_kernels(config, torch.device("cpu")) if kind == "cpu" else nullcontext():
        with _autocast(config):
            loss = diffusion_loss(base, adapter, batch, null, drawn)
        meter.mark("step/forward")
        (loss.mean() / config.accumulate).backward()
    meter.mark("step/backward")
    for hook in hooks:
        hook.remove()
    optimizer.gradients.clip(config.clip_norm)
    meter.mark("step/clipping")
    optimizer.step(1)
    meter.mark("step/optimizer")


def _autocast(config: TrainConfig) -> AbstractContextManager[Any]:
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.precision == "bf16")


def _place(name: str, layers: int) -> str:
    """Where in the backward pass a parameter's gradient comes, for any depth: its name, and the first layer to come (the
    last) or the second, the last one (0), the one before it (1; 0 may need less) or one between them. At first most
    inputs wait for their layers, at last most gradients are there: from one to the other it goes in a straight line."""
    if (found := re.search(r"(?<=\.)\d+(?=\.)", name)) is None:
        return name
    layer = int(found[0])
    which = {layers - 2: "last but one", layers - 1: "last", 1: "1", 0: "0"}.get(layer, "between")
    return f"{name[: found.start()]}{which}{name[found.end() :]}"


@torch.no_grad()
def _sampling(base: CogVideoX, adapter: Any, config: TrainConfig, parameters: list[Any], meter: Meter) -> None:
    """Conditioning and one denoising step of prediction/sampler.py; at a run's first validation, when the parity gate has
    loaded the checkpoint as a second adapter, and the first one's parameters are still there."""
    first = [torch.empty_like(parameter) for parameter in parameters]
    guided = 2  # without guidance too: the gate compares two clips at once
    given = given_of(base, config, guided)
    meter.restart()
    conditioning = adapter.condition(base, given)
    shape = base.latent_shape(config.clip)
    x = torch.zeros(1, *shape)
    output = adapter.denoise(
        base, torch.cat([x] * guided), torch.zeros(guided, dtype=torch.int64), given.text, conditioning
    ).float()
    null, full = output.chunk(2)
    output = null + config.sample.guidance * (full - null)
    meter.mark("sampling")
    del first


def _batch(base: CogVideoX, config: TrainConfig) -> tuple[dict[str, Tensor], tuple[Tensor, Tensor], Draw]:
    """A batch as training/loop.py has it, the empty caption, and what is drawn."""
    given = given_of(base, config, config.batch_size)
    shape = (config.batch_size, *base.latent_shape(config.clip))
    batch = {
        "latents": torch.zeros(shape, dtype=base.dtype),
        "init_latents": given.init_latents,
        "text": given.text,
        "text_mask": given.text_mask,
        "image": given.image,
    }
    drawn = Draw(
        timesteps=torch.zeros(config.batch_size, dtype=torch.int64),
        noise=torch.zeros(shape),
        dropped=torch.zeros(config.batch_size, dtype=torch.bool),
    )
    return batch, (torch.zeros_like(given.text[0]), torch.ones_like(given.text_mask[0])), drawn


def given_of(base: CogVideoX, config: TrainConfig, batch: int) -> Given:
    """What conditions a batch of clips."""
    _, channels, height, width = base.latent_shape(config.clip)
    init, encoder = config.clip.init_frames, base.config("image_encoder")
    patches = init * (encoder["image_size"] // encoder["patch_size"]) ** 2
    return Given(
        init_latents=torch.zeros(batch, latent_frames(init), channels, height, width, dtype=base.dtype),
        text=torch.zeros(batch, base.text_length, base.config("transformer")["text_embed_dim"], dtype=base.dtype),
        text_mask=torch.ones(batch, base.text_length, dtype=torch.bool),
        image=torch.zeros(batch, patches, encoder["hidden_size"], dtype=base.dtype),
    )
