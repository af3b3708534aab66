"""`fca benchmark`: FCA against LoRA and against itself with one part changed, on the bundled miniature; resumable.

    FOLDER/raw/ raw17/                   drawn clips of 16 and of 17 frames, adaptation domain
          /data/ runs/                   a workspace like any other; one run an arm and seed, named after both
          /clips/<run>/<clip>/           predicted frames, PNG
          /rows/<run>.json               scores of each clip, times, sizes
          /benchmark.json                all rows, with the conditions
          /benchmark.md                  the table
          /contact_sheet.png             the same clips by every method

Every arm sees the same samples in the same order for the same number of steps. Learning rate and guidance of each kind of
adapter are chosen on clips of their own, before (`fca benchmark --choose`), and every setting tried is in the table's notes.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fcacli.config import ClipConfig, SampleConfig, to_dict
from fcacli.data.dataset import sample_frames
from fcacli.data.manifest import Clip
from fcacli.errors import Misuse
from fcacli.evaluation.report import copy_last_frame, score_clip
from fcacli.events import Report, silent, track
from fcacli.prediction.video import read_pngs, write_pngs
from fcacli.workflows.benchmark_arms import ARMS, BASE, CHOSEN_ON, COPY, SCORED, STEPS, TRAIN_CLIPS, Arm, scored_clips
from fcacli.workflows.benchmark_table import write_table
from fcacli.workflows.prepare import prepare
from fcacli.workflows.toy import write_toy
from fcacli.workflows.train import TrainOptions, train
from fcacli.workflows.trained import find_trained
from fcacli.workspace import Workspace, atomic_folder, read_json, write_json

if TYPE_CHECKING:
    from fcacli.mini.world import Clip as World

MADE = "made.json"
PICTURE = 48
"""Side of the drawn videos: no pixel is lost on the way to the base's size."""


@dataclass(frozen=True)
class BenchmarkResult:
    """Where the table is, and the table."""

    folder: Path
    files: list[Path]
    table: str


def benchmark(
    folder: Path = Path("fca-benchmark"),
    *,
    only: Sequence[str] = (),
    steps: int = STEPS,
    clips: int = TRAIN_CLIPS,
    gpus: int | None = None,
    report: Report = silent,
) -> BenchmarkResult:
    """Train and score every arm that is not there yet, then write the table of all that are.

    Args:
        only: arms by name; none for all.
        steps: of every training.
        clips: to train on.

    Raises:
        Misuse: there is no arm of that name.
    """
    if unknown := set(only) - {arm.name for arm in ARMS}:
        raise Misuse(f"no arm {', '.join(sorted(unknown))}; there are: {', '.join(arm.name for arm in ARMS)}")
    workspace = Workspace(folder)
    for arm in ARMS:
        if only and arm.name not in only:
            continue
        _draw(workspace, arm, clips, report)
        for seed, run in enumerate(arm.runs()):
            if not (folder / "rows" / f"{run}.json").is_file():
                _train_and_score(workspace, arm, run, seed, steps, gpus, report)
    if not (folder / "rows" / "base.json").is_file():
        _score_base(workspace, report)
        _score_copy(workspace)
    return BenchmarkResult(folder, *write_table(workspace))


def _draw(workspace: Workspace, arm: Arm, clips: int, report: Report) -> None:
    """Draw and prepare the arm's clips, where they are not there."""
    raw, held_out = workspace.root / f"raw{arm.frames}", SCORED + CHOSEN_ON
    if not (raw / "truth.jsonl").is_file():
        write_toy(raw, clips=clips, held_out=held_out, frames=arm.frames, size=PICTURE, report=report)
    if not (workspace.data / arm.data / "dataset.json").is_file():
        prepare("ssv2", raw, workspace, name=arm.data, splits=("train", "val"), report=report)


def _train_and_score(workspace: Workspace, arm: Arm, run: str, seed: int, steps: int, gpus: int | None, report: Report) -> None:
    options = TrainOptions(
        base="mini",
        data=arm.data,
        steps=steps,
        seed=seed,
        frames=arm.frames,
        init_frames=arm.given,
        validate_every=0,
        validate_clips=0,
        **arm.options,
    )
    train(workspace, options, gpus=gpus, run=run, report=report)
    trained = find_trained(workspace, run, None, None, report)
    adapter = trained.load()
    speeds = [json.loads(line)["seconds"] for line in (trained.run / "speed.jsonl").open(encoding="utf-8")]
    about = {
        "arm": arm.name,
        "seed": seed,
        "steps": trained.step,
        "parameters": adapter.parameter_count,
        "seconds_per_step": float(np.median(speeds)),
        "config": to_dict(trained.config),
    }
    scored = _score(workspace, Method(run, trained.base, adapter, trained.config.clip, trained.config.sample), arm, report)
    write_json(workspace.root / "rows" / f"{run}.json", about | scored)


def _score_base(workspace: Workspace, report: Report) -> None:
    """The base without an adapter, on the clips of the first arm."""
    from fcacli.model.bases import load_base, resolve_base
    from fcacli.model.text_only import TextOnly
    from fcacli.training.checkpoint import read_config

    config = read_config(workspace.run(ARMS[0].runs()[0]))
    method = Method(BASE, load_base(resolve_base("mini")), TextOnly(), config.clip, config.sample)
    about = {"arm": BASE, "seed": 0, "steps": 0, "parameters": 0, "seconds_per_step": None, "config": None}
    write_json(workspace.root / "rows" / "base.json", about | _score(workspace, method, ARMS[0], report))


# ---------------------------------------------------------------- scoring


@dataclass(frozen=True)
class Method:
    """What predicts: an adapter on a base, and how it is sampled."""

    name: str
    base: Any
    adapter: Any
    clip: ClipConfig
    sample: SampleConfig


def _score(workspace: Workspace, method: Method, arm: Arm, report: Report) -> dict[str, Any]:
    """Predict the scored clips, those that are not there yet, and judge each."""
    worlds = _worlds(workspace, arm.frames)
    data, rows = workspace.data / arm.data, []
    for clip in track(scored_clips(data, arm), report, f"score {method.name}"):
        truth = sample_frames(data, "val", clip, method.clip)
        folder = workspace.root / "clips" / method.name / clip.id
        if not folder.is_dir():
            _predict(method, clip, truth[: arm.given], folder)
        rows.append({"id": clip.id, "text": clip.text, **_judge(folder, truth, worlds[clip.id], arm.given)})
    return {"given": arm.given, "frames": arm.frames, "multiply_adds": _multiply_adds(method), "clips": rows}


def _predict(method: Method, clip: Clip, given: np.ndarray, folder: Path) -> None:
    """All frames as the model makes them, the given ones too."""
    from fcacli.prediction.sampler import predict_clip

    started = time.monotonic()
    video = predict_clip(method.base, method.adapter, given, clip.text, method.clip, method.sample, keep_generated_init=True)
    with atomic_folder(folder) as temporary:
        write_pngs(temporary, video)
        write_json(temporary / MADE, {"seconds": time.monotonic() - started})


def _judge(folder: Path, truth: np.ndarray, world: "World", given: int) -> dict[str, Any]:
    """Scores of one predicted clip; the true given frames stand in front before it is scored."""
    from fcacli.mini.oracle import happened

    video = read_pngs(folder)
    fidelity = score_clip(video[:given], truth[:given], 0)["psnr"].mean()
    video[:given] = truth[:given]
    frames = {name: values.round(4).tolist() for name, values in score_clip(video, truth, given).items()}
    verdict = happened(video, world)
    judged = {"success": verdict.success, "target": verdict.target, "others": verdict.others}
    return {**frames, **judged, "given_psnr": float(fidelity), "seconds": read_json(folder / MADE)["seconds"]}


def _worlds(workspace: Workspace, frames: int) -> dict[str, "World"]:
    """The true scene and action of every clip, by its id."""
    from fcacli.mini.scene import parse_caption, scene_from_json
    from fcacli.mini.world import Clip as World

    rows = map(json.loads, (workspace.root / f"raw{frames}" / "truth.jsonl").open(encoding="utf-8"))
    return {row["id"]: World(scene=scene_from_json(row["scene"]), action=parse_caption(row["caption"])) for row in rows}


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
    return counter.get_total_flops() // 2


def _score_copy(workspace: Workspace) -> None:
    """The last given frame repeated, on the clips of the first arm."""
    from fcacli.mini.oracle import happened
    from fcacli.training.checkpoint import read_config

    arm, worlds, clips = ARMS[0], _worlds(workspace, ARMS[0].frames), []
    config = read_config(workspace.run(arm.runs()[0])).clip
    for clip in scored_clips(workspace.data / arm.data, arm):
        truth = sample_frames(workspace.data / arm.data, "val", clip, config)
        still = copy_last_frame(truth, arm.given)
        verdict = happened(still, worlds[clip.id])
        frames = {name: values.tolist() for name, values in score_clip(still, truth, arm.given).items()}
        judged = {"success": verdict.success, "target": verdict.target, "others": verdict.others}
        clips.append({"id": clip.id, "text": clip.text, **frames, **judged, "given_psnr": None, "seconds": 0.0})
    about = {"arm": COPY, "seed": 0, "steps": 0, "parameters": 0, "seconds_per_step": None, "multiply_adds": 0}
    write_json(workspace.root / "rows" / "copy.json", about | {"clips": clips})
