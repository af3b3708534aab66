"""What other projects have published of their memory beside what `fca plan` says of the same settings, as near as it goes.

Written to results/peers.md; run with -n 0 -m benchmark. Theirs was measured by them on their GPUs, ours is predicted on a CPU.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
RESULTS = Path(__file__).parent / "results" / "peers.md"
GB = 10**9


@dataclass(frozen=True)
class Peer:
    """A published figure."""

    name: str
    base: str
    rank: int
    size: tuple[int, int, int]
    """Frames, width, height."""
    step: float
    """GB of a training."""
    validating: float | None = None
    """GB with validation, where that is a figure of its own."""
    fp8: bool = False


LARGE = (49, 720, 480)
PEERS = (
    Peer("cogvideox-factory", "cogvideox-2b", 64, LARGE, 13.0, 21.6),
    Peer("cogvideox-factory", "cogvideox-5b", 64, LARGE, 20.8, 30.3),
    Peer("CogVideo finetune", "cogvideox-2b", 128, LARGE, 16),
    Peer("CogVideo finetune", "cogvideox-5b", 128, LARGE, 24),
    Peer("finetrainers", "cogvideox-5b", 128, (49, 768, 512), 18, fp8=True),
)
FRUGAL = {"weights": "bf16", "offload_optimizer": True, "optimizer": "adamw8bit"}
OURS = {
    "LoRA, adamw": {"adapter": "lora", "optimizer": "adamw"},
    "FCA, adamw": {"optimizer": "adamw"},
    "FCA, adamw8bit (default)": {},
    "FCA, adamw8bit, bf16 weights, optimizer in main memory": FRUGAL,
}

HEAD = [
    "# Published memory of other projects, and what `fca plan` says of the same settings",
    "",
    "GB (10^9 bytes) of GPU memory. **Theirs are figures that they published and measured; ours are predicted on a CPU by",
    "`fca plan` and have not been compared with a GPU.** A row says what to expect, not who is better.",
    "",
    "Ours: one clip a step, checkpointing, everything encoded beforehand, bf16 arithmetic, decoding in tiles; FCA at its",
    "default width (2B 1920, 5B 1536). Step: peak of tensors in a training step. With validation: the worst of step,",
    "sampling, decoding and saving. Card: that, 5 % for fragmentation and 0.6 GB for CUDA's context, both assumed.",
    "",
    "What differs: our LoRA has the given frames as more token frames in front; theirs is text-to-video. Their validation may",
    "hold the text encoder and does not move the optimizer away. Whether their figures hold the CUDA context is not said. Of",
    "CogVideo finetune size, optimizer and phase are not said: 49x480x720 is taken. Rank 64 or 128 as theirs, AdamW in fp32",
    "where not said otherwise.",
    "",
]
COLUMNS = ["", "| setting | what | step | with validation | card |", "|---|---|---|---|---|"]


def rows_of(peer: Peer) -> Iterator[tuple[str, float]]:
    """Lines of the table, theirs first, each with the GB of its step."""
    from fcacli.model.bases import resolve_base
    from fcacli.planning.choice import card_for
    from fcacli.planning.memory import Planner
    from fcacli.planning.shaped import shaped_base
    from fcacli.workflows.train_options import TrainOptions, resolve

    spec, (frames, width, height) = resolve_base(peer.base), peer.size
    base = shaped_base(spec, "cuda")
    more = {"base_weights": "fp8"} if peer.fp8 else {}
    setting = f"{peer.base}, {frames}x{height}x{width}{', fp8 base' * peer.fp8}"
    validating = "-" if peer.validating is None else f"{peer.validating:.1f}"
    yield f"| {setting} | **{peer.name}**, LoRA rank {peer.rank}, measured | {peer.step:.1f} | {validating} | - |", peer.step
    for name, fields in OURS.items():
        rank = {"lora_rank": peer.rank} if "adapter" in fields else {}
        options = TrainOptions(frames=frames, width=width, height=height, batch_size=1, accumulate=1, **fields, **rank, **more)
        config = resolve(options, spec, "", "", True)
        memory = Planner(base, config.clip, "cuda", {}).memory(config)
        step = next(phase.device_least for phase in memory.phases if phase.name == "training step") / GB
        yield (
            f"| {setting} | ours, {name}{f', rank {peer.rank}' if rank else ''}, predicted | {step:.1f} "
            f"| {memory.needed / GB:.1f} ({memory.peak.name}) | {card_for(memory.needed) / GB:.1f} |",
            step,
        )


@pytest.mark.benchmark
def test_plans_beside_published_figures():
    from test_plan_accuracy import machine

    lines, about = [], machine()
    for peer in PEERS:
        rows = list(rows_of(peer))
        lines += [line for line, _ in rows]
        print("\n".join(line for line, _ in rows), flush=True)
        lora, frugal = rows[1][1], rows[-1][1]
        assert 0.6 < lora / peer.step < 1.1, "the plan of a LoRA is not far from another's measurement of one"
        assert frugal < peer.step, "FCA that saves memory needs no more than a LoRA that does not"
    made = "Made by `pytest -n 0 -m benchmark tests/benchmarks/test_plan_peers.py`."
    RESULTS.write_text("\n".join([*HEAD, f"{about}.", made, *COLUMNS, *lines]) + "\n")
