"""The configuration of a training that has not begun: what `fca plan` plans and `fca train --print-launch` checks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fcacli.config import TrainConfig
from fcacli.errors import FcaError, Misuse
from fcacli.events import Message, Report
from fcacli.model.arithmetic import computes_bf16
from fcacli.workflows.shares import enough_for, require_shares
from fcacli.workflows.train_options import TrainOptions, as_stored, require_precision, resolve
from fcacli.workspace import Workspace

if TYPE_CHECKING:
    from fcacli.planning.shaped import ShapedBase
    from fcacli.workflows.encode.plan import Plan as Encodings


def configured(
    workspace: Workspace, options: TrainOptions, base: ShapedBase, processes: int, report: Report
) -> tuple[TrainConfig, Encodings | None]:
    """The configuration of a new run with these options by so many processes, and what the encodings of the prepared data take:
    None where nothing is prepared.

    Raises:
        Misuse: an option is out of range, does not fit the base, or the processes cannot share a step.
        FcaError: the dataset that is named is not there.
    """
    from fcacli.workflows.train import require_fit

    def config_of(options: TrainOptions, data: str = "") -> TrainConfig:
        config = resolve(options, base.spec, "", data, base.kind == "cuda" or computes_bf16("cpu"))
        require_fit(base, config)
        return config

    require_precision(options, base)
    encodings = None
    try:
        dataset = workspace.dataset(options.data)
        config = config_of(as_stored(options, dataset, base, report), dataset.name)
        encodings = encodings_of(base, dataset, config)
    except Misuse:
        raise
    except FcaError as error:  # nothing is prepared yet, or nothing of that length
        if options.data is not None:
            raise
        config = config_of(options)
        report(Message(f"{error.message}: planned without data", "detail"))
    config = enough_for(processes, options, config)
    require_shares(options, config, processes, report)
    return config, encodings


def encodings_of(base: ShapedBase, dataset: Path, config: TrainConfig) -> Encodings:
    """What the encodings of a prepared dataset take; which clips are the same does not depend on the encoder."""
    from fcacli.workflows.encode.encode import choose_clips, counts_of, keys_of
    from fcacli.workflows.encode.plan import plan as plan_encodings

    clips = choose_clips(dataset, config.clip)
    return plan_encodings(base, config.clip, counts_of({split: keys_of(clips[split], config.clip, "") for split in clips}))
