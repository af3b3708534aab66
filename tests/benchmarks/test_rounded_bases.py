"""What a rounded frozen base does on the miniature, whose weights are trained: to its output, and to twenty steps of training.

Run with -m benchmark -s; writes results/frozen_memory.md.
"""

import datetime
import json
import platform
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from fcacli.config import Keeping
from fcacli.data.dataset import collate
from fcacli.model.attach import attach, save_adapter
from fcacli.model.bases import load_base, resolve_base
from fcacli.model.frozen_memory import frozen_bytes
from fcacli.training.checkpoint import all_validations
from fcacli.training.loop import Session, Subject, fit
from fcacli.training.objective import held_out_loss
from fcacli.workflows.encode.encode import choose_clips, encode
from fcacli.workflows.prepare import prepare
from fcacli.workflows.toy import write_toy
from fcacli.workflows.train_options import TrainOptions, resolve
from fcacli.workspace import Workspace, read_json

STEPS, CLIPS = 20, 32
RESULT = Path(__file__).parent / "results" / "frozen_memory.md"
TOLERANCE = {"int8": 0.002, "fp8": 0.01, "nf4": 0.05}
"""Relative change of the loss of the last ten steps, and of the held-out loss after them."""


def trained(base, config, encoded, run):
    """The loss of a run's last ten steps, and its held-out loss."""
    run.mkdir(parents=True)
    torch.manual_seed(0)
    adapter = attach(base, config.adapter, config.clip)
    subject = Subject(
        base=base,
        adapter=adapter,
        write_adapter=lambda folder: save_adapter(adapter, folder, config.base, config.base_fingerprint, config.clip),
        train=[encoded.dataset("train")[index] for index in range(len(encoded.clips["train"]))],
        held_out=encoded.dataset("val"),
        null=encoded.null(),
        unpack=encoded.unpack,
    )
    fit(subject, config, run, Session())
    losses = [json.loads(line).get("loss") for line in (run / "log.jsonl").read_text().splitlines()]
    losses = [loss for loss in losses if loss is not None]
    return sum(losses[-10:]) / 10, read_json(all_validations(run)[-1] / "validation.json")["held_out"]


def output_and_loss(base, encoded):
    """v of the base alone on two held-out clips, and its held-out loss on all."""
    from fcacli.model.text_only import TextOnly

    samples = [encoded.dataset("val")[index] for index in range(len(encoded.clips["val"]))]
    batch = encoded.unpack(collate(samples[:2]))
    noise = torch.randn(batch["latents"].shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        v = base.denoise(noise, torch.tensor([300, 700]), batch["text"])
    return v, held_out_loss(base, TextOnly(), [encoded.unpack(collate(samples))])["held_out"]


def about() -> str:
    """Machine, date, commit."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    return f"{platform.machine()}, CPU, torch {torch.__version__}, {datetime.date.today()}, commit {commit}"


@pytest.mark.benchmark
def test_a_rounded_base_trains_as_a_full_one(tmp_path):
    write_toy(tmp_path / "raw", clips=CLIPS)
    dataset = prepare("ssv2", tmp_path / "raw", Workspace(tmp_path)).folder
    plain = load_base(resolve_base("mini"))
    asked = TrainOptions(steps=STEPS, batch_size=2, validate_clips=0, precision="fp32")
    config = resolve(asked, plain.spec, plain.fingerprint, dataset.name, False)
    encoded = encode(plain, dataset, choose_clips(dataset, config.clip), config.clip)
    found, rows = {}, []
    for weights in ("full", *TOLERANCE):
        base = load_base(resolve_base("mini"))
        base.keep(Keeping(base_weights=weights))
        v, loss = output_and_loss(base, encoded)
        size = frozen_bytes(plain.transformer, Keeping(base_weights=weights), base.dtype).device
        found[weights] = (v, loss, *trained(base, config, encoded, tmp_path / "runs" / weights), size)
        change = float((v - found["full"][0]).norm() / found["full"][0].norm())
        _, alone, last, held_out, _ = found[weights]
        rows.append(f"| {weights} | {size / 1e6:.1f} | {change:.2%} | {alone:.5f} | {last:.5f} | {held_out:.5f} |")
    title = f"mini (float32), FCA, {STEPS} steps of 2 clips of the toy world, the same draws. {about()}"
    head = "| base | MB | change of v | held-out loss, base alone | loss, last ten steps | held-out loss after them |"
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text("\n".join(["# A rounded frozen base", "", title, "", head, "|---|---|---|---|---|---|", *rows]) + "\n")
    print("\n" + RESULT.read_text())
    for weights, tolerance in TOLERANCE.items():
        moved = np.array(found[weights][1:4]) / np.array(found["full"][1:4]) - 1
        assert abs(moved).max() < tolerance, (weights, moved)
