"""What each option that saves memory changes of a training of the miniature, and of a decoded clip, within the tolerances of
memory_options.py.

Run with -n 0 -s -m benchmark; writes results/memory_options.md.
"""

from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from memory_options import OPTIONS, RATE, STEPS, TILED, Material, Option, Training, compared, require, training

from fcacli.config import Keeping
from fcacli.model.bases import load_base, resolve_base
from fcacli.workflows.encode.encode import choose_clips, encode
from fcacli.workflows.prepare import prepare
from fcacli.workflows.toy import write_toy
from fcacli.workflows.train_options import TrainOptions, resolve
from fcacli.workspace import Workspace

CLIPS, SIDE = 32, 96
RESULT = Path(__file__).parent / "results" / "memory_options.md"


def row(name: str, option: Option, found: Training, plain: Training) -> str:
    against = "plain run in bf16" if option.plain.get("precision") == "bf16" else "plain run"
    against += ", adamw8bit" * ("optimizer" in option.plain) + ", bf16 weights" * ("weights" in option.plain)
    gradient, loss = found.moved(plain)
    last = abs(float(found.losses[-1] / plain.losses[-1]) - 1)
    shown = [f"{size:.3%}" if size else "0" for size in (gradient, loss, last)]
    if found.same(plain):
        shown = ["same bits"] * 3
    asked = "same bits" if option.exact else f"{option.gradient:.2%}, {option.loss:.2%}"
    return f"| {name} | {against} | {' | '.join(shown)} | {asked} |"


def tiled_psnr(frames: np.ndarray) -> float:
    """dB between 8 frames decoded by the miniature's VAE in four tiles, and what is left at the edges, and at once."""
    base = load_base(resolve_base("mini"))
    latents = base.encode_video(frames)
    at_once = base.decode(latents, 8).astype(float)
    base.keep(Keeping(vae_tiling=True))
    base.vae.register_to_config(sample_height=SIDE, sample_width=SIDE)
    return float(10 * np.log10(255**2 / np.square(base.decode(latents, 8) - at_once).mean()))


def ramps() -> np.ndarray:
    """Smooth colours that move, unlike all that this VAE has learned."""
    ramp = np.linspace(0, 255, SIDE)
    picture = np.stack([np.add.outer(ramp, ramp) / 2, np.subtract.outer(ramp, ramp) / 2 + 127, np.tile(ramp, (SIDE, 1))], -1)
    return np.stack([np.roll(picture, 2 * t, 1) for t in range(8)]).astype(np.uint8)


def videos(folder: Path) -> list[np.ndarray]:
    """The first frames of some clips of the toy world."""
    files = sorted(folder.rglob("*.webm"))[:4]
    return [np.stack([f.to_ndarray(format="rgb24") for f in av.open(str(file)).decode(video=0)][:8]) for file in files]


@pytest.mark.benchmark
def test_each_option_is_within_its_tolerance(tmp_path, monkeypatch):
    from test_plan_accuracy import machine

    write_toy(tmp_path / "raw", clips=CLIPS, size=SIDE)
    dataset = prepare("ssv2", tmp_path / "raw", Workspace(tmp_path)).folder
    base = load_base(resolve_base("mini"))
    asked = TrainOptions(steps=STEPS, batch_size=2, lr=RATE, validate_clips=0)
    config = resolve(asked, base.spec, base.fingerprint, dataset.name, False)
    encoded = encode(base, dataset, choose_clips(dataset, config.clip), config.clip)
    samples = [encoded.dataset("train")[index] for index in range(len(encoded.clips["train"]))]
    material = Material(samples, encoded.dataset("val"), encoded.null(), encoded.unpack)
    plains: dict[str, Training] = {}
    runs = iter(range(1000))

    def train(fields, start):
        run = tmp_path / "runs" / str(next(runs))
        return training(base.spec, replace(config, **fields), run, material, start, monkeypatch)

    found, rows = {}, []
    for name, option in OPTIONS.items():
        found[name] = compared(option, train, plains)
        rows.append(row(name, option, *found[name]))
        print(rows[-1], flush=True)
    decoded = min(map(tiled_psnr, videos(tmp_path / "raw")))
    plain = plains[str({})]
    lines = [
        "# What options that save memory change of a training",
        "",
        f"Measured: mini, FCA, {STEPS} steps of 2 clips of the toy world, the same draws. Plain run: fp32 throughout, AdamW,",
        "no checkpointing. Gradients: those that the optimizer gets for one step from the weights at the end of the plain",
        "run; their distance, relative to their norm. Losses: relative changes; the furthest of all steps' and of the held-out",
        "loss after them, and of that one alone. On a CPU, where what waits in main memory is copied within it. The",
        "tolerances (gradients, losses) stand in tests/memory_options.py; tests/training/test_memory_options.py holds them on",
        "a small random base.",
        "",
        f"{machine()}. Learning rate {RATE:g}; held-out loss of the plain run {plain.losses[-1]:.4f}.",
        "Made by `pytest -n 0 -m benchmark tests/benchmarks/test_memory_tolerances.py`.",
        "",
        "| option | against | gradients | loss, furthest | held-out loss | tolerance |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        f"`--vae-tiling`: four clips of the toy world, 8 frames of {SIDE}x{SIDE}, decoded in four tiles are {decoded:.1f} dB",
        f"or more from the same decoded at once (tolerance {TILED:.0f} dB); moving ramps of colour, which this VAE does not",
        f"know, {tiled_psnr(ramps()):.1f} dB. No loss or gradient depends on it.",
    ]
    RESULT.write_text("\n".join(lines) + "\n")
    print("\n" + RESULT.read_text())
    for name, option in OPTIONS.items():
        require(option, *found[name])
    assert TILED < decoded < 100
