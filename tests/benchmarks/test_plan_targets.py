"""Cards that the real bases are planned to fit, and how, written to results/plan_targets.md; run with -m benchmark.

Predicted on a CPU: no weights, no GPU, nothing measured. A row takes traces, so the sizes of a base are done one after the
other and the file is written after each.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
RESULTS = Path(__file__).parent / "results" / "plan_targets.md"
GB = 10**9
SIZES = ((16, 256, 256), (16, 720, 480), (49, 720, 480))
"""Frames, width, height."""
BASES = ("cogvideox-2b", "cogvideox-5b", "cogvideox1.5-5b")


@dataclass(frozen=True)
class Target:
    """What a card is to hold."""

    card: int
    """GB."""
    part: int
    """The adapter's width is at least d / part."""
    largest: bool
    """Every size, or the smallest alone."""


TARGETS = {
    "cogvideox-2b": (Target(24, 1, True), Target(16, 1, True), Target(12, 2, True), Target(8, 4, False)),
    "cogvideox-5b": (Target(24, 2, True), Target(16, 2, True), Target(12, 2, True), Target(8, 4, False)),
}
TARGETS["cogvideox1.5-5b"] = TARGETS["cogvideox-5b"]

ALL = 4 * len(SIZES) * len(BASES)
"""Rows; a run that was stopped has fewer, and says so."""

HEAD = [
    "# Which cards the real bases are planned to fit",
    "",
    "**Predicted on a CPU by `fca plan`; nothing here has been measured on a GPU.** FCA, one clip at a time, four to a step,",
    "nothing encoded beforehand, so encoding, training, validation and saving are all in. A card has 0.6 GB less for CUDA's",
    "context, and tensors take 5 % more than their bytes (both assumed). Asked: the least width of the adapter that issue 7",
    "wants to fit, d the base's. Chosen is the first set of options that fits, in the order of what they cost.",
    "Made by `pytest -m benchmark tests/benchmarks/test_plan_targets.py`.",
    "",
]
COLUMNS = ["", "| base | clip | card | asked | planned | needs | peak in | options |", "|---|---|---|---|---|---|---|---|"]


def shown(tried) -> tuple[str, str]:
    """Width of the adapter, and the options beside the defaults."""
    config = tried.config
    words = {
        "no checkpointing": not config.checkpointing,
        f"{config.weights} weights": config.weights != "fp32",
        "optimizer in main memory": config.offload_optimizer,
        "gradients in main memory": config.offload_gradients,
        f"{config.base_weights} base": config.base_weights != "full",
        f"{config.block_swap} blocks swapped": config.block_swap > 0,
        "block inputs in main memory": config.offload_activations,
        "decoding in tiles": config.vae_tiling,
    }
    if tried.memory.phases[0].device_least < tried.memory.phases[0].device:
        words["text encoder in blocks where it has no room"] = True
    return f"width {config.adapter.width}", ", ".join(word for word, on in words.items() if on)


def rows_of(name: str, size: tuple[int, int, int]) -> list[str]:
    """A row for each card; the planner keeps its traces from one to the next."""
    from fcacli.events import silent
    from fcacli.model.bases import resolve_base
    from fcacli.planning.choice import card_for
    from fcacli.planning.memory import Planner
    from fcacli.planning.shaped import shaped_base
    from fcacli.workflows.encode.batches import AHEAD, batches_of
    from fcacli.workflows.plan import _fitting, _room_of_card
    from fcacli.workflows.train_options import TrainOptions, resolve

    spec, (frames, width, height) = resolve_base(name), size
    options = TrainOptions(base=name, frames=frames, width=width, height=height)
    config = resolve(options, spec, "", "", True)
    base = shaped_base(spec, "cuda")
    planner, rows = Planner(base, config.clip, "cuda", batches_of("cuda"), AHEAD), []
    for target in TARGETS[name]:
        fits = _room_of_card(target.card * GB)
        chosen = _fitting(config, options, base, planner, fits, silent)[-1]
        adapter, words = shown(chosen)
        fitting = fits(chosen.memory.needed)
        asked = f"d/{target.part}" if target.part > 1 else "d"
        if not target.largest and size != SIZES[0]:
            asked = "-"
        met = fitting and chosen.config.adapter.width >= base.d // target.part
        planned = ("as asked" if met or asked == "-" else "narrower") if fitting else "does not fit"
        needs = f"{card_for(chosen.memory.needed) / GB:.1f} GB"
        clip = f"{frames}x{height}x{width}"
        rows.append(
            f"| {name} | {clip} | {target.card} GB | {asked} | {planned} | {needs} | {chosen.memory.peak.name} | {adapter}"
            f"{', ' + words if words else ''} |"
        )
    return rows


@pytest.mark.benchmark
def test_cards_that_the_real_bases_are_planned_to_fit():
    from test_plan_accuracy import machine

    rows: list[str] = []
    for size in SIZES:
        for name in BASES:
            start = time.process_time()
            rows += rows_of(name, size)
            print("\n".join(rows[-4:]), f"\n{time.process_time() - start:.0f} s of processor time", flush=True)
            about = f"{machine()}, {len(rows)} of {ALL} rows."
            RESULTS.write_text("\n".join([*HEAD, about, *COLUMNS, *rows]) + "\n")
    assert len(rows) == ALL
