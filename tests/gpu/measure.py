"""One case in a process of its own: peak device memory and time of every phase, all of fca's own code on random pixels.

    python tests/gpu/measure.py FOLDER memory 3 [--plan]          # the fourth of cases.py's memory_cases; bases lie in FOLDER

encode: text encoder, VAE, image encoder. train: steps of two clips and their checkpoint, then a validation's sampling and
decoding. predict: the phases of `fca predict`, with a fresh adapter that has been saved. time: steps of one clip, then a
denoising step with the adapter and without, and the base's own forward and backward pass, its floor. The allocator is limited
to what a card has. `--plan` measures nothing: what `fca plan` says of the same.
"""

import argparse
import gc
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
from cases import CASES, Case
from tables import OF_ENCODING, OF_PLAN
from torch.utils.data import Dataset
from turns import Turns

from fcacli.config import SampleConfig, TrainConfig
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
from fcacli.workflows.encode.batches import batches_of
from fcacli.workflows.plan import plan
from fcacli.workflows.plan_prediction import plan_prediction
from fcacli.workflows.train_options import TrainOptions, resolve
from fcacli.workflows.trained import Trained
from fcacli.workspace import Workspace

TEXT = "pushing cup left"
DENOISING = 3
"""Denoising steps: each takes the same memory and time."""
WARM = 1
"""Steps of a timed training that choose kernels and compile, beside others on the card; the next one waits for its turn."""
SCRATCH = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
"""Where checkpoints go, which are gigabytes."""


class Peaks:
    """Peak bytes and seconds by phase."""

    def __init__(self, device: torch.device) -> None:
        self.cuda = device.type == "cuda"
        self.phases: dict[str, dict[str, float]] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
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
                    "requested_gib": _gib(torch.cuda.memory_stats()["requested_bytes.all.peak"]),
                }
            self.phases[name] = row
            print(name, row, flush=True)


class Measuring:
    """A case, its base, and what was found so far."""

    def __init__(self, folder: Path, case: Case, device: str, turns: Turns):
        self.folder, self.case, self.turns = folder, case, turns
        self.spec = resolve_base(str(folder / case.base))
        self.config: TrainConfig = resolve(case.all_options, self.spec, "random", "random", bf16=True)
        self.clip = self.config.clip
        self.base = load_base(self.spec, device)
        self.base.keep(self.config.keeping)
        self.base._fingerprint = "random"  # to read all its files is no part of what is measured
        self.device = self.base.device
        self.peaks = Peaks(self.device)
        shape = (self.clip.frames, self.clip.height, self.clip.width, 3)
        self.pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)

    def found(self) -> dict[str, Any]:
        """Of the case's kind; where memory ran out, what the phases before took."""
        work: dict[str, Callable[[], dict[str, Any]]] = {
            "encode": self.encode,
            "train": self.train,
            "predict": self.predict,
            "time": self.time,
        }
        try:
            self.limit(self.case.cap if self.case.kind != "predict" else None)
            more = work[self.case.kind]()
        except (OutOfMemory, RuntimeError) as error:
            if not isinstance(error, OutOfMemory) and not memory_of(error):
                raise
            more = {"out_of_memory": str(error).splitlines()[0]}
        finally:
            self.turns.leave()
        return {"phases": self.peaks.phases, "context_gib": self.context(), **more}

    def encode(self) -> dict[str, Any]:
        base, init = self.base, self.clip.init_frames
        sizes = batches_of("cuda", self.clip) if self.case.card is None else dict.fromkeys(OF_ENCODING, 1)
        videos = np.stack([self.pixels] * sizes["videos"])
        with self.peaks.phase("captions"):
            base.encode_text([TEXT] * sizes["captions"])
        base.unload("text_encoder")
        assert base.vae is not None  # loads it
        with self.turns.taken(), self.peaks.phase("videos"):
            base.encode_video(videos)
            base.encode_init(videos[:, :init])
        base.unload("vae")
        with self.peaks.phase("images"):
            base.encode_image(np.concatenate([self.pixels[:init]] * sizes["images"]))
        return {}

    def train(self) -> dict[str, Any]:
        given, latents, adapter = self.drawn()
        saw = self.fitted(given, latents, adapter)
        self.turns.take(alone=False)
        with self.peaks.phase("validation"):
            sampling = SampleConfig(steps=1, guidance=6.0)
            made = sample(self.base, adapter, given, given, self.base.latent_shape(self.clip), sampling)
        if self.case.decodes:
            with self.peaks.phase("decode"):
                decode(self.base, made, self.clip, self.pixels[: self.clip.init_frames])
        return saw

    def time(self) -> dict[str, Any]:
        given, latents, adapter = self.drawn()
        saw = self.fitted(given, latents, adapter)
        return saw | {"seconds": self.seconds(given, latents, adapter)}

    def predict(self) -> dict[str, Any]:
        """As workflows/predict.py does it."""
        frames, shape = self.pixels[: self.clip.init_frames], self.base.latent_shape(self.clip)
        with tempfile.TemporaryDirectory(dir=self.folder) as kept:
            adapter = attach(self.base, self.config.adapter, self.clip)
            save_adapter(adapter, Path(kept), self.spec.name, self.base.fingerprint, self.clip)
            del adapter
            self.base.unload("transformer")
            self.limit(self.case.cap)
            with self.peaks.phase("encode"):
                given = encode_given_once(self.base, frames, TEXT)
            with self.peaks.phase("loading"):
                trained = Trained(Path(kept), Path(kept), 0, self.config, self.base)
                loaded = trained.load(self.case.offload)
            for name, steps in (("conditions", 1), ("denoising", DENOISING)):
                self.turns.take(alone=name == "denoising")
                with self.peaks.phase(name):
                    latents = sample(self.base, loaded, *given, shape, SampleConfig(steps=steps, guidance=6.0)).cpu()
            self.turns.take(alone=False)
            del loaded
            self.base.unload("transformer")
            with self.peaks.phase("decode"):
                decode(self.base, latents, self.clip, frames)
        phases = self.peaks.phases
        step = (phases["denoising"]["seconds"] - phases["conditions"]["seconds"]) / (DENOISING - 1)
        return {"seconds_per_step": round(step, 4)}

    def drawn(self) -> tuple[Given, torch.Tensor, Any]:
        """Random conditions and latents in the shapes of encoded ones, and a fresh adapter."""
        given = given_of(self.base, self.config, 1)
        for part in (given.init_latents, given.text, given.image):
            part.normal_()
        latents = torch.randn(self.base.latent_shape(self.clip)).to(self.base.dtype)
        return given, latents, attach(self.base, self.config.adapter, self.clip)

    def fitted(self, given: Given, latents: torch.Tensor, adapter: Any) -> dict[str, Any]:
        """The training itself, by `fit`, with the checkpoint at its end. For its memory: of as many steps as there may be
        something new in, the last clip and the optimizer's step are timed. For its speed: some steps."""
        timed, config = self.case.kind == "time", self.config
        steps = (3 if config.clip.frames > 16 else 5) if timed else 1 if config.offload_optimizer else 2
        config = replace(config, steps=steps, warmup=0, validate_every=0)
        encoded = {
            "latents": latents,
            "init_latents": given.init_latents[0],
            "image": given.image[0],
            "text": given.text[0],
            "text_mask": given.text_mask[0],
        }
        stamps: list[float] = []

        def stamp() -> None:
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            stamps.append(time.monotonic())

        def unpacked(batch: Any) -> Any:
            if not timed:
                stamp()
            return {key: value.to(self.device) if torch.is_tensor(value) else value for key, value in batch.items()}

        subject = Subject(
            base=self.base,
            adapter=adapter,
            write_adapter=lambda to: save_adapter(adapter, to, config.base, config.base_fingerprint, config.clip),
            train=OneClip(encoded, config.accumulate),
            held_out=None,
            null=(given.text[0], given.text_mask[0]),
            unpack=unpacked,
        )

        def take_turns(event: Event) -> None:
            if not isinstance(event, Progress) or event.phase != "train":
                return
            if event.done == config.steps:
                stamp()
                self.turns.leave()
            elif event.done == (WARM if timed else 0):
                self.turns.take(alone=True)

        if timed:
            self.turns.take(alone=False)
        with tempfile.TemporaryDirectory(dir=SCRATCH) as run:
            with self.peaks.phase("training and saving"):
                fit(subject, config, Path(run), Session(workers=0, checkpoint_seconds=1e9), take_turns)
            rows = [json.loads(line) for line in (Path(run) / "speed.jsonl").read_text().splitlines()]
            logged = [json.loads(line) for line in (Path(run) / "log.jsonl").read_text().splitlines()]
        steps_alone = [row["seconds"] for row in rows[WARM + 1 :]]
        return {
            "seconds_per_clip": round(statistics.median(steps_alone) if timed else stamps[-1] - stamps[-2], 4),
            "losses": [line["loss"] for line in logged if "loss" in line],
            "parameters": adapter.parameter_count,
        }

    def seconds(self, given: Given, latents: torch.Tensor, adapter: Any) -> dict[str, float]:
        """Of a denoising step, both halves of guidance, with the adapter and without; of the base's own forward and backward
        pass through its activations alone."""
        base, device = self.base, self.device
        x, halves, text = latents[None].to(device), given.cat(given).to(device), given.text.to(device)
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
        with self.turns.taken():
            for call in calls.values():
                call()
        with self.turns.taken(alone=True):
            return {name: _median(call, device) for name, call in calls.items()}

    def limit(self, gib: float | None) -> None:
        """What the allocator may take of a CUDA device; None for all there is."""
        if self.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
            whole = torch.cuda.get_device_properties(0).total_memory
            torch.cuda.set_per_process_memory_fraction(min(1.0, gib * 2**30 / whole) if gib else 1.0)

    def context(self) -> float | None:
        """GiB of the card that this process has beside its allocator's; None where the driver does not say."""
        if self.device.type != "cuda":
            return None
        words = ["nvidia-smi", "--query-compute-apps=pid,used_gpu_memory", "--format=csv,noheader,nounits"]
        try:
            said = subprocess.run(words, capture_output=True, text=True, timeout=20).stdout
            used = dict(line.split(", ") for line in said.splitlines())[str(os.getpid())]
            return round(int(used) / 2**10 - torch.cuda.memory_reserved() / 2**30, 3)
        except (OSError, ValueError, KeyError, subprocess.SubprocessError):
            return None


class OneClip(Dataset[Sample]):
    """The same encoded clip, again and again."""

    def __init__(self, encoded: dict[str, Any], count: int) -> None:
        self.encoded, self.count = encoded, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        return {"id": str(index), **self.encoded}


def planned(folder: Path, case: Case) -> dict[str, Any]:
    """GiB of each phase on a CUDA device, by the names of the measured ones, and of the card that they need."""
    workspace = Workspace(folder)
    options: TrainOptions = replace(case.all_options, base=str(folder / case.base))
    names: dict[str, int] = {}
    if case.kind == "predict":
        plans = plan_prediction(workspace, options, gpus=1).memory
        memory = plans.get(case.offload, plans["none"])  # on the CPU there is no other
        sizes = {phase.name: phase.device_least or phase.host_least for phase in memory.phases}
        denoising = max(sizes["conditions"], sizes["denoising"])
        names["encode"] = max(sizes[name] for name in sizes if name == "captions" or name.startswith("given frames"))
        names |= {"loading": sizes["loading"], "conditions": denoising, "denoising": denoising, "decode": sizes["decoding"]}
    else:
        memory = plan(workspace, options, gpus=1).memory
        phases = {phase.name: phase.device if case.card is None else phase.device_least for phase in memory.phases}
        if case.kind == "encode":
            names = {what: phases[f"encoding {what}"] for what in OF_ENCODING}
        else:
            names = {ours: max(phases[name] for name in theirs) for ours, theirs in OF_PLAN.items()}
    return {name: _gib(size) for name, size in names.items()} | {"card": _gib(card_for(memory.needed))}


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


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("part", choices=list(CASES))
    parser.add_argument("number", type=int)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--plan", action="store_true")
    said = parser.parse_args()
    case = list(CASES[said.part]())[said.number]
    print(
        json.dumps(planned(said.folder, case) if said.plan else Measuring(said.folder, case, said.device, Turns(None)).found())
    )
