"""`fca plan --predict`: what a prediction would take, by what waits in main memory, and what fits a card."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fcacli.config import Offload, TrainConfig
from fcacli.errors import FcaError, Misuse
from fcacli.events import Message, Report, silent
from fcacli.model.arithmetic import computes_bf16
from fcacli.workflows.offloading import OFFLOADS
from fcacli.workflows.plan import allowances, kind_of
from fcacli.workflows.room import peak_of_process
from fcacli.workflows.train_options import TrainOptions, as_arguments, as_stored, resolve
from fcacli.workspace import Workspace

if TYPE_CHECKING:
    from fcacli.model.bases import BaseSpec
    from fcacli.planning.memory import Memory
    from fcacli.planning.prediction import PredictionPlanner
    from fcacli.planning.shaped import Kind

__all__ = ["PlannedPrediction", "plan_prediction"]

Changes = dict[str, Any]
"""Of TrainOptions."""


@dataclass(frozen=True)
class PlannedPrediction:
    """What `fca plan --predict` reports."""

    base: str
    config: TrainConfig
    """Of the run that predicts."""
    memory: Mapping[Offload, Memory]
    """By what waits in main memory; on the CPU nothing does."""
    cards: Mapping[Offload, int]
    """Bytes of device memory that each needs, with the allowances; none on the CPU."""
    offload: Offload
    """The least costly one that fits `gpu_memory`."""
    gpu_memory: int | None
    """Bytes asked about."""
    training: str | None
    """The line of a training whose run predicts so; None where the run is there."""
    command: str
    process: int
    """Bytes of main memory of this process, which holds the libraries and no tensors: measured here."""

    def allowances(self) -> list[str]:
        """What is not tensors, apart from them."""
        return allowances(self.memory[self.offload], self.cards.get(self.offload, 0), self.process)


def plan_prediction(
    workspace: Workspace,
    options: TrainOptions | None = None,
    *,
    run: str | None = None,
    gpus: int | None = None,
    gpu_memory: int | None = None,
    report: Report = silent,
) -> PlannedPrediction:
    """Plan a prediction by a run, or by a training with these options; with the least costly --offload that fits `gpu_memory`
    bytes, and, of a run that is not there yet, with decoding in tiles or a base in fewer bits where that is not enough.

    No weights are read.

    Raises:
        Misuse: an option is out of range, or does not go with another.
        FcaError: no such run, or nothing that was tried fits.
    """
    from fcacli.planning.choice import card_for
    from fcacli.planning.prediction import PredictionPlanner
    from fcacli.planning.shaped import shaped_base

    options = options or TrainOptions()
    _check(options, run, gpus, gpu_memory)
    found, spec = _run(workspace, run) if run is not None else (None, _base(options))
    kind: Kind = "cuda" if gpu_memory is not None else kind_of(gpus, spec)
    base = shaped_base(spec, kind)
    if found is None:
        options = _as_stored(workspace, options, base, report)
    config = found or resolve(options, spec, "", options.data or "", kind == "cuda" or computes_bf16("cpu"))
    _require_fit(base, config)
    report(Message(f"base {spec.name} ({spec.reason}), planned for {'a CUDA device' if kind == 'cuda' else 'the CPU'}"))
    planner = PredictionPlanner(base, config, kind)
    ways = _ways(config, options) if found is None and gpu_memory is not None else iter([{}])
    changes, chosen, offload = _chosen(planner, config, ways, gpu_memory)
    memory = {how: planner.memory(chosen, how) for how in (OFFLOADS if kind == "cuda" else OFFLOADS[:1])}
    return PlannedPrediction(
        base=spec.name,
        config=chosen,
        memory=memory,
        cards={how: card_for(one.needed) for how, one in memory.items() if kind == "cuda"},
        offload=offload,
        gpu_memory=gpu_memory,
        training=None if found else f"fca train {as_arguments(replace(options, **changes))}".strip(),
        command=_command(run, kind, offload),
        process=peak_of_process(),
    )


# ---------------------------------------------------------------- its parts


def _check(options: TrainOptions, run: str | None, gpus: int | None, gpu_memory: int | None) -> None:
    if gpu_memory is not None and gpus == 0:
        raise Misuse("--gpu-memory is that of a CUDA device, and --gpus 0 is the CPU", "leave one of them out")
    if (gpus or 0) > 1:
        raise Misuse(f"a prediction is made on one device, and --gpus {gpus} are several", "--gpus 1")
    if run is not None and options != TrainOptions():
        raise Misuse("a run has its own options of training", "leave out --run, or the options of fca train")


def _run(workspace: Workspace, name: str) -> tuple[TrainConfig, BaseSpec]:
    """A run's configuration, and its base."""
    from fcacli.model.bases import resolve_base
    from fcacli.training.checkpoint import read_config

    config = read_config(workspace.run(name))
    try:
        return config, resolve_base(config.base)
    except Misuse as error:  # no option is wrong: a folder is gone
        raise FcaError(f"the base of run {name} is not there: {error.message}", "put the folder back") from None


def _base(options: TrainOptions) -> BaseSpec:
    from fcacli.model.bases import resolve_base

    return resolve_base(options.base or "auto")


def _as_stored(workspace: Workspace, options: TrainOptions, base: Any, report: Report) -> TrainOptions:
    """As a training on the prepared data, where there is any."""
    try:
        return as_stored(options, workspace.dataset(options.data), base, report)
    except Misuse:
        raise
    except FcaError:
        if options.data is not None:
            raise
        return options


def _require_fit(base: Any, config: TrainConfig) -> None:
    from fcacli.workflows.train import require_fit

    require_fit(base, config)


def _ways(config: TrainConfig, options: TrainOptions) -> Iterator[Changes]:
    """What may be changed of a run that is not there yet, the least first: none of it leaves the result as it is."""
    tiling: list[Changes] = [{}]
    if options.vae_tiling is None and not config.vae_tiling:
        tiling.append({"vae_tiling": True})
    weights: list[Changes] = [{}]
    if options.base_weights is None:
        weights += [{"base_weights": "int8"}, {"base_weights": "nf4"}]
    yield from ({**bits, **tiles} for bits in weights for tiles in tiling)


def _chosen(
    planner: PredictionPlanner, config: TrainConfig, ways: Iterator[Changes], gpu_memory: int | None
) -> tuple[Changes, TrainConfig, Offload]:
    """
    Raises:
        FcaError: nothing fits.
    """
    from fcacli.planning.choice import card_for

    if gpu_memory is None:
        return {}, config, "none"
    tried: list[tuple[int, str]] = []
    for changes in ways:
        changed = replace(config, **changes)
        for offload in OFFLOADS:
            memory = planner.memory(changed, offload)
            if (card := card_for(memory.needed)) <= gpu_memory:
                return changes, changed, offload
            words = [f"--offload {offload}", f"{changed.base_weights} base" * (changed.base_weights != "full")]
            tried.append((card, f"{memory.peak.name} with {', '.join([*words, 'decoding in tiles' * changed.vae_tiling])}"))
    card, what = min(tried)
    what = ", ".join(word for word in what.split(", ") if word)
    raise FcaError(
        f"nothing that was tried fits {gpu_memory / 1e9:.1f} GB: {what} needs {(card - gpu_memory) / 1e9:.1f} GB more",
        "a larger --gpu-memory, a smaller --size or fewer --frames",
    )


def _command(run: str | None, kind: Kind, offload: Offload) -> str:
    words = ["fca predict FRAMES TEXT"]
    words += [f"--run {shlex.quote(run)}"] if run is not None else []
    words += [f"--offload {offload}"] if offload != "none" else []
    words += ["--device cpu"] if kind == "cpu" else []
    return " ".join(words)
