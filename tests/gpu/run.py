"""All that needs a GPU, in one run: memory and speed at the real shapes, CUDA tests, training of the miniature.

    python tests/gpu/run.py OUT [--minutes 9] [--only memory|predict|speed|tests|mini] [--work FOLDER]

Writes OUT/gpu-<date>.json and .md. Memory: CogVideoX-2B, 5B and 1.5-5B with random weights at their real sizes, each under the
cap of the card it is meant for, with the options for it, beside what `fca plan` says of them. Predict: the same of
predictions, under caps of 6 and 8 GB. Speed: FCA against LoRA, the base
alone and the floor (the base's own forward and backward pass); each memory option and --compile against without; the kernels of
attention. Nine minutes are for tests, memory, predictions and the miniature, and what is left of them for speed; --only speed
takes as long again. A part that fails or finds no time is named in the tables, the others go on. Commit the files under
tests/benchmarks/results/.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SHAPES = {"16x256x256": (16, 256, 256), "16x480x720": (16, 480, 720), "49x480x720": (49, 480, 720)}
BF16: dict[str, Any] = {"weights": "bf16", "offload_optimizer": True}
INPUTS: dict[str, Any] = {"offload_activations": True}
LARGE = "49x480x720"
PLANS = 4
"""Made at a time, by the processor, while cases are measured."""
PREDICTIONS = 3
"""Measured at a time: each makes its adapter without a cap first, and has up to 25 GB in main memory."""
SPARE, CONTEXT = 4, 0.7
"""GiB of the card that memory cases at the same time leave free; of each process beside what it allocates."""
MINI = (
    "toy raw --clips 64",
    "prepare ssv2 raw",
    "train --base mini --gpus 1 --steps 400 --max-minutes 0.1",
    "train --gpus 1",
    "predict {clip} caption --device cuda",
    "predict {clip} caption --device cuda --offload model",
    "predict {clip} caption --device cuda --offload sequential",
    "eval --gpus 1 --limit 4",
)
"""The whole loop on the GPU, the training stopped on the way and continued."""


@dataclass(frozen=True)
class Case:
    """One line of a table."""

    base: str
    shape: str
    cap: float | None
    """GiB; None for the whole card."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of TrainOptions."""
    offload: str | None = None
    """Of a prediction; None for a training."""

    @property
    def arguments(self) -> list[str]:
        frames, height, width = SHAPES[self.shape]
        options = {"frames": frames, "height": height, "width": width, "batch_size": 1, "accumulate": 1, **self.options}
        more = ["--predict", self.offload] if self.offload else []
        return [json.dumps(options), *more, *(["--cap", str(self.cap)] if self.cap else [])]


def memory_cases() -> Iterator[Case]:
    """The target table: what must fit under which cap, at the largest shape that it is meant for, with options by which it
    does (results/plan_targets.md); two more ways to save."""
    yield Case("cogvideox-2b", LARGE, 24, {"adapter_width": 1920})
    yield Case("cogvideox-2b", LARGE, 16, {"adapter_width": 1920, **BF16})
    yield Case("cogvideox-2b", LARGE, 12, {"adapter_width": 1920, **BF16, **INPUTS, "base_weights": "int8"})
    yield Case("cogvideox-2b", "16x256x256", 8, {"adapter_width": 448, **BF16, "base_weights": "nf4"})
    saved = BF16 | {"offload_gradients": True}
    all_wait = saved | {"block_swap": 42}
    for base, at_16, at_12 in (
        ("cogvideox-5b", saved, {"adapter_width": 768, **all_wait, **INPUTS}),
        ("cogvideox1.5-5b", BF16, {"adapter_width": 1536, **all_wait}),
    ):
        yield Case(base, LARGE, 24, {"adapter_width": 1536, **BF16, "base_weights": "int8"})
        yield Case(base, LARGE, 16, {"adapter_width": 1536, **at_16, "base_weights": "nf4", "block_swap": 28})
        yield Case(base, LARGE, 12, at_12)
        yield Case(base, "16x256x256", 8, {"adapter_width": 768, **BF16, "base_weights": "nf4", "block_swap": 21})
    yield Case("cogvideox-2b", "16x480x720", 16, {"adapter_width": 1920, "optimizer": "paged-adamw8bit"})
    yield Case("cogvideox-5b", "16x480x720", 16, {"adapter_width": 1536, **BF16, "block_swap": 28})


def predict_cases() -> Iterator[Case]:
    """What must fit under which cap (results/predict_targets.md): 6 and 8 GB are 5.58 and 7.45 GiB."""
    for base, cap in (("cogvideox-2b", 5.58), ("cogvideox-5b", 7.45), ("cogvideox1.5-5b", 7.45)):
        yield Case(base, LARGE, cap, offload="sequential")
    yield Case("cogvideox-2b", "16x256x256", 5.58, offload="model")
    yield Case("cogvideox-5b", "16x256x256", 7.45, {"base_weights": "nf4"}, offload="model")


def speed_cases() -> Iterator[Case]:
    """Alone on the card: FCA and LoRA, then FCA with one option more."""
    for base, width in (("cogvideox-2b", 1920), ("cogvideox-5b", 1536)):
        yield Case(base, "16x256x256", None, {"adapter_width": width})
        yield Case(base, "16x256x256", None, {"adapter": "lora", "lora_rank": 64})
        for more in ({"compile": True}, {"block_swap": 15}):
            yield Case(base, "16x256x256", None, {"adapter_width": width, **more})
    yield Case("cogvideox-2b", LARGE, None, {"adapter_width": 1920})
    for more in ({"compile": True}, {"block_swap": 15}, INPUTS, {"base_weights": "fp8"}, {"base_weights": "nf4"}):
        yield Case("cogvideox-2b", LARGE, None, {"adapter_width": 1920, **more})
    yield Case("cogvideox-2b", LARGE, None, {"adapter": "lora", "lora_rank": 64})
    for more in ({"weights": "bf16"}, BF16, {"optimizer": "paged-adamw8bit"}, {"adapter_width": 960}, {"adapter_width": 448}):
        yield Case("cogvideox-2b", "16x256x256", None, {"adapter_width": 1920, **more})


class Card:
    """Memory of the card that cases at the same time share."""

    def __init__(self, gib: float) -> None:
        self.whole = self.free = gib
        self._changed = threading.Condition()

    @contextmanager
    def room_for(self, gib: float) -> Iterator[None]:
        gib = min(gib, self.whole)
        with self._changed:
            self._changed.wait_for(lambda: self.free >= gib)
            self.free -= gib
        try:
            yield
        finally:
            with self._changed:
                self.free += gib
                self._changed.notify_all()


@dataclass
class Run:
    """What this run has found, and until when it may go on."""

    out: Path
    work: Path
    end: float
    found: dict[str, Any]

    def left(self) -> float:
        return self.end - time.monotonic()

    def call(self, words: list[str], least: float = 20.0, folder: Path = ROOT) -> tuple[int, str]:
        """Exit status and last output of a Python process in a folder, ended when the time is over."""
        if self.left() < least:
            return 1, "no time left"
        try:
            done = subprocess.run(
                [sys.executable, *words],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=self.left(),
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
            )
        except subprocess.TimeoutExpired:
            return 1, "no time left"
        if done.returncode == 0:
            return 0, (done.stdout or done.stderr).strip()
        return done.returncode, (done.stderr.strip() or done.stdout.strip())[-4000:]

    def write(self) -> None:
        """The tables as they are now."""
        stem = self.out / f"gpu-{self.found['date'][:10]}"
        stem.with_suffix(".json").write_text(json.dumps(self.found, indent=1) + "\n")
        stem.with_suffix(".md").write_text(as_text(self.found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--only", action="append", choices=["memory", "predict", "speed", "tests", "mini"])
    parser.add_argument("--work", type=Path, default=Path("/tmp/fca-gpu"), help="random bases, 40 GB")
    said = parser.parse_args()
    for folder in (said.out, said.work):
        folder.mkdir(parents=True, exist_ok=True)
    run = Run(
        said.out.resolve(),
        said.work.resolve(),
        time.monotonic() + 60 * said.minutes,
        {"date": datetime.now(UTC).isoformat()[:19], **machine()},
    )
    parts = {"tests": cuda_tests, "memory": memory, "predict": predictions, "mini": miniature, "speed": speed}
    for name, part in parts.items():
        if not said.only or name in said.only:
            part(run)
            run.write()
    print(as_text(run.found))


def machine() -> dict[str, str]:
    """Hardware, versions and commit."""
    import torch

    if not torch.cuda.is_available():
        sys.exit("error: no CUDA device is available here; this script measures one")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    gpu = torch.cuda.get_device_properties(0)
    return {
        "device": f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit or "unknown",
    }


def cuda_tests(run: Run) -> None:
    status, said = run.call(["-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests"])
    run.found["tests"] = {"passed": status == 0, "said": said.splitlines()[-1] if status == 0 else said}


def memory(run: Run) -> None:
    run.found["memory"] = _beside_plans(run, memory_cases())


def predictions(run: Run) -> None:
    run.found["predict"] = _beside_plans(run, predict_cases(), PREDICTIONS)


def _beside_plans(run: Run, cases: Iterable[Case], most: int | None = None) -> list[dict[str, Any]]:
    """Each case measured, at most so many at a time, with what its plan says."""
    import torch

    card, cases = Card(torch.cuda.get_device_properties(0).total_memory / 2**30 - SPARE), list(cases)
    written = {base: _base(run, base) for base in dict.fromkeys(case.base for case in cases)}
    cases = [case for case in cases if written[case.base]]

    def measured(case: Case) -> dict[str, Any]:
        with card.room_for((case.cap or card.whole) + CONTEXT):
            return _measured(run, case, 4)

    with ThreadPoolExecutor(most or len(cases) or 1) as measuring, ThreadPoolExecutor(PLANS) as planning:
        plans = planning.map(lambda case: _measured(run, case, 0, "--plan"), cases)
        rows = list(measuring.map(measured, cases))
        return [row | {"planned": plan.get("planned", {})} for row, plan in zip(rows, plans, strict=True)]


def speed(run: Run) -> None:
    status, said = run.call([str(HERE / "attention.py")])
    run.found["attention"] = json.loads(said.splitlines()[-1]) if status == 0 else {"failed": said}
    run.found["speed"] = [_measured(run, case, 6) for case in speed_cases() if _base(run, case.base)]


def miniature(run: Run) -> None:
    """The four commands with the miniature, on the GPU: what each says at its end, and how long it took."""
    folder = run.work / f"loop-{time.time_ns()}"
    folder.mkdir()
    run.found["mini"] = []
    for line in MINI:
        clip = next((folder / "data").glob("*/val/videos/*.mp4"), "") if "{clip}" in line else ""
        started = time.monotonic()
        status, said = run.call(["-m", "fcacli", *line.format(clip=clip).split()], folder=folder)
        took = round(time.monotonic() - started, 1)
        run.found["mini"].append({"line": line, "status": status, "seconds": took, "said": said[-600:]})


def _base(run: Run, name: str) -> bool:
    """Write the random base, once."""
    status, said = run.call([str(HERE / "random_base.py"), str(run.work), name])
    if status:
        run.found.setdefault("failed", []).append(f"{name}: {said}")
    return status == 0


def _measured(run: Run, case: Case, steps: int, *more: str) -> dict[str, Any]:
    words = [str(HERE / "measure.py"), str(run.work / case.base), *case.arguments, "--steps", str(steps), *more]
    status, said = run.call(words, least=30)
    row: dict[str, Any] = {"base": case.base, "shape": case.shape, "cap": case.cap, "options": case.options}
    row |= {"offload": case.offload} if case.offload else {}
    return row | (json.loads(said.splitlines()[-1]) if status == 0 else {"failed": said})


# ---------------------------------------------------------------- as text


def as_text(found: dict[str, Any]) -> str:
    """Markdown."""
    lines = [f"# {found['device']}, {found['date']}, commit {found['commit']}", ""]
    lines += [f"torch {found['torch']}, Python {found['python']}; random weights, batch 1, bf16.", ""]
    lines += [f"failed: {said}" for said in found.get("failed", [])]
    if "tests" in found:
        passed = found["tests"]["passed"]
        lines += [f"CUDA tests: {'' if passed else 'failed'}", "", "```", found["tests"]["said"], "```", ""]
    if "memory" in found:
        lines += ["Trainings:", "", *_memory_table(found["memory"], PHASES, "s/step")]
    if "predict" in found:
        lines += ["Predictions:", "", *_memory_table(found["predict"], OF_PREDICTIONS, "s/denoising step")]
    if "speed" in found:
        lines += [*_speed_table(found["speed"]), f"attention: `{json.dumps(found.get('attention', {}))}`", ""]
    if "mini" in found:
        lines += ["The miniature on the GPU:", ""]
        for row in found["mini"]:
            lines += [
                f"`fca {row['line']}`: exit status {row['status']}, {row['seconds']} s",
                "",
                "```",
                row["said"],
                "```",
                "",
            ]
    return "\n".join(lines) + "\n"


PHASES = ("encode", "training and saving", "validation", "decode")
OF_PREDICTIONS = ("encode", "loading", "conditions", "denoising", "decode")
"""Conditions with one denoising step, and with some."""


def _memory_table(rows: list[dict[str, Any]], names: Sequence[str], seconds: str) -> list[str]:
    """Each phase as measured and, behind it, as planned."""
    phases = [f"{phase}, GiB (planned)" for phase in names]
    lines = _head(["base", "T x H x W", "cap, GiB", "options", *phases, "card", seconds])
    for row in rows:
        plan = row.get("planned", {})
        cells = [row["base"], row["shape"], str(row["cap"] or ""), _options(row)]
        if "phases" in row:
            cells += [_phase(row["phases"][phase], plan.get(phase)) for phase in names]
            cells += [str(plan.get("card", "")), str(row["seconds_per_step"])]
        else:
            cells += [f"{row.get('out_of_memory') or row.get('failed', '')} ({plan})", *[""] * (len(names) + 1)]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, "", "Allocated; card: what the plan wants of one, with context and fragmentation.", ""]


def _speed_table(rows: list[dict[str, Any]]) -> list[str]:
    """Steps against the floor and against the first line of the same base and shape; a denoising step against the base's."""
    lines = _head(["base", "T x H x W", "options", "s/step", "x floor", "x first", "denoising, x base", "peak, GiB"])
    first: dict[tuple[str, str], float] = {}
    for row in rows:
        cells = [row["base"], row["shape"], _options(row)]
        if "phases" in row:
            seconds, peak = row["seconds_per_step"], row["phases"]["training and saving"].get("allocated_gib", "")
            first.setdefault((row["base"], row["shape"]), seconds)
            ratios = (seconds / row["floor"], seconds / first[row["base"], row["shape"]])
            denoising = row["denoising"]["fca"] / row["denoising"]["base"]
            cells += [str(seconds), *(f"{ratio:.3f}" for ratio in (*ratios, denoising)), str(peak)]
        else:
            cells += [row.get("out_of_memory") or row.get("failed", ""), *[""] * 4]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


def _head(names: list[str]) -> list[str]:
    return ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]


def _options(row: dict[str, Any]) -> str:
    offload = {"offload": row["offload"]} if "offload" in row else {}
    return ", ".join(f"{name}={value}" for name, value in (row["options"] | offload).items())


def _phase(found: dict[str, Any], planned: float | None) -> str:
    said = "does not fit, without cap: " if "out_of_memory" in found else ""
    return f"{said}{found.get('allocated_gib', '')} ({planned if planned is not None else 'no plan'})"


if __name__ == "__main__":
    main()
