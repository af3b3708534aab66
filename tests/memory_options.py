"""What each option that saves memory may change of a training: one tolerance each, held in seconds on a small random base
(training/test_memory_options.py) and on the miniature (benchmarks/test_memory_tolerances.py, -m benchmark)."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from fcacli.config import TrainConfig
from fcacli.model.attach import attach, load_adapter, save_adapter
from fcacli.model.bases import BaseSpec, load_base
from fcacli.training import checkpoint, loop
from fcacli.training.loop import Session, Subject, fit
from fcacli.workspace import read_json

STEPS, RATE = 20, 1e-3
PLAIN: dict[str, Any] = {"optimizer": "adamw", "precision": "fp32", "checkpointing": False}
BF16 = {"precision": "bf16"}
EIGHT = {"optimizer": "adamw8bit"}
TILED = 40.0
"""dB between a clip decoded in tiles and the same decoded at once, at least, by a trained VAE; the miniature gives back what
it encodes with 32."""


@dataclass(frozen=True)
class Option:
    """Where both tolerances are 0 every bit is the same: gradients, losses, weights, the run's log."""

    fields: Mapping[str, Any]
    gradient: float = 0.0
    """Distance of the gradients of one step from those of the plain run, relative to their norm, at most."""
    loss: float = 0.0
    """Relative change of the loss of each of twenty steps, and of the held-out loss after them, at most."""
    plain: Mapping[str, Any] = field(default_factory=dict)
    """What the plain run has besides PLAIN."""

    @property
    def exact(self) -> bool:
        return not self.gradient and not self.loss


WAITING = {"offload_optimizer": True, "offload_gradients": True, "offload_activations": True, "block_swap": 1}
OPTIONS = {
    "--checkpointing": Option({"checkpointing": True}),
    "--offload-optimizer": Option({"offload_optimizer": True}),
    "--offload-gradients": Option({"offload_gradients": True}),
    "--offload-activations": Option({"offload_activations": True, "checkpointing": True}),
    "--block-swap 1": Option({"block_swap": 1, "checkpointing": True}),
    "all of these": Option(WAITING | {"checkpointing": True}),
    "all of these, adamw8bit": Option(WAITING | EIGHT | {"checkpointing": True}, plain=EIGHT),
    "all of these, bf16 weights": Option(
        WAITING | BF16 | {"weights": "bf16", "checkpointing": True}, plain=BF16 | {"weights": "bf16"}
    ),
    "--optimizer adamw8bit": Option(EIGHT, loss=0.0005),
    "--optimizer paged-adamw8bit": Option({"optimizer": "paged-adamw8bit"}, loss=0.0005),
    "--precision bf16": Option(BF16, gradient=0.05, loss=0.005),
    "--weights bf16": Option(BF16 | {"weights": "bf16"}, gradient=0.03, loss=0.005, plain=BF16),
    "--weights bf16-stochastic": Option(BF16 | {"weights": "bf16-stochastic"}, gradient=0.03, loss=0.005, plain=BF16),
    "--base-weights int8": Option({"base_weights": "int8"}, gradient=0.05, loss=0.005),
    "--base-weights fp8": Option({"base_weights": "fp8"}, gradient=0.15, loss=0.02),
    "--base-weights nf4": Option({"base_weights": "nf4"}, gradient=0.4, loss=0.06),
    "--compile": Option({"compile": True}, gradient=1e-4, loss=1e-3),
}
"""As they are typed -> what is asked of them. --shard-base, which needs several processes, has tests of its own
(training/test_sharding.py); --optimizer muon takes other steps, and is not for memory alone."""


@dataclass(frozen=True)
class Material:
    """What is trained on."""

    train: Any
    held_out: Any
    null: tuple[Tensor, Tensor]
    unpack: Any = dict


@dataclass(frozen=True)
class Training:
    """Twenty steps, and the gradients that the optimizer gets for one step from given weights."""

    losses: Tensor
    """Of each step, and the held-out loss after them."""
    weights: dict[str, Tensor]
    log: bytes
    gradients: list[Tensor]
    end: Path
    """The checkpoint."""

    def moved(self, plain: "Training") -> tuple[float, float]:
        """Distances from the plain one as in Option: of the gradients and of the losses."""
        pairs = list(zip(self.gradients, plain.gradients, strict=True))
        apart = sum(float((one - other).double().square().sum()) for one, other in pairs)
        norm = sum(float(other.double().square().sum()) for _, other in pairs)
        return (apart / norm) ** 0.5, float((self.losses / plain.losses - 1).abs().max())

    def same(self, plain: "Training") -> bool:
        """To the bit."""
        weights = all(torch.equal(weight, plain.weights[name]) for name, weight in self.weights.items())
        gradients = all(torch.equal(one, other) for one, other in zip(self.gradients, plain.gradients, strict=True))
        return weights and gradients and self.weights.keys() == plain.weights.keys() and self.log == plain.log


Train = Callable[[Mapping[str, Any], Path | None], Training]
"""Fields of the configuration, and the checkpoint with whose weights the gradients are taken; None for the run's own last."""


def compared(option: Option, train: Train, plains: dict[str, Training]) -> tuple[Training, Training]:
    """A training with the option, and the plain one, which is made where it is not in `plains` yet."""
    key = str(option.plain)
    if key not in plains:
        plains[key] = train(PLAIN | option.plain, None)
    return train(PLAIN | option.fields, plains[key].end), plains[key]


def require(option: Option, found: Training, plain: Training) -> None:
    """Within its tolerance, and not the plain run itself where it may differ."""
    assert found.same(plain) == option.exact
    gradient, loss = found.moved(plain)
    assert gradient <= option.gradient and loss <= option.loss, (gradient, loss)


def training(spec: BaseSpec, config: TrainConfig, run: Path, material: Material, start: Path | None, patch: Any) -> Training:
    """A real run of `fit`, and one of a single step for its gradients.

    Args:
        patch: pytest's monkeypatch.
    """
    _fitted(spec, config, run, material)
    end = checkpoint.latest(run)
    gradients: dict[int, Tensor] = {}
    assert end is not None
    with patch.context() as only_here:
        only_here.setattr(loop, "make_optimizer", _noting(gradients))
        one, beside = replace(config, steps=1), run.with_name(run.name + "-gradients")
        _fitted(spec, one, beside, replace(material, held_out=None), start or end)
    log = (run / "log.jsonl").read_bytes()
    losses = [line["loss"] for line in map(json.loads, log.splitlines()) if "loss" in line]
    held_out = read_json(checkpoint.all_validations(run)[-1] / "validation.json")["held_out"]
    return Training(
        losses=torch.tensor([*losses, held_out]).double(),
        weights=load_file(end / "adapter.safetensors"),
        log=log,
        gradients=[gradients[place] for place in sorted(gradients)],
        end=end,
    )


def _fitted(spec: BaseSpec, config: TrainConfig, run: Path, material: Material, start: Path | None = None) -> None:
    base = load_base(spec)
    base.keep(config.keeping)
    for weight in base.transformer.parameters():
        if weight.data_ptr() % 64:  # mapped from its file; a CPU may round by where a tensor begins, and copies begin at 64
            weight.data = weight.data.clone()
    run.mkdir(parents=True)
    torch.manual_seed(0)
    adapter = attach(base, config.adapter, config.clip) if start is None else load_adapter(base, start)
    subject = Subject(
        base=base,
        adapter=adapter,
        write_adapter=lambda folder: save_adapter(adapter, folder, config.base, config.base_fingerprint, config.clip),
        train=material.train,
        held_out=material.held_out,
        null=material.null,
        unpack=material.unpack,
    )
    fit(subject, config, run, Session())


def _noting(gradients: dict[int, Tensor]) -> Any:
    """`make_optimizer`, of an optimizer that notes the gradients it gets, by the place of their weight."""
    make = loop.make_optimizer

    def noting(*arguments: Any) -> Any:
        optimizer = make(*arguments)
        for part, master, inner in zip(optimizer.parts, optimizer.masters, optimizer.inner, strict=True):

            def step(part: Any = part, master: Any = master, inner_step: Any = inner.step) -> None:
                gradients.update({place: one.clone() for place, one in part.each(master.grad).items()})
                inner_step()

            inner.step = step
        return optimizer

    return noting
