"""One job of `fca benchmark`: trained, and scored by score.py; each part goes on where it stopped."""

import json
import time
from dataclasses import dataclass, replace
from typing import Any

from fcacli.config import ClipConfig, SampleConfig, to_dict
from fcacli.errors import Interrupted
from fcacli.events import Event, Progress, Report
from fcacli.training.finite import NotFinite
from fcacli.workflows.benchmark.arms import CURVE_CLIPS, CURVE_POINTS, Job, Settings
from fcacli.workflows.benchmark.conditions import circumstances
from fcacli.workflows.benchmark.processes import OutOfTime
from fcacli.workflows.benchmark.score import Method, row_of, score
from fcacli.workspace import Workspace, write_json

CHECKPOINT_MINUTES = 2.0
TRAIN = "train"
"""Phase of the training loop, which saves and stops by itself; in every other one a report may end the work."""


@dataclass(frozen=True)
class Clock:
    """When to stop, in seconds of the system's clock; None for never."""

    ends: float | None

    def left(self) -> float | None:
        """Seconds.

        Raises:
            OutOfTime: there are none.
        """
        if self.ends is None:
            return None
        if (left := self.ends - time.time()) <= 0:
            raise OutOfTime
        return left

    def stopping(self, report: Report, run: str = "") -> Report:
        """`report` with the run's name before every phase; raises OutOfTime where the time is up."""

        def report_or_stop(event: Event) -> None:
            in_training = isinstance(event, Progress) and event.phase == TRAIN
            report(replace(event, phase=f"{run}: {event.phase}") if run and isinstance(event, Progress) else event)
            if not in_training:
                self.left()

        return report_or_stop


def run_job(workspace: Workspace, settings: Settings, device: str, clock: Clock, job: Job, report: Report) -> None:
    """Train and score a job that has no row yet.

    Raises:
        OutOfTime: the time is up; all is saved.
        Interrupted: Ctrl-C or SIGTERM; all is saved.
    """
    if row_of(workspace, job.run).is_file():
        return
    clock.left()
    report = clock.stopping(report, job.run)
    about = {"run": job.run, "arm": job.arm.name, "seed": job.seed, "made": circumstances(device)}
    if job.arm.method == "trained":
        try:
            method, trained = _trained(workspace, settings, device, clock, job, report)
        except NotFinite as error:
            if not job.trial:
                raise
            write_json(row_of(workspace, job.run), about | {"lr": job.lr, "steps": job.steps, "failed": error.message})
            return
    else:
        method, trained = _untrained(settings, device, job), {"steps": 0, "parameters": 0}
    score(workspace, job, method, about | trained, report)


def _trained(
    workspace: Workspace, settings: Settings, device: str, clock: Clock, job: Job, report: Report
) -> tuple[Method, dict[str, Any]]:
    """The job's adapter on its base, and what its row says of the training."""
    from fcacli.workflows.train import TrainOptions, train
    from fcacli.workflows.trained import find_trained

    options = TrainOptions(
        base=settings.base,
        data=job.arm.data,
        steps=job.steps,
        seed=job.seed,
        frames=job.arm.frames,
        init_frames=job.arm.given,
        lr=job.lr,
        sample_steps=settings.sample_steps,
        validate_every=max(1, job.steps // CURVE_POINTS) if job.curve else 0,
        validate_clips=CURVE_CLIPS if job.curve else 0,
        **job.arm.options,
    )
    try:
        result = train(
            workspace,
            options,
            gpus=0 if device == "cpu" else 1,
            run=job.run,
            keep=1,
            checkpoint_minutes=CHECKPOINT_MINUTES,
            max_seconds=clock.left(),
            report=report,
        )
    except Interrupted as stop:
        raise Interrupted(stop.code - 128, f"{job.run}: {stop.message}", "the same line goes on where it was") from None
    if not result.finished:
        raise OutOfTime
    trained = find_trained(workspace, job.run, None, device, report)
    adapter, config = trained.load(), trained.config
    seconds = [json.loads(line)["seconds"] for line in (trained.run / "speed.jsonl").read_text().splitlines()]
    about = {
        "steps": trained.step,
        "lr": config.lr,
        "parameters": adapter.parameter_count,
        "seconds_per_step": sorted(seconds)[len(seconds) // 2],
        "config": to_dict(config),
    }
    return Method(trained.base, adapter, config.clip, config.sample), about


def _untrained(settings: Settings, device: str, job: Job) -> Method:
    """The base alone, or none."""
    from fcacli.model.bases import load_base, resolve_base
    from fcacli.model.text_only import TextOnly

    spec = resolve_base(settings.base)
    row, arm = spec.defaults, job.arm
    clip = ClipConfig(frames=arm.frames, init_frames=arm.given, width=row.width, height=row.height, fps=row.fps)
    sample = SampleConfig(steps=settings.sample_steps or row.sample_steps, guidance=row.guidance, sampler=row.sampler)
    return Method(load_base(spec, device) if arm.method == "base" else None, TextOnly(), clip, sample)
