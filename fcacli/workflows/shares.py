"""The clips of an optimizer step and the processes that share them.

A configuration holds the clips of a step over all processes, so a run is the same run on one device or on eight.
"""

from dataclasses import replace

from fcacli.config import TrainConfig
from fcacli.errors import Misuse
from fcacli.events import Message, Report
from fcacli.training.loader import micro_batches
from fcacli.workflows.train_options import TrainOptions


def enough_for(processes: int, options: TrainOptions, config: TrainConfig) -> TrainConfig:
    """The configuration of a run that starts: where --accumulate was left open, a step has a clip for each process, and
    processes that share the base have as many batches each."""
    if options.accumulate is not None:
        return config
    least = max(config.accumulate, -(-processes // config.batch_size))
    enough = (replace(config, accumulate=more) for more in range(least, least + processes))
    return next(found for found in enough if not config.shard_base or _in_step(found, processes))


def _in_step(config: TrainConfig, processes: int) -> bool:
    """Whether every process calls the model as often as the others."""
    return len({len(micro_batches(config, rank, processes)) for rank in range(processes)}) == 1


def require_shares(options: TrainOptions, config: TrainConfig, processes: int, report: Report) -> None:
    """Say how a step is shared.

    Raises:
        Misuse: it has fewer clips than there are processes, or gradients that wait apart in each of them, or one process was
            asked to share its base, or processes that share it would not call it equally often.
    """
    if options.shard_base and processes == 1:
        raise Misuse(
            "--shard-base shares the frozen base out among processes, and this is one",
            "--gpus 2; or --base-weights int8 or --block-swap, which save memory on one device",
        )
    if processes > 1 and config.offload_gradients:
        raise Misuse(
            f"--offload-gradients is for one process, and these are {processes}, which share their gradients",
            "leave it out for a new run, or start one process",
        )
    clips = config.batch_size * config.accumulate
    product = f"--batch-size {config.batch_size} x --accumulate {config.accumulate}"
    of = f"a step has {clips} clip{'s' if clips > 1 else ''} ({product})"
    if clips < processes:
        most = f"{clips} process{'es' if clips > 1 else ''}"
        raise Misuse(
            f"{of}, too few for {processes} processes",
            f"at most {most}; or, for a new run, --accumulate {-(-processes // config.batch_size)}",
        )
    if config.shard_base and not _in_step(config, processes):
        raise Misuse(
            f"{of}, in unequal numbers of batches for {processes} processes, and with --shard-base each gathers what all need",
            f"another number of processes; or, for a new run, --accumulate {processes * -(-config.accumulate // processes)}",
        )
    if clips % processes:
        report(Message(f"{of}, which {processes} processes cannot share evenly: some wait for the others", "warning"))
    elif processes > 1:
        report(Message(f"{of}, {clips // processes} for each of {processes} processes"))
