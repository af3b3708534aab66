"""The recipe of the bundled base: `python -m fcacli.mini.pretrain {skeleton,vae,clip,latents,transformer,decoder} --until HH:MM`.

Run the stages in this order. Each can be stopped at any time and continues from its last checkpoint in `--work`.
`--minutes` and `--until` (UTC) fit the learning-rate schedule to the time there is; `--steps` makes it repeatable to the step.
"""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path


def main(argv: list[str] | None = None) -> None:
    """Parse the command line and run one stage."""
    parser = argparse.ArgumentParser(prog="python -m fcacli.mini.pretrain", description=__doc__)
    parser.add_argument("stage", choices=["skeleton", "vae", "clip", "latents", "transformer", "decoder"])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "weights", help="the weights folder")
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache" / "fca-pretrain", help="checkpoints, latents")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="transformer: torch.compile, needs a C++ compiler")
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--until", help="UTC time HH:MM at which the stage ends")
    end.add_argument("--minutes", type=float)
    end.add_argument("--steps", type=int)
    options = parser.parse_args(argv)
    options.work.mkdir(parents=True, exist_ok=True)
    _run(options)


def _run(options: argparse.Namespace) -> None:
    import torch

    from fcacli.mini import build, train_clip, train_transformer, train_vae
    from fcacli.mini.stage import Stage

    torch.set_num_threads(options.threads)
    build.write_skeleton(options.out, options.seed)
    if options.stage == "skeleton":
        return
    until = None if options.steps is not None else _end_time(options)
    stage = Stage(
        name=options.stage,
        out=options.out,
        work=options.work,
        seed=options.seed,
        until=until,
        steps=options.steps,
        compiled=options.compile,
    )
    {
        "vae": train_vae.train,
        "clip": train_clip.train,
        "latents": train_transformer.encode,
        "transformer": train_transformer.train,
        "decoder": train_vae.train_decoder,
    }[options.stage](stage)


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
