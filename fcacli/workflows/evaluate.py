"""`fca eval`: a run's predictions of held-out clips, scored beside others'; evaluate_folders.py scores any two folders.

    runs/<run>/eval/step-000100/results.json        numbers and the conditions they stand under
                               /report.html         the same to look at, one file
                               /features/           what distances of sets were computed on
                               /contact_sheet.png   truth, prediction and baselines of a few clips
                               /comparisons/        given | prediction | truth, MP4 and GIF
                               /clips/              predicted frames; see generation.py
    data/<name>/cache/features/                     features of clips, by content

Other clips or samples than the default ones have a folder of their own, step-000100[-train][-seer][-2][-num-3]: of the split
where it is not val, under Seer's protocol, of so many clips, of so many samples of each. Predicted frames lie in the folder
without the two numbers, so that none is predicted twice.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcacli import __version__
from fcacli.config import to_dict
from fcacli.data.dataset import drawn, usable_clips
from fcacli.data.manifest import Clip, Split
from fcacli.data.transcode import ENCODER
from fcacli.errors import FcaError, Misuse, ProcessLost
from fcacli.evaluation.feature_cache import FeatureCache
from fcacli.evaluation.report import conditions, results, table, write_features
from fcacli.evaluation.scoring import Clips, Method, copy_last_frame, score
from fcacli.evaluation.set_interval import bootstrap_set
from fcacli.events import Message, Report, silent
from fcacli.training.team import ALONE, Team
from fcacli.workflows.evaluate_pictures import write_pictures, write_report
from fcacli.workflows.evaluate_rows import Rows, Truths
from fcacli.workflows.generation import GivenFrames, dismiss
from fcacli.workflows.i2v import find_pipeline
from fcacli.workflows.lock import locked
from fcacli.workflows.other_runs import other_runs
from fcacli.workflows.scorers import load
from fcacli.workflows.scoring_plan import Facts, Scoring, plan, under_protocol
from fcacli.workflows.seer import UNBIASED, require_seer_data, warn_of_few
from fcacli.workflows.trained import Trained, find_trained
from fcacli.workflows.which_run import require_training_data
from fcacli.workspace import Workspace, remove_leftovers, write_json

CLIPS = 64
"""Clips that are scored where no limit is given."""
COPY_ROW = "copy last frame"
SOURCE = {
    "predictions": "generated frames, lossless; the given frames in them are the truth's (the bare base has its own)",
    "truth": f"prepared clips, H.264 at crf {ENCODER['crf']} (43 to 46 dB from the source's frames); "
    f"given frames and {COPY_ROW} too",
}


@dataclass(frozen=True)
class EvaluateResult:
    """Where the numbers are, and what they are."""

    folder: Path | None
    """None where two folders were scored and nothing was to be written."""
    predictions: Path | None
    """Folder of the run's predicted clips; None where two folders were scored."""
    files: list[Path]
    """What to look at: report.html first, results.json last."""
    table: str
    results: dict[str, Any]


def evaluate_run(
    workspace: Workspace,
    *,
    run: str | None = None,
    checkpoint: str | None = None,
    limit: int | None = None,
    device: str | None = None,
    split: Split = "val",
    scoring: Scoring = Scoring(),  # noqa: B008 - frozen
    samples: int = 1,
    others: bool = True,
    i2v: str | None = None,
    strict: bool = False,
    team: Team = ALONE,
    report: Report = silent,
) -> EvaluateResult:
    """Predict held-out clips with a run's own settings and score them beside copy-last-frame, the unadapted base and others.

    Args:
        run, checkpoint: names; None for the latest.
        limit: clips to score, drawn from the split by a fixed seed; None for CLIPS.
        samples: predictions of each clip; scores are their mean.
        others: whether the workspace's other runs on the same clips get a row each.
        i2v: short name, hub id or folder of an image-to-video pipeline that gets one.
        strict: whether a clip that cannot be read ends it.
        team: processes that predict; this is the main one, the others are in `generation.assist`, which ends when all is
            predicted.

    Raises:
        Misuse: an option is out of range.
        FcaError: no run, or its data are gone or are others by now.
        ProcessLost: another process has ended; what is predicted is kept.
    """
    if samples < 1:
        raise Misuse(f"--num must be at least 1, got {samples}")
    scoring = under_protocol(scoring)
    trained = find_trained(workspace, run, checkpoint, device, report)
    report(Message(trained.describe()))
    dataset, config = workspace.dataset(trained.config.data), trained.config.clip
    require_training_data(trained.run, trained.config, dataset, report)
    pipeline = None if i2v is None else find_pipeline(i2v, str(trained.base.device))
    if scoring.protocol == "seer":
        require_seer_data(dataset, config, report)
    chosen = choose_clips(usable_clips(dataset, split, config.frames, report), CLIPS if limit is None else limit)
    truths = Truths(dataset, split, config)
    clips = truths.read(chosen, strict, report)
    if scoring.protocol == "seer":
        warn_of_few(len(clips), f"--limit {UNBIASED} scores more where there are more", report)
    asked = None if limit in (None, CLIPS) else limit
    facts = Facts(config.init_frames, [truths.shape] * len(clips), all(c.text for c in clips), trained.config.base == "mini")
    given = GivenFrames(dataset, split, config, {clip.id: clip for clip in clips})
    rows = Rows(dataset, clips, truths, given, plan(scoring, facts, report), samples, asked, team, report)
    place = rows.predictions(trained)
    with locked(place, f"run {trained.run.name} is being evaluated", "wait for its end and run this again"):
        remove_leftovers(place, "clips*")
        methods = [*rows.of_run_and_base(trained)]
    methods.append(Method(COPY_ROW, "baseline", [lambda name: copy_last_frame(truths(name), config.init_frames)]))
    if pipeline is not None:
        methods.append(rows.of_pipeline(pipeline, trained))
    for other in other_runs(workspace, trained, device, report) if others else ():
        try:
            with locked(rows.predictions(other), f"run {other.run.name} is being evaluated", waiting=report):
                methods.append(rows.of_other_run(other))
        except ProcessLost:
            raise
        except FcaError as error:  # what is wrong with another run is no reason not to score this one
            report(Message(f"run {other.run.name} has no row: {error.message}", "warning"))
    dismiss(team)
    said = {
        **conditions(config.init_frames, [truths.shape], SOURCE),
        "split": split,
        "left_out": [clip.id for clip in chosen if clip.id not in truths.content],
        "sampling": to_dict(rows.sampling(trained)),
        "noise": _noise(rows.sampling(trained).seed, samples),
        "truth": f"frames sampled as in training, fit {config.fit}",
    }
    with locked(rows.folder(trained), f"run {trained.run.name} is being evaluated", waiting=report):
        return _write(trained, methods, rows, said)


def _noise(seed: int, samples: int) -> str:
    """What an interval over clips does not hold."""
    over = "intervals are over clips, not over noise"
    if samples == 1:
        return f"every clip is sampled from the same noise (seed {seed}); {over}: --num 3"
    return f"every clip is sampled from the same {samples} noises (seeds {seed} to {seed + samples - 1}); {over}"


def choose_clips(clips: Sequence[Clip], limit: int) -> list[Clip]:
    """`limit` clips by a fixed draw: always the same ones, and a larger limit only adds to them."""
    return [clips[i] for i in drawn(len(clips))[:limit]]


def _write(trained: Trained, methods: Sequence[Method], rows: Rows, said: dict[str, Any]) -> EvaluateResult:
    """Score the rows, and write it all into the folder of the run's evaluation."""
    folder, plan, truths = rows.folder(trained), rows.plan, rows.truths
    names = [clip.id for clip in rows.clips]
    clips = Clips(names, truths, truths.given, {clip.id: clip.text for clip in rows.clips})
    scorers = load(plan, str(trained.base.device))
    cache = FeatureCache(rows.dataset / "cache" / "features")
    interval = bootstrap_set if plan.asked.intervals else None
    scored = score(methods, clips, scorers.frames, scorers.sets, cache, interval, rows.report)
    about = {"kind": "run", "version": __version__, **trained.identity(), "data": rows.dataset.name}
    numbers = results(
        scored,
        names,
        [truths.content[name] for name in names],
        conditions=said,
        metric_conditions=scorers.conditions(),
        missing=plan.missing,
        about=about | {"protocol": plan.asked.protocol, "samples": rows.samples},
    )
    pictures = write_pictures(folder, methods, clips, trained.config.clip.fps)
    write_features(folder, scored)
    write_report(folder / "report.html", numbers, methods, clips, trained.config.clip.fps, training=_log(trained.run))
    write_json(folder / "results.json", numbers)
    files = [folder / "report.html", *pictures, folder / "results.json"]
    text = table(scored, len(names), said, scorers.conditions(), plan.missing)
    return EvaluateResult(folder, rows.predictions(trained) / "clips", files, text, numbers)


def _log(run: Path) -> list[dict[str, Any]]:
    """The training curves of a run: rows of log.jsonl, up to one that is damaged."""
    rows = []
    path = run / "log.jsonl"
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows
