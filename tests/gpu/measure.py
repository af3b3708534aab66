"""One configuration of `fca train` in a process of its own: peak device memory and time of every phase, as JSON.

    python tests/gpu/measure.py BASE_FOLDER '{"frames": 16, "width": 256, ...}' [--cap GiB] [--timed] [--plan]
    python tests/gpu/measure.py BASE_FOLDER '{...}' --predict none|model|sequential [--cap GiB] [--plan]

The JSON is of TrainOptions. Phases: encode (text encoder, VAE, image encoder), the training steps with their checkpoint,
validation (sampling and decoding), all of fca's own code on random pixels. `--cap` limits the allocator to so much, as a
smaller card would; what does not fit in encoding is said, and encoded without the limit. `--timed`: in place of encoding and
validation, seconds of a denoising step with the adapter and without, and of the base's own forward and backward pass, its
floor. `--predict`: the phases of `fca predict --offload ...`, with a fresh adapter that has been saved. `--plan` measures
nothing: what `fca plan` says of the same. `--turns FOLDER`: other processes that name it use the same card, and what is timed
has it alone.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from turns import Turns

from fcacli.config import Offload, SampleConfig, TrainConfig
from fcacli.data.dataset import Sample
from fcacli.errors import OutOfMemory, memory_of
from fcacli.events import Event, Progress
from fcacli.model.attach import attach, save_adapter, set_aside
from fcacli.model.bases import load_base, resolve_base
from fcacli.model.conditioning import Given
from fcacli.planning.choice import card_for
from fcacli.planning.training import given_of
from fcacli.prediction.sampler import decode, encode_given_once, sample
from fcacli.training.kernels import repeatable
from fcacli.training.loop import Session, Subject, fit
from fcacli.workflows.plan import plan
from fcacli.workflows.plan_prediction import plan_prediction
from fcacli.workflows.train_options import TrainOptions, resolve
from fcacli.workflows.trained import Trained
from fcacli.workspace import Workspace

TEXT = "pushing cup left"
DENOISING = 3
"""Denoising steps: each takes the same memory and time."""
WARM = 1
"""Training steps that choose kernels and compile, beside others on the card."""


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
            if self.cuda:
                torch.cuda.synchronize()
            row = {"seconds": round(time.monotonic() - started, 3)}
            if self.cuda:
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


def measure(
    folder: Path, options: TrainOptions, steps: int, device: str, cap: float | None, timed: bool, turns: Turns
) -> dict[str, Any]:
    """All phases of one configuration."""
    spec = resolve_base(str(folder))
    config = replace(resolve(options, spec, "random", "random", bf16=True), steps=steps, warmup=0, validate_every=0)
    base, peaks = load_base(spec, device), Peaks(device)
    clip = config.clip
    pixels = np.random.default_rng(0).integers(0, 256, (clip.frames, clip.height, clip.width, 3), dtype=np.uint8)
    base.keep(config.keeping)
    limit_memory(device, cap)
    with turns.taken():
        given, null, latents = _drawn(base, config) if timed else _encoded(base, pixels, clip.init_frames, peaks, cap)
        adapter = attach(base, config.adapter, clip)
    encoded = {
        "latents": latents.cpu(),
        "init_latents": given.init_latents[0].cpu(),
        "image": given.image[0].cpu(),
        "text": given.text[0].cpu(),
        "text_mask": given.text_mask[0].cpu(),
    }
    with tempfile.TemporaryDirectory() as run:
        saw = _train(base, adapter, encoded, (null.text[0].cpu(), null.text_mask[0].cpu()), config, Path(run), peaks, turns)
    saw |= {"parameters": adapter.parameter_count, "phases": peaks.phases, "context_gib": _context(device)}
    if timed:
        limit_memory(device, None)
        return saw | {"seconds": _seconds(base, adapter, given, null, latents, turns)}
    with turns.taken():
        of_the_gate = [parameter.detach().clone() for _, parameter in adapter.trainable()]  # loads the checkpoint beside it
        with peaks.phase("validation"):
            sampling = SampleConfig(steps=1, guidance=6.0)
            drawn = sample(base, adapter, given, null, base.latent_shape(clip), sampling)
        del of_the_gate
        with peaks.phase("decode"):
            decode(base, drawn, clip, pixels[: clip.init_frames])
    return saw


def _context(device: str) -> float | None:
    """GiB of the card that this process has beside its allocator's; None where the driver does not say."""
    if not device.startswith("cuda"):
        return None
    words = ["nvidia-smi", "--query-compute-apps=pid,used_gpu_memory", "--format=csv,noheader,nounits"]
    try:
        said = subprocess.run(words, capture_output=True, text=True, timeout=20).stdout
        used = dict(line.split(", ") for line in said.splitlines())[str(os.getpid())]
        return round(int(used) / 2**10 - torch.cuda.memory_reserved() / 2**30, 3)
    except (OSError, ValueError, KeyError, subprocess.SubprocessError):
        return None


def planned(folder: Path, options: TrainOptions) -> dict[str, Any]:
    """GiB of each phase on a CUDA device, by the names of PHASES_OF_PLAN, and of the card that they need."""
    memory = plan(Workspace(folder), replace(options, base=str(folder)), gpus=1).memory
    sizes = {phase.name: phase.device_least for phase in memory.phases}
    names = {ours: max(size for name, size in sizes.items() if name.startswith(theirs)) for ours, theirs in PHASES_OF_PLAN}
    return {"planned": {name: _gib(size) for name, size in names.items()} | {"card": _gib(card_for(memory.needed))}}


PHASES_OF_PLAN = [
    ("encode", "encoding"),
    ("training and saving", "training step"),
    ("validation", "validation: sampling"),
    ("decode", "validation: decoding"),
]
"""A phase here, and what its name begins with in a plan."""


def predict(
    folder: Path, options: TrainOptions, offload: Offload, device: str, cap: float | None, turns: Turns
) -> dict[str, Any]:
    """All phases of a prediction, as workflows/predict.py does them."""
    spec = resolve_base(str(folder))
    config = resolve(options, spec, "random", "random", bf16=True)
    clip = config.clip
    frames = np.random.default_rng(0).integers(0, 256, (clip.init_frames, clip.height, clip.width, 3), dtype=np.uint8)
    peaks = Peaks(device)
    with tempfile.TemporaryDirectory(dir=folder.parent) as kept:
        turns.take(alone=False)
        _save_fresh(load_base(spec, device), config, Path(kept))
        trained = Trained(Path(kept), Path(kept), 0, config, base := load_base(spec, device))
        base.keep(config.keeping)
        limit_memory(device, cap)
        with peaks.phase("encode"):
            given = encode_given_once(base, frames, TEXT)
        with peaks.phase("loading"):
            adapter = trained.load(offload)
        shape = base.latent_shape(clip)
        for name, steps in (("conditions", 1), ("denoising", DENOISING)):
            turns.take(alone=name == "denoising")
            with peaks.phase(name):
                latents = sample(base, adapter, *given, shape, SampleConfig(steps=steps, guidance=6.0)).cpu()
        turns.take(alone=False)
        del adapter
        base.unload("transformer")
        with peaks.phase("decode"):
            decode(base, latents, clip, frames)
    turns.leave()
    step = (peaks.phases["denoising"]["seconds"] - peaks.phases["conditions"]["seconds"]) / (DENOISING - 1)
    return {"phases": peaks.phases, "seconds_per_step": round(step, 4), "context_gib": _context(device)}


def _save_fresh(base: Any, config: TrainConfig, folder: Path) -> None:
    """An adapter as a training would begin with it."""
    adapter = attach(base, config.adapter, config.clip)
    save_adapter(adapter, folder, base.spec.name, base.fingerprint, config.clip)
    del adapter
    base.unload("transformer")


def planned_prediction(folder: Path, options: TrainOptions, offload: Offload) -> dict[str, Any]:
    """The same of `fca plan --predict`."""
    plan = plan_prediction(Workspace(folder), replace(options, base=str(folder)), gpus=1)
    memory = plan.memory.get(offload, plan.memory["none"])  # on the CPU there is no other
    sizes = {phase.name: phase.device_least or phase.host_least for phase in memory.phases}
    encode = max(sizes[name] for name in sizes if name == "captions" or name.startswith("given frames"))
    denoising = max(sizes["conditions"], sizes["denoising"])
    names = {"encode": encode, "loading": sizes["loading"], "conditions": denoising, "denoising": denoising}
    names |= {"decode": sizes["decoding"], "card": card_for(memory.needed)}
    return {"planned": {name: _gib(size) for name, size in names.items()}}


def limit_memory(device: str, gib: float | None) -> None:
    """Of this process, on a CUDA device; None for all there is."""
    if device.startswith("cuda"):
        whole = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, gib * 2**30 / whole) if gib else 1.0)


def _encoded(base: Any, pixels: np.ndarray, init: int, peaks: Peaks, cap: float | None) -> tuple[Any, Any, Any]:
    """Conditions, those of the empty caption, and latents of the clip: one encoder after the other, as `fca train` does it."""

    def encoded() -> tuple[Any, Any, Any]:
        try:
            with peaks.phase("encode"):
                texts = [base.encode_text([text]) for text in (TEXT, "")]
                base.unload("text_encoder")
                init_latents, latents = base.encode_init(pixels[:init])[None], base.encode_video(pixels)
                base.unload("vae")
                image = base.encode_image(pixels[:init])[None]
                given, null = (Given(init_latents=init_latents, text=text, text_mask=mask, image=image) for text, mask in texts)
                return given, null, latents
        finally:
            base.unload("text_encoder", "image_encoder", "vae")

    try:
        return encoded()
    except (OutOfMemory, RuntimeError) as error:
        if cap is None or not (isinstance(error, OutOfMemory) or memory_of(error)):
            raise
        said = str(error).splitlines()[0]
    limit_memory(base.device.type, None)
    found = encoded()
    peaks.phases["encode"] |= {"out_of_memory": said}
    limit_memory(base.device.type, cap)
    return found


def _drawn(base: Any, config: TrainConfig) -> tuple[Given, Given, torch.Tensor]:
    """Random conditions, the same for the empty caption, and latents of a clip, in the shapes of encoded ones."""
    given = given_of(base, config, 1)
    for part in (given.init_latents, given.text, given.image):
        part.normal_()
    return given, given, torch.randn(base.latent_shape(config.clip)).to(base.dtype)


def _train(
    base: Any,
    adapter: Any,
    encoded: dict[str, Any],
    null: tuple[Any, Any],
    config: TrainConfig,
    run: Path,
    peaks: Peaks,
    turns: Turns,
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

    def take_turns(event: Event) -> None:
        if isinstance(event, Progress) and event.phase == "train" and event.done in (WARM, config.steps):
            turns.take(alone=event.done == WARM)

    with turns.taken(), peaks.phase("training and saving"):
        fit(subject, config, run, Session(workers=0, checkpoint_seconds=1e9), take_turns)
    rows = [json.loads(line) for line in (run / "speed.jsonl").read_text().splitlines()]
    losses = [json.loads(line)["loss"] for line in (run / "log.jsonl").read_text().splitlines() if "loss" in line]
    seconds = [row["seconds"] for row in rows[WARM + 1 :]]  # the one after the warm ones has waited for its turn
    return {"seconds_per_clip": round(statistics.median(seconds) / config.accumulate, 4), "losses": losses}


def _seconds(base: Any, adapter: Any, given: Given, null: Given, latents: Any, turns: Turns) -> dict[str, float]:
    """Of a denoising step, both halves of guidance, with the adapter and without; of the base's own forward and backward pass
    through its activations alone."""
    x, device = latents[None].to(base.dtype).to(base.device), base.device
    halves, text = null.cat(given).to(device), null.text.to(device)
    two, t = x.repeat(2, 1, 1, 1, 1), torch.tensor([500, 500], device=device)
    with torch.no_grad():
        conditioning = adapter.condition(base, halves)

    def adapted() -> None:
        with torch.no_grad():
            adapter.denoise(base, two, t, halves.text, conditioning)

    def alone() -> None:
        with torch.no_grad(), set_aside(base.transformer):
            base.denoise(two, t, halves.text)

    def floor() -> None:
        with set_aside(base.transformer), repeatable() if device.type == "cuda" else nullcontext():
            base.denoise(x.requires_grad_(), t[:1], text).float().square().mean().backward()

    calls = {"adapted": adapted, "alone": alone, "floor": floor}
    with turns.taken():
        for call in calls.values():
            call()
    with turns.taken(alone=True):
        return {name: _median(call, device) for name, call in calls.items()}


def _median(call: Callable[[], Any], device: torch.device) -> float:
    seconds = []
    for _ in range(DENOISING):
        started = time.monotonic()
        call()
        if device.type == "cuda":
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
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--timed", action="store_true")
    parser.add_argument("--turns", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--predict", choices=["none", "model", "sequential"])
    parser.add_argument("--plan", action="store_true")
    said = parser.parse_args()
    options, turns = TrainOptions(**said.options), Turns(said.turns)
    try:
        if said.predict and said.plan:
            result = planned_prediction(said.folder, options, said.predict)
        elif said.predict:
            result = predict(said.folder, options, said.predict, said.device, said.cap, turns)
        elif said.plan:
            result = planned(said.folder, options)
        else:
            result = measure(said.folder, options, said.steps, said.device, said.cap, said.timed, turns)
    except (OutOfMemory, RuntimeError) as error:
        if not isinstance(error, OutOfMemory) and not memory_of(error):
            raise
        result = {"out_of_memory": str(error).splitlines()[0]}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
