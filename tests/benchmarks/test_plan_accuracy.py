"""Planned against counted bytes for small models of each kind and option, written to results/plan.md; run with -m benchmark.

The options are those of tests/planning/test_training.py, which tries each on one kind of base; here each meets each kind.
"""

import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / "planning"), str(TESTS / "workflows")]
RESULTS = Path(__file__).parent / "results" / "plan.md"
ASKED, TRAINING, ENCODERS = 0.1, 0.04, 0.03
"""How far a plan may be from the allocator's bytes: what is asked for, and what trainings and encoders are held to. On CPUs
with bfloat16 arithmetic oneDNN takes 0.1 MB for itself, up to 4 % of these small models."""


def machine() -> str:
    """Processor, versions, commit and date."""
    cpu = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")]
    git = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=TESTS)
    commit, day = git.stdout.strip() or "unknown", datetime.now(UTC).date()
    threads = f"{torch.get_num_threads()} thread" + ("s" if torch.get_num_threads() > 1 else "")
    return f"{names[0] if names else platform.processor()}, {threads}, torch {torch.__version__}, commit {commit}, {day}"


def row(name: str, planned: int, live: int, allocated: int, tolerance: float) -> str:
    off = planned / allocated - 1
    line = f"| {name} | {planned / 1e6:.3f} | {live / 1e6:.3f} | {allocated / 1e6:.3f} | {off:+.1%} |"
    assert abs(off) < min(tolerance, ASKED), line
    return line


@pytest.fixture(scope="module")
def folders(tmp_path_factory, write_base):
    from kinds import KINDS, WIDE

    root = tmp_path_factory.mktemp("bases")
    return {kind: write_base(root / kind, **WIDE, **KINDS[kind]) for kind in KINDS}


def training_rows(folders) -> Iterator[str]:
    from test_training import OPTIONS, config_of, traced, trained

    from fcacli.model.bases import resolve_base

    for kind, folder in folders.items():
        spec = resolve_base(str(folder))
        for name, (_, fields) in OPTIONS.items():
            config = config_of(spec, **fields)
            _, live, allocated = trained(spec, config)
            yield row(f"{kind}: {name}", max(traced(spec, config, 2).values()), live, allocated, TRAINING)


def encoder_rows(folders) -> Iterator[str]:
    from counted import counted
    from test_training import NONE_AT_ONCE, config_of

    from fcacli.config import Keeping
    from fcacli.model.bases import load_base, resolve_base
    from fcacli.planning.encoders import trace_decoding, trace_part
    from fcacli.planning.memory import Planner
    from fcacli.planning.shaped import shaped_base

    for kind, folder in folders.items():
        spec = resolve_base(str(folder))
        clip = config_of(spec).clip
        planner = Planner(shaped_base(spec, "cpu"), clip, "cpu", NONE_AT_ONCE)
        for part in ("text_encoder", "vae"):
            counts = counted(lambda m, s=spec, p=part, c=clip: trace_part(load_base(s), p, c, 3, m))
            yield row(f"{kind}: {part.replace('_', ' ')}, 3 at once", planner.work(part, 3).peak, *counts, ENCODERS)
        for tiling, how in ((False, "decoding"), (True, "decoding in tiles")):
            base = load_base(spec)
            base.keep(Keeping(vae_tiling=tiling))
            counts = counted(lambda m, b=base, c=clip: trace_decoding(b, c, m))
            yield row(f"{kind}: {how}", planner.decoding(tiling).peak, *counts, ENCODERS)


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
    about = machine()
    lines = [
        "# What `fca plan` says, and what is counted",
        "",
        "Planned: on tensors without content. Live storages and allocator: counted in the same training of a real, small,",
        "random base of each kind (like 2B, 5B, 1.5-5B) on the CPU, where what waits in main memory is counted with the rest.",
        "MB at the peak of sampling and a step; batch 4, no checkpointing, adamw8bit, bf16 arithmetic, the base's width unless",
        "said. Swapped blocks have no row: what they leave on a device is computed, and on the CPU they save nothing.",
        "All that saves memory: nf4 base, bf16 weights, checkpointing, a quarter of the width, four times one clip a step;",
        "optimizer, gradients and block inputs in main memory.",
        "",
        f"{about}.",
        "Made by `pytest -n 0 -m benchmark tests/benchmarks/test_plan_accuracy.py`, which fails above "
        f"{TRAINING:.0%} in training, {ENCODERS:.0%} in encoding and decoding.",
        "",
        *head,
        *training_rows(folders),
        *encoder_rows(folders),
        "",
        "Plans of the real bases, no weights and no GPU; some were compared with a GPU since (gpu-*.md), none of these lines:",
        "",
        *times(),
    ]
    RESULTS.write_text("\n".join(lines) + "\n")
    print("\n" + "\n".join(lines))
