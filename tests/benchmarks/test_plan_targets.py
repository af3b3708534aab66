"""Cards that the real bases are planned to fit, and how, written to results/plan_targets.md; run with -m benchmark.

Predicted on a CPU: no weights, no GPU, nothing measured. A row takes minutes; the file is written after each, and a run that
was stopped goes on with the rows it has in pytest's cache, as long as no line of the package is another.
"""

import hashlib
import sys
import time
from collections.abc import Iterator
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
    "**Predicted on a CPU by `fca plan`**; what was measured on a GPU is in gpu-*.md. FCA, one clip at a time, four to a step,",
    "nothing encoded beforehand: encoding, training, validation and saving are all in. A card has 0.75 GB less for its",
    "context, and tensors take 5 % more than their bytes (as on an H200). Asked: the least width of the adapter that",
    "this project wants to fit, d the base's. Chosen is the first set of options that fits, in the order of their cost. Each",
    "row is searched independently, by `fca plan --gpu-memory`. A GB is 10^9 bytes; a card sold as 12 GB has about 12.9.",
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


def rows_of(name: str, size: tuple[int, int, int]) -> Iterator[str]:
    """A row for each card."""
    from fcacli.events import silent
    from fcacli.model.bases import resolve_base
    from fcacli.planning.choice import card_for
    from fcacli.planning.memory import Planner
    from fcacli.planning.shaped import shaped_base
    from fcacli.workflows.encode.batches import AHEAD, batches_of
    from fcacli.workflows.plan import _fitting, _room_of_card
    from fcacli.workflows.train_options import TrainOptions, resolve

    traces: dict = {}

    class Separate(Planner):
        """Does not trace again what an earlier row has traced; but its estimates, and so where a search looks, do not depend on
        those traces, as they would with one planner for all rows."""

        def _traced(self, trace, *arguments):
            key = (trace.__name__, *arguments)
            if key not in traces:
                traces[key] = super()._traced(trace, *arguments)
            return traces[key]

    spec, (frames, width, height) = resolve_base(name), size
    options = TrainOptions(base=name, frames=frames, width=width, height=height)
    config = resolve(options, spec, "", "", True)
    base = shaped_base(spec, "cuda")
    for target in TARGETS[name]:
        planner = Separate(base, config.clip, "cuda", batches_of("cuda", config.clip), AHEAD)
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
        yield (
            f"| {name} | {clip} | {target.card} GB | {asked} | {planned} | {needs} | {chosen.memory.peak.name} | {adapter}"
            f"{', ' + words if words else ''} |"
        )


def package() -> str:
    """Hash of what makes the rows."""
    import fcacli

    files = sorted(Path(fcacli.__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in [*files, Path(__file__)])).hexdigest()[:16]


@pytest.mark.benchmark
def test_cards_that_the_real_bases_are_planned_to_fit(request):
    from test_plan_accuracy import machine

    place = f"plan_targets/{package()}"
    kept = request.config.cache.get(place, {})
    rows: list[str] = []
    made_by = machine()  # before the table is written, which is a change to the commit
    for size in SIZES:
        for name in BASES:
            start, key = time.process_time(), " ".join(map(str, (name, *size)))
            found = kept.get(key) or []
            for row in found or rows_of(name, size):
                rows.append(row)
                if not found:
                    print(row, f"\n{time.process_time() - start:.0f} s of processor time so far", flush=True)
                about = f"{made_by}, {len(rows)} of {ALL} rows."
                RESULTS.write_text("\n".join([*HEAD, about, *COLUMNS, *rows]) + "\n")
            kept[key] = rows[-len(TARGETS[name]) :]
            request.config.cache.set(place, kept)
    assert len(rows) == ALL
