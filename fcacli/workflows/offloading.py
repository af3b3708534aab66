"""What of a prediction waits in main memory (`fca predict --offload`): as asked, or what is free on the device decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

from fcacli.config import Offload, SampleConfig, TrainConfig
from fcacli.errors import Misuse
from fcacli.events import Message, Report
from fcacli.workflows.room import fits_easily, free_memory

if TYPE_CHECKING:
    from fcacli.model.bases.cogvideox import CogVideoX
    from fcacli.planning.memory import Memory
    from fcacli.planning.shaped import Kind

OFFLOADS: tuple[Offload, ...] = get_args(Offload)
"""The fastest first."""


def settle_offload(
    asked: Offload | None, base: CogVideoX, config: TrainConfig, sampling: SampleConfig, report: Report, many: bool = False
) -> Offload:
    """`asked`; where that is None, the fastest one of which the plan fits what is free on the base's device, and the last one
    where none does. It changes no pixel.

    Args:
        sampling: of the prediction; the rest is the run's.
        many: many clips are predicted, and the VAE stays beside the transformer.

    Raises:
        Misuse: parts cannot be moved between main memory and the CPU.
    """
    if base.device.type == "cpu":
        if asked not in (None, "none"):
            raise Misuse(
                f"--offload {asked} moves parts of the base to a CUDA device and back; this is the CPU", "--offload none"
            )
        _warn_of_main_memory(base, config, sampling, many, report)
        return "none"
    if asked is not None:
        return asked
    from fcacli.model.device_memory import free_on

    free = free_on(base.device)
    if fits_easily(base, config, free):
        return "none"
    needs = _needs("cuda", base, config, sampling, many)
    tried = {}
    for offload in OFFLOADS:
        tried[offload] = needs(offload)
        if tried[offload] <= free:
            break
    needed = ", ".join(f"{size / 1e9:.1f} GB with {how}" for how, size in tried.items())
    fits = tried[offload] <= free
    if len(tried) > 1 or not fits:
        text = f"--offload {offload}: {free / 1e9:.1f} GB of GPU memory are free, by plan it takes {needed}"
        report(Message(text) if fits else Message(f"{text}; it may run out", "warning"))
    return offload


def _warn_of_main_memory(base: CogVideoX, config: TrainConfig, sampling: SampleConfig, many: bool, report: Report) -> None:
    """Before a prediction on the CPU, which the system would end without a word."""
    free = free_memory()
    if free is None or fits_easily(base, config, free):
        return
    if (needed := _needs("cpu", base, config, sampling, many)("none")) > free:
        text = (
            f"a prediction takes {needed / 1e9:.1f} GB of memory by plan, {free / 1e9:.1f} GB are free: the system may end it"
        )
        report(Message(f"{text}; fca plan --predict shows all phases", "warning"))


def _needs(kind: Kind, base: CogVideoX, config: TrainConfig, sampling: SampleConfig, many: bool) -> Callable[[Offload], int]:
    """Bytes of memory of a device that a prediction takes by the plan, by what waits; CUDA's context is there already."""
    from fcacli.planning.choice import card_for
    from fcacli.planning.prediction import PredictionPlanner
    from fcacli.planning.shaped import shaped_base

    config = replace(config, sample=sampling)
    planner = PredictionPlanner(shaped_base(base.spec, kind), config, kind)

    def needed(memory: Memory) -> int:
        decoding = next(phase for phase in memory.phases if phase.name == "decoding")
        beside = memory.parts["base"] + memory.parts["adapter"] if many else 0
        return max(memory.needed, (decoding.device if kind == "cuda" else decoding.host) + beside)

    if kind == "cpu":
        return lambda offload: needed(planner.memory(config, offload))
    return lambda offload: card_for(needed(planner.memory(config, offload)), context=0)
