"""`fca predict`: first frames and a text to the frames that follow, below predictions/."""

import hashlib
import json
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fcacli import __version__
from fcacli.config import ClipConfig, SampleConfig, to_dict
from fcacli.data.decode import load_init_frames, resize
from fcacli.errors import FcaError, Misuse
from fcacli.events import Event, Message, Progress, Report, silent
from fcacli.prediction.pictures import Group, Row, contact_sheet
from fcacli.prediction.video import enlarge, view_factor, write_gif, write_mp4, write_png, write_pngs
from fcacli.workflows.trained import Offload, Trained, check_offload, find_trained, load_offloaded
from fcacli.workspace import Workspace, atomic_folder, read_json, slug, write_json

if TYPE_CHECKING:
    from fcacli.model.bases.cogvideox import CogVideoX
    from fcacli.prediction.sampler import Adapter

MADE_BY = "prediction.json"


@dataclass(frozen=True)
class PredictResult:
    """What a prediction left behind."""

    folder: Path
    files: list[Path]
    """What to look at: videos first, then the contact sheet and prediction.json."""
    run: Path
    step: int
    """Training step of the adapter."""
    seeds: list[int]


def predict(
    workspace: Workspace,
    frames: Path,
    text: str,
    *,
    run: str | None = None,
    checkpoint: str | None = None,
    num: int = 1,
    seed: int = 0,
    steps: int | None = None,
    guidance: float | None = None,
    offload: Offload = "none",
    keep_generated_init: bool = False,
    out: Path | None = None,
    device: str | None = None,
    report: Report = silent,
) -> PredictResult:
    """Predict what follows.

    Args:
        frames: a folder of images, a video or one image, of any size.
        run, checkpoint: names; None for the latest.
        num: predictions to make; number n uses `seed` + n.
        steps, guidance: None for the run's.
        out: folder to write; None for predictions/<text>.

    Raises:
        Misuse: the text is empty, or an option is out of range.
        FcaError: no run, unreadable frames, or `out` holds something else.
    """
    if not text.strip():
        raise Misuse("the text is empty: say what happens", 'fca predict frames/ "pushing cup left"')
    if num < 1:
        raise Misuse(f"--num must be at least 1, got {num}")
    trained = find_trained(workspace, run, checkpoint, device, report)
    check_offload(offload, trained.base.device)
    clip, defaults = trained.config.clip, trained.config.sample
    sampling = SampleConfig(
        steps=defaults.steps if steps is None else steps,
        guidance=defaults.guidance if guidance is None else guidance,
        seed=seed,
    )
    init_frames = load_init_frames(frames, clip.init_frames, clip.frames, report)
    init_frames = resize(init_frames, clip.width, clip.height, clip.fit)
    made_by = _made_by(trained, init_frames, text, sampling, num, keep_generated_init)
    folder = _choose_folder(workspace, text, out, made_by)
    report(Message(trained.describe()))
    seeds = [seed + n for n in range(num)]
    adapter = trained.load() if offload == "none" else load_offloaded(trained, offload)
    videos = _sample(trained.base, adapter, init_frames, text, clip, sampling, seeds, keep_generated_init, report)
    files = _write(folder, videos, seeds, text, clip, made_by, keep_generated_init)
    return PredictResult(folder, files, trained.run, trained.step, seeds)


def _sample(
    base: "CogVideoX",
    adapter: "Adapter",
    init_frames: np.ndarray,
    text: str,
    clip: ClipConfig,
    sampling: SampleConfig,
    seeds: list[int],
    keep_generated_init: bool,
    report: Report,
) -> list[np.ndarray]:
    """One video per seed."""
    from fcacli.prediction.sampler import predict_clip

    videos = []
    for number, seed in enumerate(seeds, 1):
        phase = "denoise" if len(seeds) == 1 else f"denoise {number}/{len(seeds)}"
        config = replace(sampling, seed=seed)
        videos.append(
            predict_clip(base, adapter, init_frames, text, clip, config, keep_generated_init, _renamed(report, phase))
        )
    return videos


def _renamed(report: Report, phase: str) -> Report:
    def renamed(event: Event) -> None:
        report(replace(event, phase=phase) if isinstance(event, Progress) else event)

    return renamed


def _made_by(
    trained: Trained, init_frames: np.ndarray, text: str, sampling: SampleConfig, num: int, keep_generated_init: bool
) -> dict[str, Any]:
    """All that decides the pixels of a prediction; equal values make equal pixels on equal machines."""
    return {
        "text": text,
        "init_frames_sha256": hashlib.sha256(init_frames.tobytes()).hexdigest(),
        **trained.identity(),
        "clip": to_dict(trained.config.clip),
        "sampling": to_dict(sampling),
        "num": num,
        "keep_generated_init": keep_generated_init,
        "versions": {"fca": __version__, **{name: version(name) for name in ("torch", "diffusers", "transformers")}},
    }


def _choose_folder(workspace: Workspace, text: str, out: Path | None, made_by: dict[str, Any]) -> Path:
    """`out`, or a folder named after the text: the one that holds this very prediction, else a new one."""
    if out is not None:
        if out.exists() and not _may_replace(out, made_by):
            raise FcaError(f"--out {out} exists and holds something else", "another --out, or none")
        return out
    name, number = slug(text), 1
    while (folder := workspace.predictions / (name if number == 1 else f"{name}-{number}")).exists():
        if _may_replace(folder, made_by):
            break
        number += 1
    return folder


def _may_replace(folder: Path, made_by: dict[str, Any]) -> bool:
    if not folder.is_dir():
        return False
    if not any(folder.iterdir()):
        return True
    try:
        return bool(read_json(folder / MADE_BY)["made_by"] == json.loads(json.dumps(made_by)))
    except (FcaError, KeyError, TypeError):
        return False


def _write(
    folder: Path,
    videos: list[np.ndarray],
    seeds: list[int],
    text: str,
    clip: ClipConfig,
    made_by: dict[str, Any],
    keep_generated_init: bool,
) -> list[Path]:
    """Write everything into the folder at once; several predictions get one folder each."""
    factor = view_factor(clip.width, clip.height)
    given = 0 if keep_generated_init else clip.init_frames
    names: list[str] = []
    with atomic_folder(folder) as temporary:
        for seed, video in zip(seeds, videos, strict=True):
            place = "" if len(videos) == 1 else f"seed-{seed}/"
            write_pngs(temporary / f"{place}frames", video)
            write_mp4(temporary / f"{place}prediction.mp4", enlarge(video, factor), clip.fps)
            write_gif(temporary / f"{place}prediction.gif", enlarge(video, factor), clip.fps)
            names += [f"{place}prediction.mp4", f"{place}prediction.gif"]
        rows = [
            Row("prediction" if len(videos) == 1 else f"seed {seed}", video, given)
            for seed, video in zip(seeds, videos, strict=True)
        ]
        write_png(temporary / "contact_sheet.png", contact_sheet([Group(text, rows)]))
        size, shown = f"{clip.width}x{clip.height}", f"{clip.width * factor}x{clip.height * factor}"
        about = {
            "made_by": made_by,
            "seeds": seeds,
            "frames": f"{clip.frames} PNG files of {size}, exact",
            "mp4_and_gif": f"{shown}: every pixel {factor} times each way, {clip.fps:g} fps",
            "given_frames": f"frames 0..{given - 1} are the given ones" if given else "none: all frames are the model's own",
        }
        write_json(temporary / MADE_BY, about)
    return [folder / name for name in [*names, "contact_sheet.png", MADE_BY]]
