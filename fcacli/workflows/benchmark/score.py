"""One job of `fca benchmark`, scored: held-out clips predicted one by one, judged, and written as its row.

    FOLDER/clips/<run>/<clip>.png      a predicted clip, its frames side by side; all as the model makes them, the given too
          /clips/<run>/seconds.jsonl   what each prediction took
          /rows/<run>.json             scores of each clip, times, sizes
          /rows/<run>.npz              features of the predicted and of the true clips

A clip that lies there is not predicted again.
"""

import io
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fcacli.config import ClipConfig, SampleConfig
from fcacli.data.dataset import sample_frames
from fcacli.data.manifest import Clip
from fcacli.data.resize import resize
from fcacli.errors import FcaError
from fcacli.evaluation.scoring import copy_last_frame, score_clip
from fcacli.events import Report, track
from fcacli.prediction.video import write_png
from fcacli.workflows.benchmark.arms import Job, clips_of
from fcacli.workspace import Workspace, atomic_file, write_json

if TYPE_CHECKING:
    from fcacli.mini.world import Clip as World

SECONDS = "seconds.jsonl"
WORLD_SIDE = 48
"""Pixels of the pictures that the oracle and the feature network read."""


@dataclass(frozen=True)
class Method:
    """What predicts: an adapter on a base and how it is sampled; without a base, the last given frame is repeated."""

    base: Any
    adapter: Any
    clip: ClipConfig
    sample: SampleConfig


def row_of(workspace: Workspace, run: str) -> Path:
    """Where the scores of a run lie, once it is finished."""
    return workspace.root / "rows" / f"{run}.json"


def score(workspace: Workspace, job: Job, method: Method, about: dict[str, Any], report: Report) -> None:
    """Predict the job's clips that are not there yet, judge each, and write its row: `about` and the scores."""
    data, folder = workspace.data / job.arm.data, workspace.root / "clips" / job.run
    worlds = _worlds(workspace.root / f"raw{job.arm.frames}")
    clips = clips_of(job, data)
    for clip in track(clips, report, "predict"):
        if not (folder / f"{clip.id}.png").is_file():
            _predict(method, clip, sample_frames(data, "val", clip, method.clip), folder)
    rows, videos, truths, given = [], [], [], job.arm.given
    for clip in track(clips, report, "judge"):
        truth, video = sample_frames(data, "val", clip, method.clip), read_strip(folder / f"{clip.id}.png", job.arm.frames)
        fidelity = float(score_clip(video[:given], truth[:given], 0)["psnr"].mean())
        video[:given] = truth[:given]
        rows.append({"id": clip.id, "text": clip.text, **_judge(video, truth, worlds[clip.id], given), "given_psnr": fidelity})
        videos.append(resize(video, WORLD_SIDE, WORLD_SIDE))
        truths.append(resize(truth, WORLD_SIDE, WORLD_SIDE))
    _write_features(row_of(workspace, job.run).with_suffix(".npz"), videos, truths)
    seconds = _seconds(folder)
    sizes = {"given": given, "frames": job.arm.frames, "multiply_adds": 0 if method.base is None else _multiply_adds(method)}
    times = {"seconds_per_clip": float(np.median(seconds)) if seconds else None}
    write_json(row_of(workspace, job.run), about | sizes | times | {"clips": rows})


def _predict(method: Method, clip: Clip, truth: np.ndarray, folder: Path) -> None:
    from fcacli.prediction.sampler import predict_clip

    started, given = time.monotonic(), method.clip.init_frames
    if method.base is None:
        video = copy_last_frame(truth, given)
    else:
        base, adapter = method.base, method.adapter
        video = predict_clip(base, adapter, truth[:given], clip.text, method.clip, method.sample, keep_generated_init=True)
    seconds = time.monotonic() - started
    write_png(folder / f"{clip.id}.png", np.concatenate(list(video), axis=1))
    if method.base is not None:
        with (folder / SECONDS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"clip": clip.id, "seconds": round(seconds, 4)}) + "\n")


def read_strip(path: Path, frames: int) -> np.ndarray:
    """A predicted clip from its picture, so many frames side by side: uint8 (T, H, W, 3).

    Raises:
        FcaError: it is not such a picture.
    """
    import cv2

    bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if bgr is None or bgr.shape[1] % frames:
        raise FcaError(f"{path} is not a readable strip of frames", "remove it and run the same line again")
    return np.stack(np.split(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), frames, axis=1))


def _seconds(folder: Path) -> list[float]:
    """Of the clips predicted; a line that a killed process left half-written does not count."""
    found = []
    if (folder / SECONDS).is_file():
        for line in (folder / SECONDS).read_text(encoding="utf-8").splitlines():
            try:
                found.append(float(json.loads(line)["seconds"]))
            except (ValueError, KeyError, TypeError):
                continue
    return found


# ---------------------------------------------------------------- judging


def _judge(video: np.ndarray, truth: np.ndarray, world: "World", given: int) -> dict[str, Any]:
    """Scores of one clip (T, H, W, 3), the true given frames in front."""
    from fcacli.mini.oracle import happened

    verdict = happened(video, world)
    frames = {name: values.round(4).tolist() for name, values in score_clip(video, truth, given).items()}
    return {**frames, "success": verdict.success, "target": verdict.target, "others": verdict.others}


def _worlds(raw: Path) -> dict[str, "World"]:
    """The true scene and action of every clip, by its id."""
    from fcacli.mini.scene import parse_caption, scene_from_json
    from fcacli.mini.world import Clip as World

    with (raw / "truth.jsonl").open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return {row["id"]: World(scene=scene_from_json(row["scene"]), action=parse_caption(row["caption"])) for row in rows}


def _write_features(path: Path, videos: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> None:
    from fcacli.mini.train_features import features_of

    buffer = io.BytesIO()
    np.savez(buffer, predicted=features_of(np.stack(videos)), true=features_of(np.stack(truths)))
    with atomic_file(path) as temporary:
        temporary.write_bytes(buffer.getvalue())


def _multiply_adds(method: Method) -> int:
    """Of one call of the model for one clip, its conditioning computed before."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from fcacli.prediction.sampler import encode_given

    base, clip = method.base, method.clip
    frames = np.zeros((clip.init_frames, clip.height, clip.width, 3), np.uint8)
    given = encode_given(base, frames, "pushing red cup left")[0].to(base.device)
    x, t = torch.zeros(1, *base.latent_shape(clip), device=base.device), torch.zeros(1, dtype=torch.long, device=base.device)
    with torch.no_grad():
        conditioning = method.adapter.condition(base, given)
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            method.adapter.denoise(base, x, t, given.text, conditioning)
    return int(counter.get_total_flops() // 2)
