"""The clips that an evaluation needs: a run's own settings, clip by clip, each kept with all that decided its pixels.

    runs/<run>/eval/step-000100/clips/<clip>/           predicted frames, PNG, and generated.json: all that decided them
                               /clips-seed-1/<clip>/    of a further sample
    data/<name>/cache/base-predictions/                 the text-only base's predictions, shared by all runs

A generated clip is used again only when everything that decided it is the same, so an interrupted evaluation goes on and
nothing stale is scored. Several processes take their shares of a row's clips, and each writes its own.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fcacli import __version__
from fcacli.config import ClipConfig, SampleConfig, to_dict
from fcacli.data.dataset import given_frames
from fcacli.data.manifest import Clip, Split
from fcacli.errors import FcaError, ProcessLost, naming_memory
from fcacli.events import Message, Report, silent, track
from fcacli.prediction.video import write_pngs
from fcacli.training.team import Team
from fcacli.workflows.lock import locked
from fcacli.workflows.offloading import settle_offload
from fcacli.workflows.trained import Trained, base_identity, find_trained
from fcacli.workspace import Workspace, atomic_folder, read_json, write_json

if TYPE_CHECKING:
    from fcacli.model.conditioning import Given
    from fcacli.prediction.sampler import Adapter

GENERATED = "generated.json"


@dataclass(frozen=True)
class GivenFrames:
    """Name of a clip -> its given frames, uint8 (K, H, W, 3)."""

    dataset: Path
    split: Split
    config: ClipConfig
    clips: dict[str, Clip]

    def __call__(self, name: str) -> np.ndarray:
        return given_frames(self.dataset, self.split, self.clips[name], self.config)


@dataclass(frozen=True)
class Job:
    """One clip that a row needs, and what decides its pixels."""

    clip: str
    text: str
    folder: Path
    sampling: SampleConfig
    decided_by: dict[str, Any]

    def done(self) -> bool:
        """Whether exactly this clip lies there."""
        try:
            return bool(read_json(self.folder / GENERATED) == json.loads(json.dumps(self.decided_by)))
        except FcaError:
            return False

    def write(self, video: np.ndarray) -> None:
        """Put the clip in its place."""
        with atomic_folder(self.folder) as temporary:
            write_pngs(temporary, video)
            write_json(temporary / GENERATED, self.decided_by)


def adapter_jobs(trained: Trained, sampling: SampleConfig, clips: Sequence[Clip], folder: Path) -> list[Job]:
    """A run's clips, each in a folder of its name below `folder`."""
    identity = {
        **trained.identity(),
        "clip": to_dict(trained.config.clip),
        "sampling": to_dict(sampling),
        "version": __version__,
    }
    del identity["run"]
    return [Job(c.id, c.text, folder / c.id, sampling, identity | {"text": c.text, "content": c.content}) for c in clips]


def shared_jobs(identity: dict[str, Any], sampling: SampleConfig, clips: Sequence[Clip], folder: Path) -> list[Job]:
    """Clips of a model that no run has changed, by what decides them."""
    jobs = []
    for clip in clips:
        decided_by = {**identity, "version": __version__, "text": clip.text, "content": clip.content}
        key = hashlib.sha256(json.dumps(decided_by, sort_keys=True).encode()).hexdigest()[:12]
        jobs.append(Job(clip.id, clip.text, folder / f"{clip.id}-{key}", sampling, decided_by))
    return jobs


def base_jobs(trained: Trained, sampling: SampleConfig, clips: Sequence[Clip], folder: Path) -> list[Job]:
    """The base's own clips, from the prompt alone."""
    settings = {"clip": to_dict(trained.config.clip), "sampling": to_dict(sampling)}
    return shared_jobs(base_identity(trained.base) | settings, sampling, clips, folder)


def missing(jobs: Sequence[Job], report: Report) -> list[Job]:
    """Those that are not there yet."""
    left = [job for job in jobs if not job.done()]
    if kept := len(jobs) - len(left):
        report(Message(f"{kept} of {len(jobs)} clips are there from before", "detail"))
    return left


def generate(
    trained: Trained,
    adapted: Sequence[Job],
    alone: Sequence[Job],
    given_of: GivenFrames,
    team: Team,
    report: Report,
) -> None:
    """Predict the clips that are not there yet: encoders first, then the base alone, then the adapter.

    The text-only base shows its own first frames; the adapter's are replaced by the given ones. Called by the main process; the
    others are in `assist`.
    """
    row = RunRow(trained.run.name, trained.checkpoint.name, missing(adapted, report), missing(alone, report), given_of)
    if row.adapted or row.alone:
        hand_out(row, team, report)
        row.predict(lambda: trained, team, report)


@dataclass(frozen=True)
class RunRow:
    """Clips of a run, and of its base alone, that every process predicts a share of."""

    run: str
    checkpoint: str
    adapted: list[Job]
    alone: list[Job]
    given_of: GivenFrames

    @property
    def jobs(self) -> list[Job]:
        return [*self.alone, *self.adapted]

    def join(self, workspace: Workspace, device: str | None, team: Team) -> None:
        """The share of another process than the main one."""
        self.predict(lambda: find_trained(workspace, self.run, self.checkpoint, device, silent), team, silent)

    def predict(self, find: Callable[[], Trained], team: Team, report: Report) -> None:
        """This process's share; returns when all have done theirs.

        Raises:
            FcaError: in all, what one of them has raised.
        """
        share = _Share(self, find, team, report)
        team.by_all(share.encode)
        with ExitStack() as held:
            if self.alone:
                place = self.alone[0].folder.parent
                team.by_main(lambda: held.enter_context(locked(place, f"{place} is being written", waiting=report)))
                team.by_all(share.predict_alone)
        team.by_all(share.predict_adapted)


class _Share:
    """One process's clips of a row, every so many of them; a clip is what it is whoever predicts it."""

    def __init__(self, row: RunRow, find: Callable[[], Trained], team: Team, report: Report):
        self._find, self._given_of, self._report = find, row.given_of, report
        self._alone, self._adapted = share_of(row.alone, row.jobs, team), share_of(row.adapted, row.jobs, team)

    def encode(self) -> None:
        from fcacli.prediction.sampler import encode_given

        texts = {job.clip: job.text for job in (*self._alone, *self._adapted)}
        self._trained = self._find()
        base = self._trained.base
        tracked = track(texts.items(), self._report, "encode first frames") if texts else ()
        self._given = {name: encode_given(base, self._given_of(name), text) for name, text in tracked}
        base.unload("text_encoder", "image_encoder")
        config = self._trained.config
        self._offload = settle_offload(None, base, config, config.sample, self._report, many=True)

    def predict_alone(self) -> None:
        from fcacli.model.text_only import TextOnly

        left = [job for job in self._alone if not job.done()]  # another evaluation may have predicted them meanwhile
        self._trained.keep(self._offload)
        for job in track(left, self._report, "predict, base alone"):
            _generate(self._trained, TextOnly(), job, self._given[job.clip], None)

    def predict_adapted(self) -> None:
        if self._adapted:
            adapter = self._trained.load(self._offload)
            for job in track(self._adapted, self._report, "predict"):
                _generate(self._trained, adapter, job, self._given[job.clip], self._given_of(job.clip))
        self._trained.base.unload("transformer", "vae")


# ---------------------------------------------------------------- several processes


class Row(Protocol):
    """Clips that are to be predicted; travels from the main process to the others."""

    @property
    def jobs(self) -> list[Job]: ...

    def join(self, workspace: Workspace, device: str | None, team: Team) -> None: ...


def hand_out(row: Row, team: Team, report: Report) -> None:
    """Tell the other processes what is to be predicted; each then takes its share."""
    if team.size > 1:
        report(Message(f"{len(row.jobs)} clips to predict, shared by {team.size} processes"))
    team.by_main(lambda: row)


def dismiss(team: Team) -> None:
    """There is nothing more to predict."""
    team.by_main(lambda: None)


def assist(workspace: Workspace, device: str | None, team: Team) -> None:
    """What other processes than the main one do: their shares of one row after the other, until there is nothing more.

    Raises:
        ProcessLost: the main process, or another one, has ended.
    """
    while (row := team.by_main(_nothing)) is not None:
        try:
            row.join(workspace, device, team)
        except ProcessLost:
            raise
        except FcaError:
            continue  # the main process has raised it too, and knows whether to go on


def _nothing() -> Row | None:
    return None


def share_of(jobs: Sequence[Job], all_jobs: Sequence[Job], team: Team) -> list[Job]:
    """This process's part of the jobs: those of every n-th clip of `all_jobs`."""
    own = set(list(dict.fromkeys(job.clip for job in all_jobs))[team.rank :: team.size])
    return [job for job in jobs if job.clip in own]


def _generate(
    trained: Trained, adapter: "Adapter", job: Job, given: "tuple[Given, Given]", init_frames: np.ndarray | None
) -> None:
    from fcacli.prediction.sampler import decode as decode_latents
    from fcacli.prediction.sampler import sample

    base, clip = trained.base, trained.config.clip
    with naming_memory(f"clip {job.clip}", "end other programs, or --device cpu; fca eval goes on with this clip"):
        latents = sample(base, adapter, *given, base.latent_shape(clip), job.sampling)
        video = decode_latents(base, latents, clip, init_frames)
    job.write(video)
