"""Cards that predictions by the real bases are planned to fit, written to results/predict_targets.md; run with -m benchmark.

Predicted on a CPU: no weights, no GPU, nothing measured.
"""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
RESULTS = Path(__file__).parent / "results" / "predict_targets.md"
GB = 10**9
TARGETS = {"cogvideox-2b": 6, "cogvideox-5b": 8, "cogvideox1.5-5b": 8}
"""GB of the card that is to do."""
SIZES = ((16, 256, 256), (16, 720, 480), (49, 720, 480))
"""Frames, width, height."""

HEAD = [
    "# Which cards predictions by the real bases are planned to fit",
    "",
    "**Predicted on a CPU by `fca plan --predict`; not measured on a GPU.** FCA at its default width, guidance 6 (both",
    "halves in one call), the base in bf16 as it comes unless said, one part of it on the device at a time; frames above",
    "131,072 pixels are decoded in tiles. Needs: of the card, with 0.75 GB for CUDA's context and 5 % for fragmentation",
    "(as on an H200). Chosen: the first `--offload` that fits. Main memory: tensors, without Python, its libraries and files",
    "that are mapped. Captions are encoded with the text encoder (9.6 GB) in blocks from main memory where the device has",
    "no room for it.",
    "Made by `pytest -m benchmark tests/benchmarks/test_predict_targets.py`.",
    "",
]
COLUMNS = [
    "",
    "| base | clip | target | chosen | needs | peak in | main memory | left | needs with `none` | `model` | `sequential` |",
    "|---|---|---|---|---|---|---|---|---|---|---|",
]


def row_of(name: str, size: tuple[int, int, int], card: int, **fields) -> str:
    from fcacli.model.bases import resolve_base
    from fcacli.planning.choice import card_for
    from fcacli.planning.prediction import PredictionPlanner
    from fcacli.planning.shaped import shaped_base
    from fcacli.workflows.plan_prediction import OFFLOADS
    from fcacli.workflows.train_options import TrainOptions, resolve

    spec, (frames, width, height) = resolve_base(name), size
    config = resolve(TrainOptions(frames=frames, width=width, height=height, **fields), spec, "", "", True)
    planner = PredictionPlanner(shaped_base(spec, "cuda"), config, "cuda")
    plans = {how: planner.memory(config, how) for how in OFFLOADS}
    needs = {how: card_for(plan.needed) / GB for how, plan in plans.items()}
    chosen = next((how for how in OFFLOADS if needs[how] <= card), OFFLOADS[-1])
    left, plan = card - needs[chosen], plans[chosen]
    about = f"{name}, {config.base_weights}" if config.base_weights != "full" else name
    host = max(phase.host for phase in plan.phases) / GB
    said = f"{left:.1f} GB" if left >= 0 else f"**{-left:.1f} GB too little**"
    each = " | ".join(f"{needs[how]:.1f} GB" for how in OFFLOADS)
    return (
        f"| {about} | {frames}x{height}x{width} | {card} GB | `{chosen}` | {needs[chosen]:.1f} GB | {plan.peak.name} | "
        f"{host:.1f} GB | {said} | {each} |"
    )


@pytest.mark.benchmark
def test_cards_that_predictions_are_planned_to_fit():
    from test_plan_accuracy import machine

    rows: list[str] = []
    for name, card in TARGETS.items():
        for weights in ("full", "nf4"):
            for size in SIZES:
                rows.append(row_of(name, size, card, base_weights=weights))
                print(rows[-1], flush=True)
    RESULTS.write_text("\n".join([*HEAD, f"{machine()}.", *COLUMNS, *rows]) + "\n")
    assert not [row for row in rows if "too little" in row and "nf4" not in row], "a target is missed"
