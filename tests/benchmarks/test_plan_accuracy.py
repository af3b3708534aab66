"""Planned against counted bytes for small models of each kind and option, written to results/plan.md; run with -m benchmark."""

import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / "planning"), str(TESTS / "workflows")]
RESULTS = Path(__file__).parent / "results" / "plan.md"


def machine() -> str:
    """Processor, versions, commit and date."""
    cpu = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")]
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=TESTS)
    commit, day = git.stdout.strip() or "unknown", datetime.now(UTC).date()
    threads = f"{torch.get_num_threads()} thread" + ("s" if torch.get_num_threads() > 1 else "")
    return f"{names[0] if names else platform.processor()}, {threads}, torch {torch.__version__}, commit {commit}, {day}"


def row(name: str, planned: int, live: int, allocated: int) -> str:
    return f"| {name} | {planned / 1e6:.3f} | {live / 1e6:.3f} | {allocated / 1e6:.3f} | {planned / allocated - 1:+.1%} |"


@pytest.fixture(scope="module")
def folders(tmp_path_factory, write_base):
    kinds = {
        "absolute": {},
        "rotary": {"use_rotary_positional_embeddings": True},
        "temporal_patch": {"use_rotary_positional_embeddings": True, "patch_size_t": 2, "patch_bias": False},
    }
    root = tmp_path_factory.mktemp("bases")
    return {kind: write_base(root / kind, num_attention_heads=4, attention_head_dim=32, **kinds[kind]) for kind in kinds}


OPTIONS = {
    "FCA": {},
    "FCA, fp32": {"precision": "fp32"},
    "FCA, checkpointing": {"checkpointing": True},
    "FCA, checkpointing, fp32": {"checkpointing": True, "precision": "fp32"},
    "FCA, half the width": {"adapter_width": 64},
    "FCA, adamw": {"optimizer": "adamw"},
    "FCA, batch 1": {"batch_size": 1},
    "FCA, accumulating 3": {"accumulate": 3},
    "FCA, one text module": {"adapter_fields": {"text_modules": "shared"}},
    "FCA, modulation of the block": {"adapter_fields": {"modulation": "block"}},
    "LoRA": {"adapter": "lora", "adapter_width": None},
    "LoRA, checkpointing, adamw": {"adapter": "lora", "adapter_width": None, "checkpointing": True, "optimizer": "adamw"},
    "FCA in context": {"adapter": "fca-in-context"},
}


def training_rows(folders) -> list[str]:
    from counted import counted
    from test_training import config_of, traced

    from fcacli.model.bases import load_base, resolve_base
    from fcacli.planning.training import trace_training
    from fcacli.training.optim import make_optimizer

    rows = []
    for kind, folder in folders.items():
        spec = resolve_base(str(folder))
        for name, fields in OPTIONS.items():
            config = config_of(spec, **fields)
            planned = max(traced(spec, config, 2).values())
            live, allocated = counted(lambda m, c=config, s=spec: trace_training(load_base(s), c, m, "cpu", make_optimizer))
            rows.append(row(f"{kind}: {name}", planned, live, allocated))
            assert planned == pytest.approx(allocated, rel=0.1), rows[-1]
    return rows


def encoder_rows(folders) -> list[str]:
    from counted import counted
    from test_training import NONE_AT_ONCE, config_of

    from fcacli.model.bases import load_base, resolve_base
    from fcacli.planning.encoders import trace_decoding, trace_part
    from fcacli.planning.memory import Planner
    from fcacli.planning.shaped import shaped_base

    rows = []
    for kind, folder in folders.items():
        spec = resolve_base(str(folder))
        clip = config_of(spec).clip
        planner = Planner(shaped_base(spec, "cpu"), clip, "cpu", NONE_AT_ONCE)
        for part in ("text_encoder", "vae"):
            planned = planner.work(part, 3).peak
            counts = counted(lambda m, s=spec, p=part, c=clip: trace_part(load_base(s), p, c, 3, m))
            rows.append(row(f"{kind}: {part.replace('_', ' ')}, 3 at once", planned, *counts))
            assert planned == pytest.approx(counts[1], rel=0.1), rows[-1]
        planned = planner.decoding(False).peak
        counts = counted(lambda m, s=spec, c=clip: trace_decoding(load_base(s), c, m))
        rows.append(row(f"{kind}: decoding", planned, *counts))
        assert planned == pytest.approx(counts[1], rel=0.1), rows[-1]
    return rows


def times() -> list[str]:
    """Of tracing the real bases, in this process: the libraries are loaded, the caches of torch are not."""
    from fcacli.model.bases import resolve_base
    from fcacli.planning.memory import Planner
    from fcacli.planning.shaped import shaped_base
    from fcacli.workflows.train_options import TrainOptions, resolve

    rows = []
    for name in ("cogvideox-2b", "cogvideox-5b"):
        spec = resolve_base(name)
        config = resolve(TrainOptions(frames=49, width=720, height=480, accumulate=1), spec, "", "none", True)
        planner = Planner(shaped_base(spec, "cuda"), config.clip, "cuda", {"captions": 16, "videos": 4, "images": 16})
        start, wall = time.process_time(), time.monotonic()
        memory = planner.memory(config)
        taken = f"{time.process_time() - start:.1f} s of processor time, {time.monotonic() - wall:.1f} s"
        rows.append(f"- {spec.name}, 49x720x480, all phases: {taken}; needs {memory.needed / 1e9:.1f} GB ({memory.peak.name})")
    return rows


@pytest.mark.benchmark
def test_planned_against_counted_bytes(folders):
    head = ["| what | planned | live storages | allocator | plan against allocator |", "|---|---|---|---|---|"]
    lines = [
        "# What `fca plan` says, and what is counted",
        "",
        f"MB at the peak of a training (sampling, then a step), batch 4 unless said. {machine()}.",
        "Made by `pytest -m benchmark tests/benchmarks/test_plan_accuracy.py`.",
        "",
        *head,
        *training_rows(folders),
        *encoder_rows(folders),
        "",
        "Plans of the real bases, no weights and no GPU; nothing here has been compared with a GPU:",
        "",
        *times(),
    ]
    RESULTS.write_text("\n".join(lines) + "\n")
    print("\n" + "\n".join(lines))
