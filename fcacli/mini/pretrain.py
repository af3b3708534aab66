"""The recipe of the bundled base: `python -m fcacli.mini.pretrain STAGE --until HH:MM`.

Run the stages in this order: vae, clip, features, latents, transformer, decoder (which improves pictures, never latents).
`judge` says how good it is.
Each can be stopped at any time and continues from its last checkpoint in `--work`. `--minutes` and `--until` (UTC)
fit the learning-rate schedule to the time there is; `--steps` makes it repeatable to the step. On busy cores one
thread per process (`--threads 1`, OMP_NUM_THREADS=1) is several times faster than two: threads wait for each other.
"""

from __future__ import annotations

import argparse
import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and run one stage."""
    parser = argparse.ArgumentParser(prog="python -m fcacli.mini.pretrain", description=__doc__)
    parser.add_argument("stage", choices=["skeleton", "vae", "clip", "features", "latents", "transformer", "decoder", "judge"])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "weights", help="the weights folder")
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache" / "fca-pretrain", help="checkpoints, latents")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--processes", type=int, default=1, help="for latents and transformer: share the work")
    parser.add_argument("--device", default="cpu", help="of the stages latents, transformer and judge, e.g. cuda")
    parser.add_argument("--from-weights", action="store_true", help="begin with the weights that --out holds")
    parser.add_argument("--peak", type=float, default=1.0, help="share of the stage's learning rates")
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--until", help="UTC time HH:MM at which the stage ends")
    end.add_argument("--minutes", type=float)
    end.add_argument("--steps", type=int)
    options = parser.parse_args(argv)
    options.work.mkdir(parents=True, exist_ok=True)
    _start(options)


def _start(options: argparse.Namespace) -> None:
    """Write what is missing of the weights folder, then run the stage in one process or several."""
    import torch

    from fcacli.mini import build

    build.write_skeleton(options.out, options.seed)
    until = None if options.steps is not None else _end_time(options)
    if options.stage == "skeleton":
        return
    if options.processes > 1 and options.stage in ("latents", "transformer"):
        torch.multiprocessing.spawn(_run, (options, until, options.processes), nprocs=options.processes)
    else:
        _run(0, options, until, 1)


def _run(rank: int, options: argparse.Namespace, until: float | None, world: int) -> None:
    """One process's part of the stage."""
    import torch

    from fcacli.mini import judge, train_clip, train_features, train_transformer, train_vae
    from fcacli.mini.stage import Stage
    from fcacli.model.host_memory import keep_freed_memory

    torch.set_num_threads(options.threads)
    torch.set_flush_denormal(True)  # softmax's gradient is full of numbers that a CPU is slow with
    keep_freed_memory()
    if world > 1:
        meeting = (options.work / f"{options.stage}.{os.getppid()}.meet").resolve().as_uri()
        torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
    stage = Stage(
        name=options.stage,
        out=options.out,
        work=options.work,
        seed=options.seed,
        until=until,
        steps=options.steps,
        rank=rank,
        world=world,
        device=options.device,
        from_weights=options.from_weights,
        peak=options.peak,
    )
    {
        "vae": train_vae.train,
        "clip": train_clip.train,
        "features": train_features.train,
        "latents": train_transformer.encode,
        "transformer": train_transformer.train,
        "decoder": train_vae.train_decoder,
        "judge": judge.judge,
    }[options.stage](stage)
    if world > 1:
        torch.distributed.destroy_process_group()


def _end_time(options: argparse.Namespace) -> float:
    """Unix time of the end; 30 minutes from now where nothing is said."""
    if options.until is None:
        return time.time() + 60 * (options.minutes or 30.0)
    now = datetime.now(UTC)
    hour, minute = options.until.split(":")
    end = now.replace(hour=int(hour), minute=int(minute), second=0, microsecond=0)
    return (end if end > now else end + timedelta(days=1)).timestamp()


if __name__ == "__main__":
    main()
