"""Which way to keep trained weights in bfloat16 follows float32: 150 steps on the tiny random base at a rate of 1e-4.

Run with -m benchmark -s; writes results/bfloat16_weights.md.
"""

import datetime
import json
import platform
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fcacli.config import SampleConfig, TrainConfig
from fcacli.model.bases import load_base, resolve_base
from fcacli.training import optim
from fcacli.training.trained_weights import TrainedWeights, hold

sys.path.append(str(Path(__file__).parents[1] / "training"))
from fitting import CLIP, FCA, clips, run_fit

RESULTS = Path(__file__).parent / "results" / "bfloat16_weights.md"
STEPS, RATE = 150, 1e-4


class Nearest(TrainedWeights):
    """Rounded to the nearest bfloat16: what small updates are lost by."""

    dtype = torch.bfloat16

    def write(self, number, master, places, step):
        self._scatter(number, master.bfloat16(), places)


class Kahan(Nearest):
    """With the error of the rounding kept in bfloat16 and added before the next."""

    def __init__(self, parameters, parts):
        super().__init__(parameters, parts)
        for part, kept in zip(parts, self.kept, strict=True):
            kept["error"] = torch.zeros(part.shapes[0] if part.alone else part.size, dtype=torch.bfloat16)

    def read(self, number):
        return super().read(number) + self.kept[number]["error"].float()

    def write(self, number, master, places, step):
        super().write(number, master, places, step)
        self.kept[number]["error"].copy_(master - master.bfloat16().float())


WAYS = {
    "fp32": ("fp32", hold, 4),
    "nearest (control)": ("bf16", lambda parameters, parts, *_: Nearest(parameters, parts), 2),
    "bf16-stochastic": ("bf16-stochastic", hold, 2),
    "Kahan summation": ("bf16", lambda parameters, parts, *_: Kahan(parameters, parts), 4),
    "bf16": ("bf16", hold, 4),
}
"""Name -> `--weights`, what holds them, bytes of a weight without gradient and moments."""


@pytest.mark.benchmark
def test_loss_follows_that_of_float32_weights(tiny_base_folder, tmp_path, monkeypatch):
    base = load_base(resolve_base(str(tiny_base_folder)))
    config = TrainConfig(
        base=base.spec.name,
        base_fingerprint=base.fingerprint,
        data="",
        clip=CLIP,
        adapter=FCA,
        sample=SampleConfig(steps=1, guidance=1.0),
        steps=STEPS,
        batch_size=2,
        lr=RATE,
        warmup=2,
        optimizer="adamw",
        checkpointing=False,
        caption_dropout=0.0,
        validate_every=0,
    )
    losses = {}
    for name, (weights, holder, _) in WAYS.items():
        monkeypatch.setattr(optim, "hold", holder)
        run_fit(base, replace(config, weights=weights), tmp_path / name, data=clips(2))
        lines = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        losses[name] = [line["loss"] for line in lines if "loss" in line]
    full = losses["fp32"]
    off = {name: max(abs(a - b) / b for a, b in zip(each, full, strict=True)) for name, each in losses.items()}
    fall = {name: each[0] - each[-1] for name, each in losses.items()}
    rows = [
        f"| {name} | {WAYS[name][2]} | {100 * off[name]:.3f} % | {100 * fall[name] / fall['fp32']:.0f} % |" for name in WAYS
    ]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=RESULTS.parents[1])
    head = f"{datetime.date.today()}, {_processor()}, torch {torch.__version__}, commit {commit.stdout.strip()}"
    table = ["| trained weights | bytes each | loss, furthest from fp32 | fall of the loss kept |", "|---|---|---|---|", *rows]
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text("\n".join([f"# {STEPS} steps, learning rate {RATE:g}, tiny random base", "", head, "", *table, ""]))
    print("\n" + RESULTS.read_text())
    assert off["bf16"] < 5e-4 and off["bf16-stochastic"] < 1e-3 < off["nearest (control)"]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()
