"""`fca eval`: a run's predictions of held-out clips, scored beside others'; evaluate_folders.py scores any two folders.

    runs/<run>/eval/step-000100/results.json        numbers and the conditions they stand under
                               /report.html         the same to look at, one file
                               /features/           what distances of sets were computed on
                               /contact_sheet.png   truth, prediction and baselines of a few clips
                               /comparisons/        given | prediction | truth, MP4 and GIF
                               /clips/              predicted frames; see generation.py
    data/<name>/cache/features/                     features of clips, by content

Under Seer's protocol the folder is step-000100-seer.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fcacli import __version__
from fcacli.config import ClipConfig, SampleConfig, to_dict
from fcacli.data.dataset import sample_frames, usable_clips
from fcacli.data.manifest import Clip, Split
from fcacli.errors import FcaError, Misuse
from fcacli.evaluation.feature_cache import FeatureCache
from fcacli.evaluation.report import conditions, results, table, write_features
from fcacli.evaluation.scoring import Clips, Frames, Method, copy_last_frame, score
from fcacli.evaluation.set_interval import bootstrap_set
from fcacli.events import Message, Report, silent, track
from fcacli.prediction.video import read_pngs
from fcacli.workflows.evaluate_pictures import OWN_FRAMES, write_pictures, write_report
from fcacli.workflows.generation import Job, adapter_jobs, base_jobs, generate
from fcacli.workflows.i2v import Pipeline, find_pipeline, generate_by_pipeline, pipeline_jobs
from fcacli.workflows.lock import locked
from fcacli.workflows.other_runs import other_runs
from fcacli.workflows.scorers import load
from fcacli.workflows.scoring_plan import Facts, Plan, Scoring, plan, under_protocol
from fcacli.workflows.seer import require_seer_data, seer_sampling
from fcacli.workflows.trained import Trained, base_identity, find_trained
from fcacli.workspace import Workspace, remove_leftovers, write_json

CLIPS = 64
"""Clips that are scored where no limit is given."""
BASE_ROW, COPY_ROW = "base, text only", "copy last frame"


@dataclass(frozen=True)
class EvaluateResult:
    """Where the numbers are, and what they are."""

    folder: Path | None
    """None where two folders were scored and nothing was to be written."""
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

    Raises:
        Misuse: an option is out of range.
        FcaError: no run, or its data are gone.
    """
    if samples < 1:
        raise Misuse(f"--num must be at least 1, got {samples}")
    scoring = under_protocol(scoring)
    trained = find_trained(workspace, run, checkpoint, device, report)
    report(Message(trained.describe()))
    dataset, config = workspace.dataset(trained.config.data), trained.config.clip
    pipeline = None if i2v is None else find_pipeline(i2v, str(trained.base.device))
    if scoring.protocol == "seer":
        require_seer_data(dataset, config, report)
    chosen = choose_clips(usable_clips(dataset, split, config.frames, report), CLIPS if limit is None else limit)
    truths = Truths(dataset, split, config)
    clips = truths.read(chosen, strict, report)
    facts = Facts(config.init_frames, [truths.shape] * len(clips), all(c.text for c in clips), trained.config.base == "mini")
    rows = _Rows(dataset, clips, truths, plan(scoring, facts, report), samples, report)
    folder = rows.folder(trained)
    with locked(folder, f"run {trained.run.name} is being evaluated", "wait for its end and run this again"):
        remove_leftovers(folder, "clips*")
        methods = [*rows.of_run_and_base(trained)]
    methods.append(Method(COPY_ROW, "baseline", [lambda name: copy_last_frame(truths(name), config.init_frames)]))
    if pipeline is not None:
        methods.append(rows.of_pipeline(pipeline, trained))
    for other in other_runs(workspace, trained, device, report) if others else ():
        try:
            with locked(rows.folder(other), f"run {other.run.name} is being evaluated", waiting=report):
                methods.append(rows.of_other_run(other))
        except FcaError as error:  # what is wrong with another run is no reason not to score this one
            report(Message(f"run {other.run.name} has no row: {error.message}", "warning"))
    said = {
        **conditions(config.init_frames, [truths.shape], "generated frames, lossless"),
        "split": split,
        "left_out": [clip.id for clip in chosen if clip.id not in truths.content],
        "sampling": to_dict(rows.sampling(trained)),
        "truth": f"frames sampled as in training, fit {config.fit}",
    }
    with locked(folder, f"run {trained.run.name} is being evaluated", waiting=report):
        return _write(trained, methods, rows, said)


class Truths:
    """The true frames of clips, decoded when asked for; the last few stay in memory.

    `content` holds the SHA-256 of each readable clip's frames, `shape` their (T, H, W, 3).
    """

    def __init__(self, dataset: Path, split: Split, config: ClipConfig):
        self._clips: dict[str, Clip] = {}
        self.content: dict[str, str] = {}
        self.shape = (config.frames, config.height, config.width, 3)
        self.given = config.init_frames
        self._frames = lru_cache(maxsize=4)(lambda name: sample_frames(dataset, split, self._clips[name], config))

    def read(self, clips: Sequence[Clip], strict: bool, report: Report) -> list[Clip]:
        """Those of `clips` that can be read; the others are named.

        Raises:
            FcaError: one cannot be read and `strict`, or none can.
        """
        failure = None
        for clip in track(clips, report, "read clips"):
            self._clips[clip.id] = clip
            try:
                self.content[clip.id] = content_of(self(clip.id))
            except FcaError as error:
                failure = error
                if strict:
                    raise
                report(Message(f"{error.message}; left out", "warning"))
        if failure and not self.content:
            raise FcaError(failure.message, failure.hint or "run fca prepare again")
        return [clip for clip in clips if clip.id in self.content]

    def __call__(self, name: str) -> np.ndarray:
        """uint8 (T, H, W, 3)."""
        return self._frames(name)

    def first(self, name: str) -> np.ndarray:
        """The given frames (K, H, W, 3)."""
        return self(name)[: self.given]


@dataclass(frozen=True)
class _Rows:
    """What every row of one evaluation is made from."""

    dataset: Path
    clips: list[Clip]
    truths: Truths
    plan: Plan
    samples: int
    report: Report

    def sampling(self, trained: Trained) -> SampleConfig:
        own = trained.config.sample
        return seer_sampling(own) if self.plan.asked.protocol == "seer" else own

    def folder(self, trained: Trained) -> Path:
        suffix = "-seer" if self.plan.asked.protocol == "seer" else ""
        return trained.run / "eval" / f"{trained.checkpoint.name}{suffix}"

    def of_run_and_base(self, trained: Trained) -> tuple[Method, Method]:
        adapted, shared = self._adapted(trained), self.dataset / "cache" / "base-predictions"
        sampling = self.sampling(trained)
        alone = [base_jobs(trained, replace(sampling, seed=s), self.clips, shared) for s in self._seeds(sampling)]
        generate(trained, _all(adapted), _all(alone), self.truths.first, self.report)
        shows = "the true given ones" if self.plan.asked.prepend_given else OWN_FRAMES
        base = Method(BASE_ROW, "baseline", self._videos(alone), base_identity(trained.base) | {"first_frames": shows})
        return Method(_row(trained), "method", self._videos(adapted), trained.identity()), base

    def of_other_run(self, trained: Trained) -> Method:
        adapted = self._adapted(trained)
        generate(trained, _all(adapted), (), self.truths.first, self.report)
        return Method(f"{trained.run.name}: {_row(trained)}", "run", self._videos(adapted), trained.identity())

    def of_pipeline(self, pipeline: Pipeline, trained: Trained) -> Method:
        config, place = trained.config.clip, self.dataset / "cache" / "i2v-predictions"
        samples = pipeline_jobs(pipeline, config, self.clips, self._seeds(trained.config.sample), place)
        generate_by_pipeline(pipeline, config, _all(samples), self.truths.first, self.report)
        return Method(pipeline.name, "pipeline", self._videos(samples), pipeline.identity())

    def _seeds(self, sampling: SampleConfig) -> range:
        return range(sampling.seed, sampling.seed + self.samples)

    def _adapted(self, trained: Trained) -> list[list[Job]]:
        """The jobs of each sample."""
        sampling, folder, found = self.sampling(trained), self.folder(trained), []
        for seed in self._seeds(sampling):
            place = folder / ("clips" if seed == sampling.seed else f"clips-seed-{seed}")
            found.append(adapter_jobs(trained, replace(sampling, seed=seed), self.clips, place))
        return found

    def _videos(self, samples: Sequence[Sequence[Job]]) -> list[Frames]:
        return [self._reader({job.clip: job.folder for job in jobs}) for jobs in samples]

    def _reader(self, folders: dict[str, Path]) -> Frames:
        return lambda name: self.shown(name, read_pngs(folders[name]))

    def shown(self, name: str, video: np.ndarray) -> np.ndarray:
        """A prediction as it is scored: with the true given frames in front, where that was asked for."""
        if not self.plan.asked.prepend_given:
            return video
        return np.concatenate([self.truths.first(name), video[self.truths.given :]])


def _all(samples: Sequence[Sequence[Job]]) -> list[Job]:
    return [job for jobs in samples for job in jobs]


def choose_clips(clips: Sequence[Clip], limit: int) -> list[Clip]:
    """`limit` clips by a fixed draw: always the same ones, and a larger limit only adds to them."""
    order = np.random.default_rng(0).permutation(len(clips))[:limit]
    return [clips[i] for i in order]


def content_of(video: np.ndarray) -> str:
    """SHA-256 of the frames (T, H, W, 3) and their shape."""
    return hashlib.sha256(str(video.shape).encode() + np.ascontiguousarray(video).tobytes()).hexdigest()


def _row(trained: Trained) -> str:
    return f"{trained.config.adapter.kind}, step {trained.step}"


def _write(trained: Trained, methods: Sequence[Method], rows: _Rows, said: dict[str, Any]) -> EvaluateResult:
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
    return EvaluateResult(folder, files, table(scored, len(names), said, scorers.conditions(), plan.missing), numbers)


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
