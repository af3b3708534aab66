"""All that needs a GPU, in one run: CUDA tests, memory and speed at the real shapes, training of the miniature.

    python tests/gpu/run.py OUT [--minutes 9] [--only tests|memory|speed|mini] [--work FOLDER]

Writes OUT/gpu-<date>.json and .md: a table of peak memory of each phase and seconds a step for CogVideoX-2B and 5B with random
weights at their real sizes, each under the memory cap of the card it is meant for; speed against the base alone and
against LoRA; the outcome of the CUDA tests; what training the bundled miniature takes. A part that fails or finds no time is
named in the tables, the others go on. Commit the files under tests/benchmarks/results/.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SHAPES = {"16x256x256": (16, 256, 256), "16x480x720": (16, 480, 720), "49x480x720": (49, 480, 720)}
D = {"cogvideox-2b": 1920, "cogvideox-5b": 3072}
AT_ONCE = 4
"""Memory cases at a time; speed is measured alone."""


@dataclass(frozen=True)
class Case:
    """One line of a table."""

    base: str
    shape: str
    cap: int | None
    """GiB; None for the whole card."""
    options: dict[str, Any] = field(default_factory=dict)
    """Of TrainOptions."""

    @property
    def arguments(self) -> list[str]:
        frames, height, width = SHAPES[self.shape]
        options = {"frames": frames, "height": height, "width": width, "batch_size": 1, "accumulate": 1, **self.options}
        return [json.dumps(options), *(["--cap", str(self.cap)] if self.cap else [])]


def memory_cases() -> Iterator[Case]:
    """The target table: what must fit under which cap."""
    for shape in SHAPES:
        for cap, width in ((24, 1920), (16, 1920), (12, 960)):
            yield Case("cogvideox-2b", shape, cap, {"adapter_width": width})
        yield Case("cogvideox-5b", shape, 24, {"adapter_width": 1536})
    yield Case("cogvideox-2b", "16x256x256", 8, {"adapter_width": 480})


def speed_cases() -> Iterator[Case]:
    """FCA at three widths and LoRA, alone on the card."""
    for base, shape in (("cogvideox-2b", "16x256x256"), ("cogvideox-2b", "49x480x720"), ("cogvideox-5b", "16x256x256")):
        for share in (1, 2, 4):
            yield Case(base, shape, None, {"adapter_width": D[base] // share})
        yield Case(base, shape, None, {"adapter": "lora", "lora_rank": 64})


@dataclass
class Run:
    """What this run has found, and until when it may go on."""

    out: Path
    work: Path
    end: float
    found: dict[str, Any]

    def left(self) -> float:
        return self.end - time.monotonic()

    def call(self, words: list[str], least: float = 20.0) -> tuple[int, str]:
        """Exit status and last output of a Python process, ended when the time is over."""
        if self.left() < least:
            return 1, "no time left"
        try:
            done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=self.left())
        except subprocess.TimeoutExpired:
            return 1, "no time left"
        return done.returncode, (done.stdout or done.stderr).strip() if done.returncode == 0 else done.stderr.strip()[-800:]

    def write(self) -> None:
        """The tables as they are now."""
        stem = self.out / f"gpu-{self.found['date'][:10]}"
        stem.with_suffix(".json").write_text(json.dumps(self.found, indent=1) + "\n")
        stem.with_suffix(".md").write_text(as_text(self.found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--only", action="append", choices=["tests", "memory", "speed", "mini"])
    parser.add_argument("--work", type=Path, default=Path("/tmp/fca-gpu"), help="random bases, 30 GB")
    said = parser.parse_args()
    for folder in (said.out, said.work):
        folder.mkdir(parents=True, exist_ok=True)
    run = Run(
        said.out, said.work, time.monotonic() + 60 * said.minutes, {"date": datetime.now(UTC).isoformat()[:19], **machine()}
    )
    parts = {"tests": cuda_tests, "memory": memory, "speed": speed, "mini": miniature}
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
    run.found["tests"] = {"passed": status == 0, "said": said.splitlines()[-1] if said else ""}


def memory(run: Run) -> None:
    cases = [case for case in memory_cases() if _base(run, case.base)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        run.found["memory"] = list(pool.map(lambda case: _measured(run, case, 4), cases))


def speed(run: Run) -> None:
    run.found["speed"] = [_measured(run, case, 8) for case in speed_cases() if _base(run, case.base)]


def miniature(run: Run) -> None:
    """The demo, on the GPU: how long, and how good."""
    started = time.monotonic()
    status, said = run.call(["-m", "fcacli", "demo", str(run.work / "demo")])
    run.found["mini"] = {"worked": status == 0, "seconds": round(time.monotonic() - started, 1), "said": said[-1500:]}


def _base(run: Run, name: str) -> bool:
    """Write the random base, once."""
    status, said = run.call([str(HERE / "random_base.py"), str(run.work), name])
    if status:
        run.found.setdefault("failed", []).append(f"{name}: {said}")
    return status == 0


def _measured(run: Run, case: Case, steps: int) -> dict[str, Any]:
    words = [str(HERE / "measure.py"), str(run.work / case.base), *case.arguments, "--steps", str(steps)]
    status, said = run.call(words, least=30)
    row: dict[str, Any] = {"base": case.base, "shape": case.shape, "cap": case.cap, "options": case.options}
    return row | (json.loads(said.splitlines()[-1]) if status == 0 else {"failed": said})


# ---------------------------------------------------------------- as text


def as_text(found: dict[str, Any]) -> str:
    """Markdown."""
    lines = [f"# {found['device']}, {found['date']}, commit {found['commit']}", ""]
    lines += [f"torch {found['torch']}, Python {found['python']}; random weights, batch 1, bf16.", ""]
    lines += [f"failed: {said}" for said in found.get("failed", [])]
    if "tests" in found:
        lines += [f"CUDA tests: {found['tests']['said']}", ""]
    for part in ("memory", "speed"):
        if part in found:
            lines += _table(found[part])
    if "mini" in found:
        lines += [f"`fca demo` on the GPU: {found['mini']['seconds']} s", "", "```", found["mini"]["said"], "```"]
    return "\n".join(lines) + "\n"


PHASES = ("encode", "training and saving", "validation", "decode")


def _table(rows: list[dict[str, Any]]) -> list[str]:
    head = ["base", "T x H x W", "cap, GiB", "options", *(f"{phase}, GiB" for phase in PHASES), "s/step", "denoising, x base"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for row in rows:
        cells = [row["base"], row["shape"], str(row["cap"] or ""), ", ".join(f"{k}={v}" for k, v in row["options"].items())]
        if "phases" in row:
            cells += [str(row["phases"][phase].get("allocated_gib", "")) for phase in PHASES]
            cells += [str(row["seconds_per_step"]), f"{row['denoising']['fca'] / row['denoising']['base']:.3f}"]
        else:
            cells += [row.get("out_of_memory") or row.get("failed", ""), *[""] * 5]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, ""]


if __name__ == "__main__":
    main()
