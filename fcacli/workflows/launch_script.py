"""The same training as a batch script for SLURM, and on one machine as a line for torchrun."""

import shlex
from collections.abc import Sequence
from dataclasses import replace

from fcacli.events import Message, Report
from fcacli.workflows.devices import count_gpus
from fcacli.workflows.launch import MODULE, Layout
from fcacli.workflows.train_options import TrainOptions, resolve_fork
from fcacli.workspace import Workspace

PORT = "$((10000 + SLURM_JOB_ID % 20000))"
"""Of its own for each job, for two may have the same head."""


ELSEWHERE = ("--nodes", "--rendezvous")


def check(
    workspace: Workspace,
    options: TrainOptions,
    chosen: Layout,
    report: Report,
    run: str | None = None,
    new: bool = False,
    fork: str | None = None,
) -> None:
    """Look at what a training of these processes is asked for, as far as this machine can tell.

    Args:
        run, new, fork: as `fca train` has them: a run that goes on, and a fork, have options of their own.

    Raises:
        Misuse: an option is out of range, does not fit the base, or the processes cannot share a step.
        FcaError: no such base, dataset or run.
    """
    from fcacli.model.bases import resolve_base
    from fcacli.planning.shaped import shaped_base
    from fcacli.workflows import which_run
    from fcacli.workflows.configured import configured
    from fcacli.workflows.shares import enough_for, require_shares
    from fcacli.workflows.train import require_fit

    shared = True if "--shard-base" in chosen.more else None
    options = replace(
        options,
        precision=options.precision or chosen.precision,
        shard_base=shared if options.shard_base is None else options.shard_base,
    )
    source = which_run.fork_source(workspace, fork, report) if fork is not None else None
    saved = None if new or source else which_run.going_on(which_run.find(workspace, run), options, None)
    if saved is None and run is not None:
        workspace.new_run(run)
    before = saved or (source.config if source else None)
    base = options.base if options.base != "auto" else None
    base = base or (before.base if before else None)
    if base is None and chosen.device == "cuda" and not count_gpus():
        base = "cogvideox-2b"
        report(Message(f"no --base: the machine of each job chooses; checked as for {base}", "warning"))
    shaped = shaped_base(resolve_base(base or "auto"), chosen.device)
    if before is None:
        configured(workspace, options, shaped, chosen.size, report)
        return
    config = before
    if source is not None:
        config = resolve_fork(options, before, before.base, before.base_fingerprint, options.data or before.data)
        config = enough_for(chosen.size, options, config)
    require_fit(shaped, config)
    require_shares(options, config, chosen.size, report)


def slurm_script(words: Sequence[str], chosen: Layout) -> str:
    """A script for sbatch: one `fca train` on each machine, which starts the processes there.

    SLURM tells them two minutes before their time is up, so that they save; a requeued job continues its run, so one that
    begins a new run or a fork each time is not requeued.

    Args:
        words: of the command that was to print it.
    """
    words = _words_for_a_script(words)
    resources = [f"#SBATCH --nodes={chosen.nodes}", "#SBATCH --ntasks-per-node=1"]
    if chosen.device == "cuda":
        resources += [f"#SBATCH --gpus-per-node={chosen.processes}", f"#SBATCH --cpus-per-task={8 * chosen.processes}"]
    else:
        resources.append(f"#SBATCH --cpus-per-task={chosen.processes}")
    command, meet = f"python -m {MODULE} {shlex.join(words)}", []
    if chosen.nodes > 1:
        meet = ['head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)']
        command += f' --nodes {chosen.nodes} --rendezvous "$head:{PORT}"'
    lines = [
        "#!/bin/bash",
        "#SBATCH --job-name=fca",
        *resources,
        "#SBATCH --time=24:00:00",
        "#SBATCH --signal=TERM@120",
        "#SBATCH --no-requeue   # again it would begin anew" if _begins(words) else "#SBATCH --requeue",
        *(["", f"# on one machine without SLURM: {torchrun_line(words, chosen)}"] if chosen.nodes == 1 else []),
        "",
        "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK   # srun does not take it over by itself",
        *meet,
        f"srun --kill-on-bad-exit=1 {command}",
    ]
    return "\n".join(lines)


def _words_for_a_script(words: Sequence[str]) -> list[str]:
    """The words of a command without what `slurm_script` adds itself."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word in ELSEWHERE:
            next(rest, None)
        elif word != "--print-launch" and not word.startswith(tuple(f"{name}=" for name in ELSEWHERE)):
            kept.append(word)
    return kept


def _begins(words: Sequence[str]) -> bool:
    """Whether the same words again do not continue the run."""
    return any(word in ("--new", "--fork") or word.startswith("--fork=") for word in words)


def torchrun_line(words: Sequence[str], chosen: Layout) -> str:
    """The command that starts the processes of one machine."""
    return f"torchrun --standalone --nproc-per-node {chosen.processes} -m {MODULE} {shlex.join(words)}"
