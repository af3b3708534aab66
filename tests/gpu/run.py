"""All that needs a GPU, in one run: memory and speed at the real shapes, CUDA tests, training of the miniature.

    python tests/gpu/run.py OUT [--minutes 9] [--only memory|predict|speed|tests|mini] [--every N] [--work FOLDER]

Writes OUT/gpu-<date>.json and .md; commit them under tests/benchmarks/results/. Memory: CogVideoX-2B, 5B and 1.5-5B with
random weights at their real sizes, each kept to what the card it is meant for has, with the options for it, beside what
`fca plan` says of them. Predict: the same of predictions. Speed: FCA against LoRA, the base alone and the floor (the base's own
forward and backward pass), memory options and --compile against without; the kernels of attention. Cases run at the same time
as far as device and main memory go, and take turns where seconds are measured. What fails or finds no time is named in the
tables, the rest goes on. --every N: each Nth case only, to see whether all works.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cases import Case, memory_cases, predict_cases, speed_cases
from tables import as_text

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
AT_ONCE, PLANS = 8, 4
"""Cases measured and planned at the same time."""
SPARE, CONTEXT, MAIN = 4, 0.7, 100
"""GiB: of the device that cases at the same time leave free, of each process beside its allocator's, of main memory for all."""
STEPS = {False: 3, True: 6}
"""Of a training by whether it is timed; see measure.py."""
MINI = (
    "toy raw --clips 64",
    "prepare ssv2 raw",
    "train --base mini --gpus 1 --steps 400 --run straight",
    "train --base mini --gpus 1 --steps 400 --run stopped --max-minutes 0.1",
    "train --gpus 1 --run stopped",
    "predict {clip} caption --device cuda --run straight --out predicted/none",
    "predict {clip} caption --device cuda --run straight --offload model --out predicted/model",
    "predict {clip} caption --device cuda --run straight --offload sequential --out predicted/sequential",
    "eval --run straight --gpus 1 --limit 4",
)
"""The whole loop on the GPU; a training in one go, and one that is stopped on the way and continued."""


class Shared:
    """Memory of the device and main memory, for cases at the same time; GiB."""

    def __init__(self, device: float, main: float) -> None:
        self.whole = self.free = (device, main)
        self._changed = threading.Condition()

    @contextmanager
    def room_for(self, device: float, main: float) -> Iterator[None]:
        device, main = min(device, self.whole[0]), min(main, self.whole[1])
        with self._changed:
            self._changed.wait_for(lambda: self.free[0] >= device and self.free[1] >= main)
            self.free = self.free[0] - device, self.free[1] - main
        try:
            yield
        finally:
            with self._changed:
                self.free = self.free[0] + device, self.free[1] + main
                self._changed.notify_all()


@dataclass
class Run:
    """What this run has found, and until when it may go on."""

    out: Path
    work: Path
    end: float
    every: int
    found: dict[str, Any]
    device: str = "cuda"

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
    parts = ("tests", "mini", "memory", "predict", "speed")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--only", action="append", choices=parts)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--commit", help="where this is a copy without its history")
    parser.add_argument("--work", type=Path, default=Path("/tmp/fca-gpu"), help="random bases, 40 GB")
    said = parser.parse_args()
    for folder in (said.out, said.work):
        folder.mkdir(parents=True, exist_ok=True)
    started, chosen = time.monotonic(), said.only or parts
    found = {"date": datetime.now(UTC).isoformat()[:19], **machine(said.commit)}
    run = Run(said.out.resolve(), said.work.resolve(), started + 60 * said.minutes, said.every, found)
    with ThreadPoolExecutor(1) as aside:  # light on the card: beside the writing of the bases
        light = [aside.submit(part, run) for name, part in (("tests", cuda_tests), ("mini", miniature)) if name in chosen]
        cases = {"memory": memory_cases, "predict": predict_cases, "speed": speed_cases}
        measure_all(run, {name: list(make())[:: run.every] for name, make in cases.items() if name in chosen})
        for part in light:
            part.result()
    found["took"] = round(time.monotonic() - started)
    run.write()
    print(as_text(found))


def machine(commit: str | None) -> dict[str, Any]:
    """Hardware, versions and commit."""
    import torch

    if not torch.cuda.is_available():
        sys.exit("error: no CUDA device is available here; this script measures one")
    if commit is None:
        words = ["git", "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(words, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    gpu = torch.cuda.get_device_properties(0)
    return {
        "device": f"{gpu.name}, {gpu.total_memory / 2**30:.0f} GiB",
        "device_gib": gpu.total_memory / 2**30,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit or "unknown",
    }


def cuda_tests(run: Run) -> None:
    status, said = run.call(["-m", "pytest", "-q", "-m", "gpu", "-n", "0", "-p", "no:cacheprovider", "tests"])
    run.found["tests"] = {"passed": status == 0, "said": said.splitlines()[-1] if status == 0 else said}


def measure_all(run: Run, parts: dict[str, list[Case]]) -> None:
    """Each case, as soon as its base is there and there is room for it; its plan beside it."""
    if not any(parts.values()):
        return
    shared = Shared(run.found["device_gib"] - SPARE, MAIN)
    with ThreadPoolExecutor(1) as writing, ThreadPoolExecutor(AT_ONCE) as measuring, ThreadPoolExecutor(PLANS) as planning:
        names = dict.fromkeys(case.base for cases in parts.values() for case in cases)
        written = {name: writing.submit(_base, run, name) for name in names}
        rows = {
            name: [
                (measuring.submit(_measured, run, case, written, shared), planning.submit(_planned, run, case, written))
                for case in cases
            ]
            for name, cases in parts.items()
        }
        if "speed" in parts:
            run.found["attention"] = _attention(run, written)
        for name, all_done in rows.items():
            run.found[name] = []
            for measured, planned in all_done:
                run.found[name].append(measured.result() | planned.result())
                run.write()


def _measured(run: Run, case: Case, written: dict[str, Future[bool]], shared: Shared) -> dict[str, Any]:
    row: dict[str, Any] = {"base": case.base, "shape": case.shape, "card": case.card, "cap": case.cap, "options": case.options}
    row |= {"offload": case.offload} if case.offload else {}
    if not written[case.base].result():
        return row | {"failed": "the base could not be written"}
    with shared.room_for(case.device_gib + CONTEXT, case.main_gib):
        return row | _by_measure(run, case, "--steps", str(STEPS[case.timed]), "--turns", str(run.work))


def _planned(run: Run, case: Case, written: dict[str, Future[bool]]) -> dict[str, Any]:
    if case.timed or not written[case.base].result():
        return {}
    plan = _by_measure(run, case, "--plan")
    return {"planned": plan.get("planned", {}), **({"no_plan": plan["failed"]} if "failed" in plan else {})}


def _by_measure(run: Run, case: Case, *more: str) -> dict[str, Any]:
    words = [str(HERE / "measure.py"), str(run.work / case.base), *case.arguments, "--device", run.device, *more]
    started = time.monotonic()
    status, said = run.call(words, least=30)
    found = json.loads(said.splitlines()[-1]) if status == 0 else {"failed": said}
    return found | {"took": round(time.monotonic() - started, 1)}


def _attention(run: Run, written: dict[str, Future[bool]]) -> Any:
    """When the bases are written, in a turn of its own."""
    for name in written.values():
        name.result()
    status, said = run.call([str(HERE / "attention.py"), "--device", run.device, "--turns", str(run.work)])
    return json.loads(said.splitlines()[-1]) if status == 0 else {"failed": said}


def _base(run: Run, name: str) -> bool:
    """Write the random base, once."""
    status, said = run.call([str(HERE / "random_base.py"), str(run.work), name])
    if status:
        run.found.setdefault("failed", []).append(f"{name}: {said}")
    return status == 0


def miniature(run: Run) -> None:
    """The four commands with the miniature, on the GPU: what each says at its end, and how long it took beside other work;
    whether the continued training is the one in one go, and a prediction the same with each way to offload."""
    folder = run.work / f"loop-{time.time_ns()}"
    folder.mkdir()
    run.found["mini"] = []
    for line in MINI:
        clip = next((folder / "data").glob("*/val/videos/*.mp4"), "") if "{clip}" in line else ""
        started = time.monotonic()
        status, said = run.call(["-m", "fcacli", *line.format(clip=clip).split()], folder=folder)
        took = round(time.monotonic() - started, 1)
        run.found["mini"].append({"line": line, "status": status, "seconds": took, "said": said[-600:]})
    run.found["same"] = {
        "stopped and continued": _same(folder.glob("runs/*/checkpoints/step-000400/adapter.safetensors"), 2),
        "predictions": _same(folder.glob("predicted/*/frames/*15.png"), 3),
    }


def _same(files: Iterable[Path], least: int) -> bool:
    contents = [path.read_bytes() for path in files]
    return len(contents) >= least and len(set(contents)) == 1


if __name__ == "__main__":
    main()
