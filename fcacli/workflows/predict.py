"""`fca predict`: first frames and a text to the frames that follow, below predictions/."""

import hashlib
import json
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fcacli import __version__
from fcacli.config import ClipConfig, Offload, SampleConfig, Sampler, to_dict
from fcacli.data.decode import load_source
from fcacli.data.manifest import is_text
from fcacli.data.resize import resize_frame
from fcacli.errors import FcaError, Misuse
from fcacli.events import Event, Message, Progress, Report, silent
from fcacli.prediction.pictures import Group, Row, contact_sheet
from fcacli.prediction.video import enlarge, view_factor, write_gif, write_mp4, write_png, write_pngs
from fcacli.workflows.lock import locked
from fcacli.workflows.offloading import settle_offload
from fcacli.workflows.trained import Trained, find_trained
from fcacli.workspace import Workspace, atomic_folder, read_json, require_writable, slug, write_json

if TYPE_CHECKING:
    from torch import Tensor

    from fcacli.model.conditioning import Given

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
    sampler: Sampler | None = None,
    offload: Offload | None = None,
    keep_generated_init: bool = False,
    out: Path | None = None,
    device: str | None = None,
    compile: bool | None = None,
    report: Report = silent,
) -> PredictResult:
    """Predict what follows.

    Args:
        frames: a folder of images, a video or one image, of any size.
        run, checkpoint: names; None for the latest.
        num: predictions to make; number n uses `seed` + n.
        steps, guidance, sampler: None for the run's.
        out: folder to write; None for predictions/<text>.
        compile: None for as the run was trained.
        offload: what waits in main memory; None for what the device has room for.

    Raises:
        Misuse: the text is empty, or an option is out of range.
        FcaError: no run, unreadable frames, or `out` holds something else.
    """
    if not text.strip():
        raise Misuse("the text is empty: say what happens", 'fca predict frames/ "pushing cup left"')
    if not is_text(text):
        raise Misuse("the text is not valid UTF-8", 'fca predict frames/ "pushing cup left"')
    if num < 1:
        raise Misuse(f"--num must be at least 1, got {num}")
    trained = find_trained(workspace, run, checkpoint, device, report, compile)
    clip, defaults = trained.config.clip, trained.config.sample
    sampling = SampleConfig(
        steps=defaults.steps if steps is None else steps,
        guidance=defaults.guidance if guidance is None else guidance,
        sampler=sampler or defaults.sampler,
        seed=seed,
    )
    replace(sampling, seed=seed + num - 1)  # the last one's is in range too
    if not frames.exists():
        raise FcaError(f"{frames} does not exist", _source_there(workspace, trained.config.data))
    fitted = partial(resize_frame, width=clip.width, height=clip.height, fit=clip.fit)
    shown = load_source(frames, clip.init_frames, clip.frames, report, fitted)
    request = Request(frames, shown, text, clip, sampling, [seed + n for n in range(num)], keep_generated_init)
    made_by = request.decided_by() | trained.identity()
    folder = _choose_folder(workspace, text, out, made_by)
    require_writable(folder.parent, folder)  # what is wrong is said at once
    report(Message(trained.describe()))
    settled = settle_offload(offload, trained.base, trained.config, sampling, report)
    videos = _sample(trained, settled, request, report)
    with _writing(workspace, out, report):
        folder = _choose_folder(workspace, text, out, made_by)
        files = _write(folder, request, videos, made_by)
    return PredictResult(folder, files, trained.run, trained.step, request.seeds)


def _source_there(workspace: Workspace, data: str) -> str:
    """What to give instead of frames that are not there, with a held-out clip for an example."""
    clip = next(iter(sorted((workspace.data / data / "val" / "videos").glob("*.mp4"))), None)
    return "give a folder of pictures, a video file or a picture" + (f"; for example {clip}" if clip else "")


@dataclass(frozen=True)
class Request:
    """What is to be predicted, resolved."""

    source: Path
    """Where the initial frames came from."""
    shown: np.ndarray
    """uint8 (T0, H, W, 3), of the clip's size, or all T frames where the source is a whole action."""
    text: str
    clip: ClipConfig
    sampling: SampleConfig
    seeds: list[int]
    keep_generated_init: bool

    @property
    def init_frames(self) -> np.ndarray:
        """uint8 (T0, H, W, 3), of the clip's size."""
        return self.shown[: self.clip.init_frames]

    def decided_by(self) -> dict[str, Any]:
        """All but the model that decides the pixels."""
        return {
            "text": self.text,
            "init_frames_sha256": hashlib.sha256(self.init_frames.tobytes()).hexdigest(),
            "clip": to_dict(self.clip),
            "sampling": to_dict(self.sampling),
            "num": len(self.seeds),
            "keep_generated_init": self.keep_generated_init,
            "versions": {"fca": __version__, **{name: version(name) for name in ("torch", "diffusers", "transformers")}},
        }


def _sample(trained: Trained, offload: Offload, request: Request, report: Report) -> list[np.ndarray]:
    """One video per seed; one part of the base is on the device at a time."""
    from fcacli.prediction.sampler import decode, encode_given_once

    base = trained.base
    given = encode_given_once(base, request.init_frames, request.text)
    latents = _denoised(trained, offload, request, given, report)
    base.unload("transformer")
    shown = None if request.keep_generated_init else request.init_frames
    return [decode(base, one, request.clip, shown) for one in latents]


def _denoised(
    trained: Trained, offload: Offload, request: Request, given: "tuple[Given, Given]", report: Report
) -> "list[Tensor]":
    """Latents of each seed, in main memory."""
    from fcacli.prediction.sampler import PHASE, sample

    base, adapter, latents = trained.base, trained.load(offload), []
    for number, seed in enumerate(request.seeds, 1):
        phase = PHASE if len(request.seeds) == 1 else f"{PHASE} {number}/{len(request.seeds)}"
        config = replace(request.sampling, seed=seed)
        sampled = sample(base, adapter, *given, base.latent_shape(request.clip), config, _renamed(report, phase))
        latents.append(sampled.cpu())
    return latents


def _renamed(report: Report, phase: str) -> Report:
    def renamed(event: Event) -> None:
        report(replace(event, phase=phase) if isinstance(event, Progress) else event)

    return renamed


def _writing(workspace: Workspace, out: Path | None, report: Report) -> AbstractContextManager[None]:
    """One process at a time chooses a name below predictions/ and writes there."""
    if out is not None:
        return nullcontext()
    return locked(workspace.predictions, f"{workspace.predictions} is being written", waiting=report)


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


def _write(folder: Path, request: Request, videos: list[np.ndarray], made_by: dict[str, Any]) -> list[Path]:
    """Write everything into the folder at once; several predictions get one folder each."""
    clip, alone = request.clip, len(videos) == 1
    factor = view_factor(clip.width, clip.height)
    given = 0 if request.keep_generated_init else clip.init_frames
    names: list[str] = []
    with atomic_folder(folder) as temporary:
        for seed, video in zip(request.seeds, videos, strict=True):
            place = "" if alone else f"seed-{seed}/"
            write_pngs(temporary / f"{place}frames", video)
            write_mp4(temporary / f"{place}prediction.mp4", enlarge(video, factor), clip.fps)
            write_gif(temporary / f"{place}prediction.gif", enlarge(video, factor), clip.fps)
            names += [f"{place}prediction.mp4", f"{place}prediction.gif"]
        labels = ["prediction"] if alone else [f"seed {seed}" for seed in request.seeds]
        rows = [Row(label, video, given) for label, video in zip(labels, videos, strict=True)]
        if len(request.shown) == clip.frames:  # what followed there, whatever the text says
            rows.insert(0, Row("the source", request.shown, clip.init_frames))
        write_png(temporary / "contact_sheet.png", contact_sheet([Group(request.text, rows)]))
        size, shown = f"{clip.width}x{clip.height}", f"{clip.width * factor}x{clip.height * factor}"
        about = {
            "made_by": made_by,
            "source": str(request.source),
            "seeds": request.seeds,
            "frames": f"{clip.frames} PNG files of {size}, exact",
            "mp4_and_gif": f"{shown}: every pixel {factor} times each way, {clip.fps:g} fps",
            "given_frames": f"frames 0..{given - 1} are the given ones" if given else "none: all frames are the model's own",
        }
        write_json(temporary / MADE_BY, about)
    return [folder / name for name in [*names, "contact_sheet.png", MADE_BY]]
