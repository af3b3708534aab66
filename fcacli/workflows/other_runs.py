"""The other runs of a workspace that predict the same clips, so that each can have its row."""

from collections.abc import Iterator

from fcacli.config import TrainConfig
from fcacli.errors import FcaError
from fcacli.events import Message, Report
from fcacli.workflows.trained import Trained, find_trained
from fcacli.workflows.which_run import require_training_data
from fcacli.workspace import Workspace

SAME = ("frames", "init_frames", "width", "height", "fit")
"""Fields of a run's clips that must be equal; the frame rate of what is written changes no pixel."""


def other_runs(workspace: Workspace, trained: Trained, device: str | None, report: Report) -> Iterator[Trained]:
    """Oldest first, one after the other is loaded; one that predicts other clips or cannot be used is named and left out."""
    from fcacli.training.checkpoint import read_config

    for run in workspace.all_runs():
        if run == trained.run:
            continue
        try:
            theirs = read_config(run)
            if different := _different(trained.config, theirs):
                report(Message(f"run {run.name} predicts other clips ({'; '.join(different)}); it has no row"))
                continue
            require_training_data(run, theirs, workspace.dataset(theirs.data), report)
            found = find_trained(workspace, run.name, None, device, report)
        except FcaError as error:
            report(Message(f"run {run.name} has no row: {error.message}"))
            continue
        report(Message(f"also {found.describe()}"))
        yield found


def _different(ours: TrainConfig, theirs: TrainConfig) -> list[str]:
    fields = [("data", ours.data, theirs.data)]
    fields += [(name, getattr(ours.clip, name), getattr(theirs.clip, name)) for name in SAME]
    return [f"{name} {other}, here {own}" for name, own, other in fields if own != other]
