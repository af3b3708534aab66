"""`fca eval`: a run's predictions of held-out clips, scored per frame; evaluate_folders.py scores any two folders.

    runs/<run>/eval/step-000100/results.json        numbers and the conditions they stand under
                               /contact_sheet.png   truth, prediction and baselines of a few clips
                               /comparisons/        given | prediction | truth, MP4 and GIF
                               /clips/<clip>/       predicted frames, PNG, and generated.json: all that decided them
    data/<name>/cache/base-predictions/             the text-only base's predictions, shared by all runs

A generated clip is used again only when everything that decided it is the same, so an interrupted evaluation goes on and
nothing stale is scored.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fcacli import __version__
from fcacli.config import ClipConfig, to_dict
from fcacli.data.dataset import sample_frames, usable_clips
from fcacli.data.manifest import Clip, Split
from fcacli.errors import FcaError, naming_memory
from fcacli.evaluation.report import Line, conditions, copy_last_frame, results, score_clip, summarise, table
from fcacli.events import Message, Report, silent, track
from fcacli.prediction.pictures import Group, Row, contact_sheet, side_by_side
from fcacli.prediction.video import read_pngs, write_gif, write_mp4, write_png, write_pngs
from fcacli.workflows.lock import locked
from fcacli.workflows.trained import Trained, base_identity, find_trained
from fcacli.workspace import Workspace, atomic_folder, read_json, remove_leftovers, slug, write_json

if TYPE_CHECKING:
    from fcacli.model.conditioning import Given
    from fcacli.prediction.sampler import Adapter

CLIPS = 64
"""Clips that are scored where no limit is given."""
SHOWN, COMPARED = 6, 4
"""Clips on the contact sheet, and with a comparison video: the first ones, chosen before they are scored."""
BASE_ROW, COPY_ROW = "base, text only", "copy last frame"
GENERATED = "generated.json"


@dataclass(frozen=True)
class EvaluateResult:
    """Where the numbers are, and what they are."""

    folder: Path | None
    """None where two folders were scored."""
    files: list[Path]
    """What to look at: comparisons first, then the contact sheet and results.json."""
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
    report: Report = silent,
) -> EvaluateResult:
    """Predict held-out clips with a run's own settings and score them beside copy-last-frame and the unadapted base.

    Args:
        run, checkpoint: names; None for the latest.
        limit: clips to score, drawn from the split by a fixed seed; None for CLIPS.

    Raises:
        FcaError: no run, or its data are gone.
    """
    trained = find_trained(workspace, run, checkpoint, device, report)
    report(Message(trained.describe()))
    dataset = workspace.dataset(trained.config.data)
    config = trained.config.clip
    clips = choose_clips(usable_clips(dataset, split, config.frames, report), CLIPS if limit is None else limit)
    truths = _truths(dataset, split, clips, config, report)
    left_out = [clip.id for clip in clips if clip.id not in truths]
    clips = [clip for clip in clips if clip.id in truths]
    folder = trained.run / "eval" / trained.checkpoint.name
    with locked(folder, f"run {trained.run.name} is being evaluated", "wait for its end and run this again"):
        remove_leftovers(folder, "clips")
        return _evaluate(trained, dataset, split, clips, truths, left_out, folder, report)


def _evaluate(
    trained: Trained,
    dataset: Path,
    split: Split,
    clips: list[Clip],
    truths: dict[str, np.ndarray],
    left_out: list[str],
    folder: Path,
    report: Report,
) -> EvaluateResult:
    """Predict and score `clips`, and write it all into `folder`."""
    config = trained.config.clip
    jobs = _jobs(trained, clips, folder / "clips", dataset / "cache" / "base-predictions")
    generate(trained, jobs, truths, report)
    rows = {name: {job.clip: read_pngs(job.folder) for job in jobs if job.row == name} for name in (_row(trained), BASE_ROW)}
    rows[COPY_ROW] = {name: copy_last_frame(truth, config.init_frames) for name, truth in truths.items()}
    lines = [_score(name, videos, truths, config.init_frames, report) for name, videos in rows.items()]
    said = conditions(config.init_frames, [v.shape for v in truths.values()], "generated frames, lossless")
    said |= {
        "split": split,
        "left_out": left_out,
        "sampling": to_dict(trained.config.sample),
        "truth": f"frames sampled as in training, fit {config.fit}",
    }
    about = {"kind": "run", "version": __version__, **trained.identity(), "data": dataset.name}
    numbers = results(lines, list(truths), said, about)
    pictures = _show(folder, clips, rows, truths, config.init_frames, config.fps)
    write_json(folder / "results.json", numbers)
    return EvaluateResult(folder, [*pictures, folder / "results.json"], table(lines, len(clips), said), numbers)


@dataclass(frozen=True)
class Job:
    """One clip that a row needs, and what decides its pixels."""

    row: str
    clip: str
    text: str
    folder: Path
    decided_by: dict[str, Any]

    def done(self) -> bool:
        """Whether exactly this clip lies there."""
        try:
            return bool(read_json(self.folder / GENERATED) == json.loads(json.dumps(self.decided_by)))
        except FcaError:
            return False


def choose_clips(clips: Sequence[Clip], limit: int) -> list[Clip]:
    """`limit` clips by a fixed draw: always the same ones, and a larger limit only adds to them."""
    order = np.random.default_rng(0).permutation(len(clips))[:limit]
    return [clips[i] for i in order]


def _truths(dataset: Path, split: Split, clips: Sequence[Clip], config: ClipConfig, report: Report) -> dict[str, np.ndarray]:
    """The true frames by clip; a clip that cannot be read is named and left out.

    Raises:
        FcaError: none can be read.
    """
    truths = {}
    for clip in track(clips, report, "read clips"):
        try:
            truths[clip.id] = sample_frames(dataset, split, clip, config)
        except FcaError as error:
            report(Message(f"{error.message}; left out", "warning"))
            failure = error
    if not truths:
        raise FcaError(failure.message, failure.hint or "run fca prepare again")
    return truths


def _row(trained: Trained) -> str:
    return f"{trained.config.adapter.kind}, step {trained.step}"


def _jobs(trained: Trained, clips: Sequence[Clip], adapted: Path, shared: Path) -> list[Job]:
    settings = {"clip": to_dict(trained.config.clip), "sampling": to_dict(trained.config.sample), "version": __version__}
    with_adapter, alone = {**trained.identity(), **settings}, {**base_identity(trained.base), **settings}
    del with_adapter["run"]
    jobs = []
    for clip in clips:
        content = {"text": clip.text, "content": clip.content}
        key = hashlib.sha256(json.dumps(alone | content, sort_keys=True).encode()).hexdigest()[:12]
        jobs.append(Job(BASE_ROW, clip.id, clip.text, shared / f"{clip.id}-{key}", alone | content))
        jobs.append(Job(_row(trained), clip.id, clip.text, adapted / clip.id, with_adapter | content))
    return jobs


def generate(trained: Trained, jobs: Sequence[Job], truths: Mapping[str, np.ndarray], report: Report) -> None:
    """Predict the clips that are not there yet: encoders first, then the base alone, then the adapter.

    The text-only base shows its own first frames; the adapter's are replaced by the given ones.
    """
    from fcacli.model.text_only import TextOnly
    from fcacli.prediction.sampler import encode_given

    missing = [job for job in jobs if not job.done()]
    if kept := len(jobs) - len(missing):
        report(Message(f"{kept} of {len(jobs)} clips are there from before", "detail"))
    if not missing:
        return
    base, count = trained.base, trained.config.clip.init_frames
    texts = {job.clip: job.text for job in missing}
    given = {
        name: encode_given(base, truths[name][:count], text)
        for name, text in track(texts.items(), report, "encode first frames")
    }
    base.unload("text_encoder", "image_encoder")
    alone = [job for job in missing if job.row == BASE_ROW]
    if alone:
        with locked(alone[0].folder.parent, f"{alone[0].folder.parent} is being written", waiting=report):
            for job in track([job for job in alone if not job.done()], report, "predict, base alone"):
                _generate(trained, TextOnly(), job, given[job.clip], None)
    if adapted := [job for job in missing if job.row != BASE_ROW]:
        adapter = trained.load()
        for job in track(adapted, report, "predict"):
            _generate(trained, adapter, job, given[job.clip], truths[job.clip][:count])


def _generate(
    trained: Trained, adapter: "Adapter", job: Job, given: "tuple[Given, Given]", init_frames: np.ndarray | None
) -> None:
    from fcacli.prediction.sampler import decode as decode_latents
    from fcacli.prediction.sampler import sample

    base, clip = trained.base, trained.config.clip
    with naming_memory(f"clip {job.clip}", "end other programs, or --device cpu; fca eval goes on with this clip"):
        latents = sample(base, adapter, *given, base.latent_shape(clip), trained.config.sample)
        video = decode_latents(base, latents, clip, init_frames)
    with atomic_folder(job.folder) as temporary:
        write_pngs(temporary, video)
        write_json(temporary / GENERATED, job.decided_by)


def _score(name: str, videos: Mapping[str, np.ndarray], truths: Mapping[str, np.ndarray], given: int, report: Report) -> Line:
    return summarise(name, [score_clip(videos[clip], truths[clip], given) for clip in track(truths, report, f"score {name}")])


def _show(
    folder: Path,
    clips: Sequence[Clip],
    rows: Mapping[str, Mapping[str, np.ndarray]],
    truths: Mapping[str, np.ndarray],
    given: int,
    fps: float,
) -> list[Path]:
    """Contact sheet and comparison videos of the first clips."""
    method = next(iter(rows))
    groups = [
        Group(
            clip.text,
            [
                Row("truth", truths[clip.id], given),
                *(Row(row, videos[clip.id], 0 if row == BASE_ROW else given) for row, videos in rows.items()),
            ],
        )
        for clip in clips[:SHOWN]
    ]
    write_png(folder / "contact_sheet.png", contact_sheet(groups, "held-out clips"))
    with atomic_folder(folder / "comparisons") as temporary:
        for number, clip in enumerate(clips[:COMPARED], 1):
            truth, prediction = truths[clip.id], rows[method][clip.id]
            panels = [
                Row("given frames", truth[:given], given),
                Row("prediction", prediction, given),
                Row("truth", truth, given),
            ]
            video = side_by_side(panels, clip.text)
            write_mp4(temporary / f"{number}-{slug(clip.text)}.mp4", video, fps)
            write_gif(temporary / f"{number}-{slug(clip.text)}.gif", video, fps)
    return [*sorted((folder / "comparisons").iterdir()), folder / "contact_sheet.png"]
