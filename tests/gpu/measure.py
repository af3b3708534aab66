"""One configuration of `fca train` in a process of its own: peak device memory and time of every phase, as JSON.

    python tests/gpu/measure.py BASE_FOLDER '{"frames": 16, "width": 256, ...}' [--cap GiB] [--steps 6] [--device cuda]

The JSON is of TrainOptions. Phases: encode (text encoder, VAE, image encoder), the training steps, save, validation (sampling
and decoding), all of fca's own code on random pixels. `--cap` limits the allocator to so much, as a smaller card would.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from fcacli.config import SampleConfig, TrainConfig
from fcacli.data.dataset import Sample
from fcacli.errors import OutOfMemory, memory_of
from fcacli.model.attach import attach, save_adapter, set_aside
from fcacli.model.bases import load_base, resolve_base
from fcacli.prediction.sampler import decode, encode_given, sample
from fcacli.training.loop import Session, Subject, fit
from fcacli.workflows.train_options import TrainOptions, resolve

TEXT = "pushing cup left"
DENOISING = 3
"""Denoising steps of the validation: each takes the same memory and time."""


class Peaks:
    """Peak bytes and seconds by phase."""

    def __init__(self, device: str) -> None:
        self.cuda = device.startswith("cuda")
        self.phases: dict[str, dict[str, float]] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        started = time.monotonic()
        try:
            yield
        finally:
            row = {"seconds": round(time.monotonic() - started, 3)}
            if self.cuda:
                torch.cuda.synchronize()
                row |= {
                    "allocated_gib": _gib(torch.cuda.max_memory_allocated()),
                    "reserved_gib": _gib(torch.cuda.max_memory_reserved()),
                }
            self.phases[name] = row


class OneClip(Dataset[Sample]):
    """The same encoded clip, again and again."""

    def __init__(self, encoded: dict[str, Any], count: int) -> None:
        self.encoded, self.count = encoded, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        return {"id": str(index), **self.encoded}


def measure(folder: Path, options: TrainOptions, steps: int, device: str) -> dict[str, Any]:
    """All phases of one configuration."""
    spec = resolve_base(str(folder))
    config = replace(resolve(options, spec, "random", "random", bf16=True), steps=steps, warmup=0, validate_every=0)
    base, peaks = load_base(spec, device), Peaks(device)
    clip = config.clip
    pixels = np.random.default_rng(0).integers(0, 256, (clip.frames, clip.height, clip.width, 3), dtype=np.uint8)
    with peaks.phase("encode"):
        given, null = encode_given(base, pixels[: clip.init_frames], TEXT)
        latents = base.encode_video(pixels)
    base.unload("text_encoder", "image_encoder", "vae")
    adapter = attach(base, config.adapter, clip)
    encoded = {
        "latents": latents.cpu(),
        "init_latents": given.init_latents[0].cpu(),
        "image": given.image[0].cpu(),
        "text": given.text[0].cpu(),
        "text_mask": given.text_mask[0].cpu(),
    }
    with tempfile.TemporaryDirectory() as run:
        saw = _train(base, adapter, encoded, (null.text[0].cpu(), null.text_mask[0].cpu()), config, Path(run), peaks)
    with peaks.phase("validation"):
        drawn = sample(base, adapter, given, null, base.latent_shape(clip), SampleConfig(steps=DENOISING, guidance=6.0))
    with peaks.phase("decode"):
        decode(base, drawn, clip, pixels[: clip.init_frames])
    denoising = {"fca": peaks.phases["validation"]["seconds"] / DENOISING, "base": _denoise_alone(base, latents, null, device)}
    return {"parameters": adapter.parameter_count, "phases": peaks.phases, "denoising": denoising, **saw}


def _train(
    base: Any, adapter: Any, encoded: dict[str, Any], null: tuple[Any, Any], config: TrainConfig, run: Path, peaks: Peaks
) -> dict[str, Any]:
    """The run itself, by `fit`: steps, and the checkpoint at the end."""
    subject = Subject(
        base=base,
        adapter=adapter,
        write_adapter=lambda folder: save_adapter(adapter, folder, config.base, config.base_fingerprint, config.clip),
        train=OneClip(encoded, config.batch_size * config.accumulate),
        held_out=None,
        null=null,
        unpack=lambda batch: {key: value.to(base.device) if torch.is_tensor(value) else value for key, value in batch.items()},
    )
    with peaks.phase("training and saving"):
        fit(subject, config, run, Session(workers=0, checkpoint_seconds=1e9))
    rows = [json.loads(line) for line in (run / "speed.jsonl").read_text().splitlines()]
    losses = [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines() if "loss" in line]
    seconds = [row["seconds"] for row in rows[min(2, len(rows) - 1) :]]  # the first ones choose kernels
    return {"seconds_per_step": round(statistics.median(seconds), 4), "losses": losses, "micro_batches": config.accumulate}


@torch.no_grad()
def _denoise_alone(base: Any, latents: Any, null: Any, device: str) -> float:
    """Seconds of one call of the base without an adapter, both halves of guidance."""
    x = latents[None].to(base.dtype).to(base.device).repeat(2, 1, 1, 1, 1)
    text, t = null.text.to(base.device).repeat(2, 1, 1), torch.tensor([500, 500], device=base.device)
    seconds = []
    with set_aside(base.transformer):
        for _ in range(DENOISING):
            started = time.monotonic()
            base.denoise(x, t, text)
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            seconds.append(time.monotonic() - started)
    return statistics.median(seconds)


def _gib(size: int) -> float:
    return round(size / 2**30, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("options", type=json.loads)
    parser.add_argument("--cap", type=float, help="GiB")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--device", default="cuda")
    said = parser.parse_args()
    if said.cap and said.device.startswith("cuda"):
        torch.cuda.set_per_process_memory_fraction(
            min(1.0, said.cap * 2**30 / torch.cuda.get_device_properties(0).total_memory)
        )
    try:
        result = measure(said.folder, TrainOptions(**said.options), said.steps, said.device)
    except (OutOfMemory, RuntimeError) as error:
        if not isinstance(error, OutOfMemory) and not memory_of(error):
            raise
        result = {"out_of_memory": str(error).splitlines()[0]}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
