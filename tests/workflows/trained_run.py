"""A workspace with a prepared dataset of noise and gradients, and a run of a random adapter on the tiny base."""

import hashlib
from pathlib import Path

import numpy as np

from fcacli.config import ClipConfig, FCAConfig, SampleConfig, TrainConfig, to_dict
from fcacli.data.manifest import Clip, write_split
from fcacli.prediction.video import write_mp4
from fcacli.workspace import Workspace, write_json

CLIP = ClipConfig(frames=16, init_frames=2, width=32, height=32, fps=8)
ADAPTER = FCAConfig(width=32, tokens_per_frame=2, text_width=16, text_heads=2, text_blocks=1)
VAL_CLIPS = 3


def make_workspace(root: Path, base_folder: Path, steps: tuple[int, ...] = (2, 4)) -> Workspace:
    """data/toy with VAL_CLIPS held-out clips; runs/first with one checkpoint per step."""
    workspace = Workspace(root)
    _dataset(workspace.data / "toy")
    add_run(workspace, "first", base_folder, steps)
    return workspace


def source_video(number: int, frames: int = 20) -> np.ndarray:
    """A square that moves over a gradient: uint8 (T, 40, 48, 3)."""
    rows, columns = np.linspace(0, 120, 40)[:, None, None], np.linspace(0, 80, 48)[None, :, None]
    video = np.broadcast_to(rows + columns + 10 * number, (frames, 40, 48, 3)).astype(np.uint8)
    for t in range(frames):
        video[t, 10 + number : 20 + number, t : t + 10] = (220, 40, 30)
    return video


def _dataset(folder: Path) -> None:
    clips = []
    for number in range(VAL_CLIPS):
        video = source_video(number)
        write_mp4(folder / "val" / "videos" / f"clip{number}.mp4", video, 12)
        times = [t / 12 for t in range(len(video))]
        content = hashlib.sha256(video.tobytes()).hexdigest()
        clips.append(
            Clip(f"videos/clip{number}.mp4", f"pushing cup {number}", f"raw/{number}.webm", len(video), 48, 40, times, content)
        )
    write_split(folder, "val", clips)
    write_json(folder / "dataset.json", {"name": folder.name})


def add_run(workspace: Workspace, name: str, base_folder: Path, steps: tuple[int, ...], seed: int = 0) -> None:
    """A run whose adapters are random, another one at each step."""
    import torch

    from fcacli.model.attach import attach, save_adapter
    from fcacli.model.bases import load_base, resolve_base
    from fcacli.training.checkpoint import State, save

    base = load_base(resolve_base(str(base_folder)))
    config = TrainConfig(
        base=base.spec.name,
        base_fingerprint=base.fingerprint,
        data="toy",
        clip=CLIP,
        adapter=ADAPTER,
        sample=SampleConfig(steps=2, guidance=2.0),
        steps=max(steps, default=1),
        batch_size=1,
        lr=1e-3,
        warmup=0,
        validate_every=0,
    )
    run = workspace.runs / name
    write_json(run / "config.json", {"created": f"2025-01-01T00:00:0{seed}", "version": "0", "config": to_dict(config)})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        adapter = attach(base, ADAPTER, CLIP)
        for step in steps:
            for _, parameter in adapter.trainable():
                torch.nn.init.normal_(parameter, std=0.1)
            optimizer = torch.optim.SGD([parameter for _, parameter in adapter.trainable()])
            state = State(step=step, log_bytes=0, train_loss=0.0)
            save(run, state, lambda folder: save_adapter(adapter, folder, base.spec.name, base.fingerprint, CLIP), optimizer)
