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
class Setting:
    """What is trained, and who has published what of it with LoRA."""

    base: str
    size: tuple[int, int, int]
    """Frames, width, height."""
    published: tuple[tuple[str, int, float, float | None], ...]
    """Project, rank, GB of a training, GB with validation where that is a figure of its own."""
    fp8: bool = False

    def __str__(self) -> str:
        frames, width, height = self.size
        return f"{self.base}, {frames}x{height}x{width}{', fp8 base' * self.fp8}"


LARGE = (49, 720, 480)
SETTINGS = (
    Setting("cogvideox-2b", LARGE, (("cogvideox-factory", 64, 13.0, 21.6), ("CogVideo finetune", 128, 16, None))),
    Setting("cogvideox-5b", LARGE, (("cogvideox-factory", 64, 20.8, 30.3), ("CogVideo finetune", 128, 24, None))),
    Setting("cogvideox-5b", (49, 768, 512), (("finetrainers", 128, 18, None),), fp8=True),
)
FRUGAL = {"weights": "bf16", "offload_optimizer": True, "optimizer": "adamw8bit"}
OURS = {
    "FCA, adamw": {"optimizer": "adamw"},
    "FCA, adamw8bit (default)": {},
    "FCA, adamw8bit, bf16 weights, optimizer in main memory": FRUGAL,
}

HEAD = [
    "# Published memory of other projects, and what `fca plan` says of the same settings",
    "",
    "GB (10^9 bytes) of GPU memory. **Theirs are figures that they published and measured; ours are predicted on a CPU by",
    "`fca plan`.** Other settings were compared with a GPU (gpu-*.md), none of these. A row says what to",
    "expect, not who is better.",
    "",
    "Ours: one clip a step, checkpointing, everything encoded beforehand, bf16 arithmetic, decoding in tiles; FCA at its",
    "default width (2B 1920, 5B 1536). Step: peak of tensors in a training step. With validation: the worst of step,",
    "sampling, decoding and saving. Card: that, 5 % for fragmentation and 0.75 GB for CUDA's context.",
    "",
    "What differs: our LoRA has the given frames as more token frames in front; theirs is text-to-video. Whether their figures",
    "hold the CUDA context, and their validation the text encoder and the optimizer, is not said. Of CogVideo finetune size,",
    "optimizer and phase are not said either: 49x480x720 is taken. Rank 64 or 128 as theirs, AdamW in fp32 where not said",
    "otherwise.",
    "",
]
COLUMNS = ["", "| setting | what | step | with validation | card |", "|---|---|---|---|---|"]


def rows_of(setting: Setting) -> Iterator[tuple[str, float]]:
    """Lines of the table, theirs first, each with the GB of its step."""
    from fcacli.model.bases import resolve_base
    from fcacli.planning.choice import card_for
    from fcacli.planning.memory import Planner
    from fcacli.planning.shaped import shaped_base
    from fcacli.workflows.train_options import TrainOptions, resolve

    spec, (frames, width, height) = resolve_base(setting.base), setting.size
    base, ours = shaped_base(spec, "cuda"), {}
    for name, rank, step, validating in setting.published:
        shown = "-" if validating is None else f"{validating:.1f}"
        yield f"| {setting} | **{name}**, LoRA rank {rank}, measured by them | {step:.1f} | {shown} | - |", step
        ours[f"LoRA rank {rank}, adamw"] = {"adapter": "lora", "lora_rank": rank, "optimizer": "adamw"}
    for name, fields in (ours | OURS).items():
        more = fields | ({"base_weights": "fp8"} if setting.fp8 else {})
        options = TrainOptions(frames=frames, width=width, height=height, batch_size=1, accumulate=1, **more)
        config = resolve(options, spec, "", "", True)
        memory = Planner(base, config.clip, "cuda", {}).memory(config)
        step = next(phase.device_least for phase in memory.phases if phase.name == "training step") / GB
        worst = f"{memory.needed / GB:.1f} ({memory.peak.name})"
        yield f"| {setting} | {name}, predicted | {step:.1f} | {worst} | {card_for(memory.needed) / GB:.1f} |", step


@pytest.mark.benchmark
def test_plans_beside_published_figures():
    from test_plan_accuracy import machine

    lines, steps, about = [], {}, machine()
    made = "Made by `pytest -n 0 -m benchmark tests/benchmarks/test_plan_peers.py`."
    for setting in SETTINGS:
        steps[setting] = []
        for line, step in rows_of(setting):
            lines.append(line)
            steps[setting].append(step)
            print(line, flush=True)
            RESULTS.write_text("\n".join([*HEAD, f"{about}.", made, *COLUMNS, *lines]) + "\n")
    for setting, found in steps.items():
        count = len(setting.published)
        for published, planned in zip(found[:count], found[count : 2 * count], strict=True):
            assert 0.4 < planned / published < 1.1, "the plan of a LoRA is not far from a measurement of one, nor above it"
