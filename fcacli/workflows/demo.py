"""`fca demo`: the whole loop in miniature. Draw a dataset, prepare it, train on it, predict held-out clips, score them.

    FOLDER/raw/                       the drawn dataset, in Something-Something's layout
          /data/ runs/ predictions/   a workspace like any other
          /frames/                    first frames of a held-out clip, to play with
          /demo.mp4 demo.gif          given | prediction | truth of held-out clips
          /contact_sheet.png          the same and the baselines, frame by frame
          /two_captions.png .gif      the same first frames under two captions
          /table.txt

Whatever is there from an earlier, interrupted call is used.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fcacli.config import ClipConfig, TrainConfig
from fcacli.data.dataset import sample_frames
from fcacli.data.manifest import read_split
from fcacli.data.resize import resize
from fcacli.errors import FcaError, Interrupted, Misuse, ProcessLost
from fcacli.events import Report, silent, track
from fcacli.prediction.pictures import Group, Row, contact_sheet, grid, side_by_side
from fcacli.prediction.video import read_pngs, write_gif, write_mp4, write_png, write_pngs
from fcacli.workflows.companions import companions
from fcacli.workflows.evaluate import EvaluateResult, choose_clips, evaluate_run
from fcacli.workflows.generation import assist
from fcacli.workflows.predict import predict
from fcacli.workflows.prepare import prepare
from fcacli.workflows.ranks import team_of
from fcacli.workflows.toy import write_toy
from fcacli.workspace import Workspace, read_json, write_json

if TYPE_CHECKING:
    from fcacli.mini.scene import Action, Scene
    from fcacli.workflows.train import TrainOptions

CLIPS, STEPS, LR = 450, 200, 18e-3
"""Chosen for minutes on two cores: 200 steps leave the thing where the sentence says in 25 of 32 clips. So few want twice the
miniature's usual learning rate.

What is drawn is narrowed to one thing being pushed: so short a training learns that much. `fca toy` draws all the verbs.
"""
SCORED, SHOWN = 32, 4
"""Held-out clips that are scored, and that are in demo.mp4."""
NAME = "demo"
"""Of the dataset."""
PICTURE = 96
"""Side of the drawn videos, pixels."""


@dataclass(frozen=True)
class DemoResult:
    """What the demo left to look at."""

    folder: Path
    files: list[Path]
    """Videos first."""
    table: str
    next: str
    """A command to go on with."""


def demo(
    folder: Path = Path("fca-demo"),
    *,
    seed: int = 0,
    clips: int | None = None,
    steps: int | None = None,
    report: Report = silent,
) -> DemoResult:
    """Run the whole loop on the bundled miniature, on the CPU.

    Args:
        clips: of the drawn dataset.
        steps: of training.

    Raises:
        FcaError: the folder holds something else, or a demo with other settings.
    """
    settings = {"seed": seed, "clips": CLIPS if clips is None else clips, "steps": STEPS if steps is None else steps}
    _claim(folder, settings)
    workspace = Workspace(folder)
    _dataset(workspace, settings["clips"], seed, report)
    try:
        config = _train(workspace, settings["steps"], seed, report).clip
        scores = _score(workspace, report)
    except (Interrupted, ProcessLost) as error:
        error.hint = "the same fca demo again goes on where it was"
        raise
    table = scores.table + "\n" + _tasks_done(workspace, config, scores, report)
    pictures, noun = _two_captions(workspace, config, report)
    files = [*_held_out(workspace, config, scores), *pictures]
    (folder / "table.txt").write_text(table + "\n", encoding="utf-8")
    try_next = f'fca predict frames "pushing {noun} slightly away"' if noun else "fca eval"
    hint = f"cd {folder} && {try_next}"
    return DemoResult(folder, [*files, folder / "table.txt"], table, hint)


def _claim(folder: Path, settings: dict[str, int]) -> None:
    """Note the settings in the folder, or say what else it holds."""
    note = folder / "demo.json"
    if note.is_file():
        if (found := read_json(note)) != settings:
            raise Misuse(
                f"{folder} holds a demo with other settings: {json.dumps(found)}", "another folder, or remove this one"
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FcaError(f"{folder} exists and holds something else", "fca demo ANOTHER-FOLDER")
    else:
        write_json(note, settings)


def _dataset(workspace: Workspace, clips: int, seed: int, report: Report) -> None:
    raw = workspace.root / "raw"
    if not (raw / "truth.jsonl").is_file():
        write_toy(raw, clips=clips, seed=seed, size=PICTURE, verbs=("push",), others=0, report=report)
    if not (workspace.data / NAME / "dataset.json").is_file():
        prepare("ssv2", raw, workspace, name=NAME, report=report)


def _train(workspace: Workspace, steps: int, seed: int, report: Report) -> TrainConfig:
    """Train, go on training, or see that it is done; the configuration of the run."""
    from fcacli.training.checkpoint import read_config
    from fcacli.workflows.train import TrainOptions, train

    options = TrainOptions(base="mini", data=NAME, steps=steps, lr=LR, seed=seed, validate_every=0, validate_clips=2)
    with companions(_others(), _train_along, workspace, options):
        return read_config(train(workspace, options, gpus=0, report=report).run)


def _train_along(workspace: Workspace, options: "TrainOptions") -> None:
    """What the other process does meanwhile."""
    from fcacli.workflows.train import train

    train(workspace, options, gpus=0)


def _score(workspace: Workspace, report: Report) -> EvaluateResult:
    with companions(_others(), _predict_along, workspace), team_of(None, "fca demo") as team:
        return evaluate_run(workspace, limit=SCORED, device="cpu", team=team, report=report)


def _predict_along(workspace: Workspace) -> None:
    """What the other process does meanwhile."""
    with team_of(None, "fca demo") as team:
        assist(workspace, "cpu", team)


def _others() -> int:
    """Processes beside this one: the miniature is so small that two with a core each are faster than one with both."""
    return 1 if (os.cpu_count() or 1) > 1 else 0


def _held_out(workspace: Workspace, config: ClipConfig, scores: EvaluateResult) -> list[Path]:
    """demo.mp4, demo.gif and contact_sheet.png from the clips that were scored."""
    assert scores.folder is not None and scores.predictions is not None
    clips = choose_clips(read_split(workspace.data / NAME, "val"), SHOWN)
    videos = []
    for clip in clips:
        truth = sample_frames(workspace.data / NAME, "val", clip, config)
        prediction = read_pngs(scores.predictions / clip.id)
        given = config.init_frames
        panels = [Row("given frames", truth[:given], given), Row("prediction", prediction, given), Row("truth", truth, given)]
        videos.append(side_by_side(panels, clip.text))
    files = _write_videos(workspace.root / "demo", grid(videos), config.fps)
    shutil.copyfile(scores.folder / "contact_sheet.png", workspace.root / "contact_sheet.png")
    return [*files, workspace.root / "contact_sheet.png"]


def _tasks_done(workspace: Workspace, config: ClipConfig, scores: EvaluateResult, report: Report) -> str:
    """One line: in how many of the scored clips what the sentence says was done, by the pixels of the last frame."""
    from fcacli.mini.oracle import NEAR, happened
    from fcacli.mini.scene import parse_caption, scene_from_json
    from fcacli.mini.world import Clip as World

    assert scores.predictions is not None
    rows = _truth(workspace)
    predicted = copied = 0
    for name in track(scores.results["names"], report, "judge"):
        world = World(scene=scene_from_json(rows[name]["scene"]), action=parse_caption(rows[name]["caption"]))
        video = read_pngs(scores.predictions / name)
        predicted += happened(video, world).success
        copied += happened(np.repeat(video[config.init_frames - 1 : config.init_frames], len(video), 0), world).success
    count = len(scores.results["names"])
    return (
        f"task done (the named thing ends within {NEAR:g} pixels of its place, the others stay): "
        f"{predicted} of {count}; copying the last frame: {copied}"
    )


def _truth(workspace: Workspace) -> dict[str, Any]:
    """Scene and caption of every drawn clip, by its id."""
    lines = (workspace.root / "raw" / "truth.jsonl").open(encoding="utf-8")
    return {row["id"]: row for row in map(json.loads, lines)}


def _two_captions(workspace: Workspace, config: ClipConfig, report: Report) -> tuple[list[Path], str]:
    """The same first frames of a held-out clip under its own caption and under another: what follows must differ.

    Returns:
        the pictures, and the name of the thing that is pushed; nothing and "" where no clip has room for another caption.
    """
    from fcacli.mini.scene import parse_caption, scene_from_json
    from fcacli.mini.world import render, simulate

    truth_rows = _truth(workspace)
    for clip in choose_clips(read_split(workspace.data / NAME, "val"), SCORED):
        scene, action = scene_from_json(truth_rows[clip.id]["scene"]), parse_caption(clip.text)
        if action.amount != "slightly" and (other := other_action(scene, action)) is not None:
            break
    else:
        return [], ""
    frames = sample_frames(workspace.data / NAME, "val", clip, config)[: config.init_frames]
    write_pngs(workspace.root / "frames", frames)
    groups, panels = [], [Row("given frames", frames, config.init_frames)]
    for wanted in (action, other):
        result = predict(workspace, workspace.root / "frames", wanted.caption, device="cpu", report=report)
        video = read_pngs(result.folder / "frames")
        truth = resize(render(scene, simulate(scene, wanted, config.frames), PICTURE), config.width, config.height)
        rows = [Row("prediction", video, config.init_frames), Row("truth", truth, config.init_frames)]
        groups.append(Group(wanted.caption, rows))
        panels.append(Row(wanted.caption, video, config.init_frames))
    sheet = workspace.root / "two_captions.png"
    write_png(sheet, contact_sheet(groups, "the same first frames, two captions"))
    videos = _write_videos(workspace.root / "two_captions", side_by_side(panels), config.fps)
    return [*videos, sheet], f"{action.colour} {action.kind}"


def other_action(scene: "Scene", action: "Action") -> "Action | None":
    """A push or pull of the same thing the opposite way that has room in the scene; None where there is none."""
    from fcacli.mini.scene import SIDE, actions
    from fcacli.mini.world import simulate

    opposite = {"left": "right", "right": "left"}.get(action.direction)
    target = scene.find(action.colour, action.kind)
    thing, others = scene.things[target], [thing for i, thing in enumerate(scene.things) if i != target]
    for candidate in actions("adapt"):
        same = (candidate.verb, candidate.colour, candidate.kind) == (action.verb, action.colour, action.kind)
        if not same or candidate.direction != opposite or candidate.amount not in ("", "far"):
            continue
        paths = simulate(scene, candidate, 16)
        places, margin = paths.things[:, target, :2], thing.size / 2 + 2  # (T, 2)
        inside = (places > margin).all() and (places < SIDE - margin).all()
        hand_seen = (paths.hand[:, :2] > 2).all() and (paths.hand[:, :2] < SIDE - 2).all()
        clear = all(np.hypot(*(places - [o.x, o.y]).T).min() > (thing.size + o.size) / 2 + 1 for o in others)
        if inside and hand_seen and clear:
            return candidate
    return None


def _write_videos(stem: Path, video: np.ndarray, fps: float) -> list[Path]:
    mp4, gif = stem.with_suffix(".mp4"), stem.with_suffix(".gif")
    write_mp4(mp4, video, fps)
    write_gif(gif, video, fps)
    return [mp4, gif]
