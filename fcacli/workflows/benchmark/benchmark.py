"""`fca benchmark`: FCA against LoRA and against itself with one part changed, on the bundled miniature; resumable.

    FOLDER/settings.json           what decides the numbers; a line with other settings is refused
          /raw16/ raw17/           drawn clips of 16 and of 17 frames, with objects and backgrounds the base has not seen
          /data/ runs/             a workspace like any other; one run an arm and seed, and one a trial
          /clips/ rows/            predictions and scores of each run; see score.py
          /benchmark.json .md      the tables with their conditions, of all rows there are
          /contact_sheet.png       the same clips by every method
          /quality.png             quality on the way, against steps and against seconds

Every arm sees the same samples in the same order for the same number of steps. Whatever is there is used: an arm that is
done, a training up to its last checkpoint, a predicted clip.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fcacli.config import differences
from fcacli.errors import FcaError, Misuse
from fcacli.events import Progress, Report, silent
from fcacli.workflows.benchmark.arms import SEEDS, Job, Settings, choose_arms, jobs, trials
from fcacli.workflows.benchmark.choose import best_rates
from fcacli.workflows.benchmark.processes import OutOfTime, share_out
from fcacli.workflows.benchmark.run import Clock, run_job
from fcacli.workflows.benchmark.score import row_of
from fcacli.workflows.benchmark.table import write_tables
from fcacli.workflows.devices import choose_gpus
from fcacli.workflows.lock import locked
from fcacli.workflows.prepare import prepare
from fcacli.workflows.toy import write_toy
from fcacli.workspace import Workspace, read_json, remove_leftovers, write_json

SETTINGS = "settings.json"
PICTURE = 48
"""Side of the drawn videos: no pixel is lost on the way to the base's size."""


@dataclass(frozen=True)
class BenchmarkResult:
    """Where the tables are, and what they say."""

    folder: Path
    files: list[Path]
    """What to look at; none while no run is finished."""
    table: str
    left: list[str]
    """Runs that are not finished yet: the time was up."""
    results: dict[str, Any]
    """benchmark.json."""


def benchmark(
    folder: Path = Path("fca-benchmark"),
    settings: Settings | None = None,
    *,
    only: Sequence[str] = (),
    seeds: int = SEEDS,
    gpus: int | None = None,
    minutes: float | None = None,
    processes: int = 1,
    report: Report = silent,
) -> BenchmarkResult:
    """Train and score every arm that is not there yet, then write the tables of all that are.

    Args:
        only: arms by name; none for all.
        seeds: trainings of an arm that is no ablation.
        minutes: stop cleanly after so long; the same call goes on.
        processes: runs at a time.

    Raises:
        Misuse: there is no such arm or device, or the folder was made with other settings.
        FcaError: the folder holds something else, or another process works in it.
        Interrupted: Ctrl-C or SIGTERM in a training; all is saved.
    """
    settings, clock = settings or Settings(), Clock(None if minutes is None else time.time() + 60 * minutes)
    arms, device, workspace = choose_arms(only), choose_gpus(gpus), Workspace(folder)
    made_with = _made_with(settings, device)
    _check(folder, made_with)
    with locked(folder, f"{folder} is being worked in", "wait for its end and run the same line again"):
        write_json(folder / SETTINGS, made_with)
        remove_leftovers(folder, "rows", "clips/*")
        work = partial(run_job, workspace, settings, device, clock)
        try:
            for frames in sorted({arm.frames for arm in arms}):
                _draw(workspace, settings, frames, clock.stopping(report))
            while settings.choose and _missing(workspace, tried := trials(arms, settings, best_rates(workspace))):
                _do(workspace, tried, work, processes, "trials", report)
            _do(workspace, jobs(arms, settings, seeds, best_rates(workspace)), work, processes, "runs", report)
        except OutOfTime:
            pass
        tried = trials(arms, settings, best_rates(workspace)) if settings.choose else []
        left = [job.run for job in _missing(workspace, [*tried, *jobs(arms, settings, seeds, {})])]
        files, table, results = write_tables(workspace, made_with, report)
    return BenchmarkResult(folder, files, table, left, results)


def _made_with(settings: Settings, device: str) -> dict[str, Any]:
    """As settings.json has it."""
    from fcacli.model.bases import load_base, resolve_base

    fingerprint = load_base(resolve_base(settings.base)).fingerprint
    return asdict(settings) | {"reserved": settings.reserved, "device": device, "base_fingerprint": fingerprint}


def _check(folder: Path, made_with: dict[str, Any]) -> None:
    """
    Raises:
        Misuse: the folder was made with other settings.
        FcaError: it holds something else.
    """
    if (folder / SETTINGS).is_file():
        found = read_json(folder / SETTINGS)
        if not isinstance(found, dict):
            raise FcaError(f"{folder / SETTINGS} is not what fca benchmark wrote", "another FOLDER, or remove this one")
        if different := differences(found, made_with):
            raise Misuse(
                f"{folder} holds a benchmark with other settings: {'; '.join(different)}", "another FOLDER, or remove this one"
            )
    elif folder.exists() and (not folder.is_dir() or any(path.name != ".lock" for path in folder.iterdir())):
        raise FcaError(f"{folder} exists and holds something else", "fca benchmark ANOTHER-FOLDER")


def _draw(workspace: Workspace, settings: Settings, frames: int, report: Report) -> None:
    """Draw and prepare the clips of that length, where they are not there."""
    raw, held_out = workspace.root / f"raw{frames}", settings.scored + settings.reserved
    if not (raw / "truth.jsonl").is_file():
        in_all = settings.clips + held_out + max(1, held_out // 4)  # a test split, which nobody reads
        write_toy(raw, clips=in_all, held_out=held_out, frames=frames, size=PICTURE, report=report)
    if not (workspace.data / f"toy{frames}" / "dataset.json").is_file():
        prepare("ssv2", raw, workspace, name=f"toy{frames}", splits=("train", "val"), min_frames=frames, report=report)


def _do(workspace: Workspace, wanted: Sequence[Job], work: Any, processes: int, phase: str, report: Report) -> None:
    """All of these jobs that have no row yet."""
    todo = _missing(workspace, wanted)
    numbers: Iterator[int] = iter(range(len(wanted) - len(todo) + 1, len(wanted) + 1))
    report(Progress(phase, len(wanted) - len(todo), len(wanted)))
    share_out(work, todo, processes, lambda: report(Progress(phase, next(numbers), len(wanted))), report)


def _missing(workspace: Workspace, wanted: Sequence[Job]) -> list[Job]:
    """Those that have no row yet."""
    return [job for job in wanted if not row_of(workspace, job.run).is_file()]
