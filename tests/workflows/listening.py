"""Calling `fca train` from a test: what it says, a crash after a step, the weights it left."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fcacli.events import Event, Message, Progress
from fcacli.training import checkpoint
from fcacli.workflows.train import TrainOptions, train
from fcacli.workspace import Workspace


class Listener:
    """A report that keeps everything, and may stop the run as a crash would."""

    def __init__(self, stop_at: int | None = None):
        self.stop_at, self.events = stop_at, []

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Progress) and event.phase == "train" and event.done == self.stop_at:
            raise KeyboardInterrupt

    @property
    def text(self) -> str:
        return "\n".join(event.text for event in self.events if isinstance(event, Message))

    @property
    def warnings(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Message) and event.level == "warning"]

    @property
    def phases(self) -> set[str]:
        return {event.phase for event in self.events if isinstance(event, Progress)}


def crash(workspace: Workspace, options: TrainOptions, step: int, **others: object) -> None:
    """Train until after `step`; what is not saved by then is lost."""
    with pytest.raises(KeyboardInterrupt):
        train(workspace, options, gpus=0, report=Listener(step), **others)


def weights(run: Path) -> dict[str, torch.Tensor]:
    """Of the newest checkpoint."""
    return load_file(checkpoint.latest(run) / "adapter.safetensors")


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Bitwise."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
