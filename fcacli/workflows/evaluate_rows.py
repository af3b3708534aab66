"""What the rows of `fca eval` are made of: the true clips, and the predictions of each method, made where they are missing."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from fcacli.config import ClipConfig, SampleConfig
from fcacli.data.dataset import sample_frames
from fcacli.data.manifest import Clip, Split
from fcacli.errors import FcaError
from fcacli.evaluation.scoring import Frames, Method
from fcacli.events import Message, Report, track
from fcacli.prediction.video import read_pngs
from fcacli.training.team import Team
from fcacli.workflows.evaluate_pictures import OWN_FRAMES
from fcacli.workflows.generation import GivenFrames, Job, adapter_jobs, base_jobs, generate
from fcacli.workflows.i2v import Pipeline, generate_by_pipeline, pipeline_jobs
from fcacli.workflows.scoring_plan import Plan
from fcacli.workflows.seer import seer_sampling
from fcacli.workflows.trained import Trained, base_identity
from fcacli.workspace import read_json

BASE_ROW = "base, text only"


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
class Rows:
    """What every row of one evaluation is made from."""

    dataset: Path
    clips: list[Clip]
    truths: Truths
    given: GivenFrames
    plan: Plan
    samples: int
    limit: int | None
    """Clips asked for; None for the default."""
    team: Team
    report: Report

    def sampling(self, trained: Trained) -> SampleConfig:
        own = trained.config.sample
        return seer_sampling(own) if self.plan.asked.protocol == "seer" else own

    def predictions(self, trained: Trained) -> Path:
        """Where a run's clips lie: those of one split under one protocol, however many are scored."""
        split = "" if self.given.split == "val" else f"-{self.given.split}"
        protocol = "" if self.plan.asked.protocol == "ours" else f"-{self.plan.asked.protocol}"
        return trained.run / "eval" / f"{trained.checkpoint.name}{split}{protocol}"

    def folder(self, trained: Trained) -> Path:
        """Where the results lie: no evaluation of other clips, samples or frames writes there, and none of fewer metrics."""
        asked, place = self.plan.asked, self.predictions(trained)
        limit = "" if self.limit is None else f"-{self.limit}"
        samples = "" if self.samples == 1 else f"-num-{self.samples}"
        given = "-prepend-given" if asked.prepend_given and asked.protocol == "ours" else ""
        folder = place.with_name(f"{place.name}{limit}{samples}{given}")
        if asked.metrics is None or not _has_others(folder, asked.metrics):
            return folder
        return folder.with_name(f"{folder.name}-{'-'.join(sorted(asked.metrics))}")

    def of_run_and_base(self, trained: Trained) -> tuple[Method, Method]:
        adapted, shared = self._adapted(trained), self.dataset / "cache" / "base-predictions"
        sampling = self.sampling(trained)
        alone = [base_jobs(trained, replace(sampling, seed=s), self.clips, shared) for s in self._seeds(sampling)]
        generate(trained, _all(adapted), _all(alone), self.given, self.team, self.report)
        shows = "the true given ones" if self.plan.asked.prepend_given else OWN_FRAMES
        base = Method(BASE_ROW, "baseline", self._videos(alone), base_identity(trained.base) | {"first_frames": shows})
        return Method(_row(trained), "method", self._videos(adapted), trained.identity()), base

    def of_other_run(self, trained: Trained) -> Method:
        adapted = self._adapted(trained)
        generate(trained, _all(adapted), (), self.given, self.team, self.report)
        return Method(f"{trained.run.name}: {_row(trained)}", "run", self._videos(adapted), trained.identity())

    def of_pipeline(self, pipeline: Pipeline, trained: Trained) -> Method:
        config, place = trained.config.clip, self.dataset / "cache" / "i2v-predictions"
        about = pipeline.identity() | {"size": pipeline.stretched(config)}
        samples = pipeline_jobs(pipeline, config, self.clips, self._seeds(trained.config.sample), place)
        generate_by_pipeline(pipeline, config, _all(samples), self.given, self.team, self.report)
        return Method(pipeline.name, "pipeline", self._videos(samples), about)

    def _seeds(self, sampling: SampleConfig) -> range:
        return range(sampling.seed, sampling.seed + self.samples)

    def _adapted(self, trained: Trained) -> list[list[Job]]:
        """The jobs of each sample."""
        sampling, folder, found = self.sampling(trained), self.predictions(trained), []
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


def content_of(video: np.ndarray) -> str:
    """SHA-256 of the frames (T, H, W, 3) and their shape."""
    return hashlib.sha256(str(video.shape).encode() + np.ascontiguousarray(video).tobytes()).hexdigest()


def _row(trained: Trained) -> str:
    return f"{trained.config.adapter.kind}, step {trained.step}"


def _has_others(folder: Path, metrics: Sequence[str]) -> bool:
    """Whether the results there have metrics besides these."""
    try:
        return bool(set(read_json(folder / "results.json")["metrics"]) - set(metrics))
    except (FcaError, KeyError, TypeError):
        return False
