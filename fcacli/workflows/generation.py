"""The clips that an evaluation needs: a run's own settings, clip by clip, each kept with all that decided its pixels.

    runs/<run>/eval/step-000100/clips/<clip>/           predicted frames, PNG, and generated.json: all that decided them
                               /clips-seed-1/<clip>/    of a further sample
    data/<name>/cache/base-predictions/                 the text-only base's predictions, shared by all runs

A generated clip is used again only when everything that decided it is the same, so an interrupted evaluation goes on and
nothing stale is scored.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fcacli import __version__
from fcacli.config import SampleConfig, to_dict
from fcacli.data.manifest import Clip
from fcacli.errors import FcaError, naming_memory
from fcacli.events import Message, Report, track
from fcacli.prediction.video import write_pngs
from fcacli.workflows.lock import locked
from fcacli.workflows.trained import Trained, base_identity
from fcacli.workspace import atomic_folder, read_json, write_json

if TYPE_CHECKING:
    from fcacli.model.conditioning import Given
    from fcacli.prediction.sampler import Adapter

GENERATED = "generated.json"
GivenFrames = Callable[[str], np.ndarray]
"""Name of a clip -> its given frames, uint8 (K, H, W, 3)."""


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


def generate(trained: Trained, adapted: Sequence[Job], alone: Sequence[Job], given_of: GivenFrames, report: Report) -> None:
    """Predict the clips that are not there yet: encoders first, then the base alone, then the adapter.

    The text-only base shows its own first frames; the adapter's are replaced by the given ones.
    """
    from fcacli.model.text_only import TextOnly
    from fcacli.prediction.sampler import encode_given

    adapted, alone = missing(adapted, report), missing(alone, report)
    if not adapted and not alone:
        return
    base = trained.base
    texts = {job.clip: job.text for job in (*alone, *adapted)}
    given = {
        name: encode_given(base, given_of(name), text) for name, text in track(texts.items(), report, "encode first frames")
    }
    base.unload("text_encoder", "image_encoder")
    if alone:
        with locked(alone[0].folder.parent, f"{alone[0].folder.parent} is being written", waiting=report):
            for job in track([job for job in alone if not job.done()], report, "predict, base alone"):
                _generate(trained, TextOnly(), job, given[job.clip], None)
    if adapted:
        adapter = trained.load()
        for job in track(adapted, report, "predict"):
            _generate(trained, adapter, job, given[job.clip], given_of(job.clip))
    base.unload("transformer", "vae")


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
