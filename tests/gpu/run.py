"""All that needs a GPU, in one run: memory and speed at the real shapes, CUDA tests, training of the miniature.

    python tests/gpu/run.py OUT [--minutes 9] [--only PART ...] [--base NAME] [--every N] [--work FOLDER]

Writes OUT/gpu-<date>.json and .md; commit them under tests/benchmarks/results/. Memory: CogVideoX-2B, 5B and 1.5-5B with
random weights at their real sizes, each kept to what the card it is meant for has, with the options for it, beside what
`fca plan` says of them. Predict: the same of predictions. Speed: FCA against LoRA, the base alone and the floor (the base's own
forward and backward pass), memory options and --compile against without; the kernels of attention. Cases run at the same time
as far as device and main memory go, and take turns where seconds are measured. What fails or finds no time is named in the
tables, the rest goes on. Parts: tests, mini, attention, encode, memory, predict, speed. --every N: each Nth case only, to see
whether all works.
"""

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cases import CASES, CONTEXT, Case

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
AT_ONCE, PLANS = 9, 4
"""Cases measured and planned at the same time."""
SPARE, MAIN = 4, 105
"""GiB: of the device that cases at the same time leave free, of main memory for all."""
BEFORE = ("toy raw --clips 64", "prepare ssv2 raw")
TRAINED = "train --base mini --gpus 1 --steps 200"
STRAIGHT = (
    f"{TRAINED} --run straight",
    "predict {clip} caption --device cuda --run straight --out predicted/none",
    "predict {clip} caption --device cuda --run straight --offload model --out predicted/model",
    "predict {clip} caption --device cuda --run straight --offload sequential --out predicted/sequential",
    "eval --run straight --gpus 1 --limit 4",
)
STOPPED = (f"{TRAINED} --run stopped --max-minutes 0.1", "train --gpus 1 --run stopped")
"""The whole loop on the GPU; a training in one go, and beside it, on a copy of the data, one that is stopped and continued."""
TESTS = ["-m", "pytest", "-q", "-m", "gpu", "-n", "3", "-p", "no:cacheprovider"]


@dataclass
class Job:
    """What one child process does: it writes what it found into a file."""

    name: str
    work: Callable[[], Any]
    device: float = 0
    main: float = 0
    """GiB that it takes at most."""
    kind: str = ""
    """"measure" and "plan" are limited in number."""
    ready: Callable[[], bool] = lambda: True
    process: Any = None
    started: float = 0
    found: Any = None
    took: float = 0


@dataclass
class Jobs:
    """Child processes beside each other, as far as memory goes; forked, so that all begin with everything imported. This
    process itself never touches CUDA."""

    work: Path
    end: float
    device: float
    waiting: list[Job] = field(default_factory=list)
    running: list[Job] = field(default_factory=list)

    def run(self, done: Callable[[Job], None]) -> None:
        """All of them, in their order as far as they fit; `done` with each as it ends or when the time is over."""
        while self.waiting or self.running:
            for job in [job for job in self.running if not job.process.is_alive()]:
                self._end(job, done)
            if time.monotonic() > self.end:
                for job in self.running:
                    with suppress(ProcessLookupError):
                        os.killpg(job.process.pid, signal.SIGKILL)
                for job in self.running + self.waiting:
                    job.found = {"failed": "no time left"}
                    done(job)
                return
            for job in list(self.waiting):
                if job.ready() and self._fits(job):
                    self._start(job)
            time.sleep(0.1)

    def has(self, name: str) -> bool:
        """Whether such a job has still to end."""
        return any(job.name == name for job in self.running + self.waiting)

    def _fits(self, job: Job) -> bool:
        beside = [other for other in self.running if job.kind and other.kind == job.kind]
        device, main = (sum(getattr(other, of) for other in self.running) for of in ("device", "main"))
        few = len(beside) < {"measure": AT_ONCE, "plan": PLANS}.get(job.kind, 99)
        return few and (not device or device + job.device <= self.device) and (not main or main + job.main <= MAIN)

    def _start(self, job: Job) -> None:
        path = self._path(job)
        job.process = multiprocessing.get_context("fork").Process(target=_child, args=(job.work, path))
        job.started = time.monotonic()
        job.process.start()
        self.waiting.remove(job)
        self.running.append(job)

    def _end(self, job: Job, done: Callable[[Job], None]) -> None:
        self.running.remove(job)
        job.took = round(time.monotonic() - job.started, 1)
        path = self._path(job)
        job.found = json.loads(path.read_text()) if path.exists() else {"failed": _end_of(path.with_suffix(".log"))}
        done(job)

    def _path(self, job: Job) -> Path:
        return self.work / f"{job.name.replace(' ', '-')}.json"


def _child(work: Callable[[], Any], path: Path) -> None:
    """In a process of its own, the first of its group."""
    os.setpgid(0, 0)
    with path.with_suffix(".log").open("w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        found = work()
    except BaseException:
        found = {"failed": traceback.format_exc()[-3000:]}
    part = path.with_suffix(".part")
    part.write_text(json.dumps(found))
    part.rename(path)


def _end_of(log: Path) -> str:
    return (log.read_text()[-2000:] if log.exists() else "") or "ended without a word"


def main() -> None:
    parts = ("tests", "mini", "attention", *CASES)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=9)
    parser.add_argument("--only", action="append", choices=parts)
    parser.add_argument("--base", help="only the cases of this one")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--commit", help="where this is a copy without its history")
    parser.add_argument("--work", type=Path, default=Path("/tmp/fca-gpu"), help="random bases, 40 GB")
    said = parser.parse_args()
    for folder in (said.out, said.work):
        folder.mkdir(parents=True, exist_ok=True)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    started, chosen = time.monotonic(), said.only or parts
    found = {"date": datetime.now(UTC).isoformat()[:19], **machine(said.commit)}
    cases = {name: [case for case in make() if said.base in (None, case.base)][:: said.every] for name, make in CASES.items()}
    cases = {name: of for name, of in cases.items() if name in chosen}
    light = {
        name: part for name, part in (("tests", cuda_tests), ("mini", miniature), ("attention", attention)) if name in chosen
    }
    measure_all(found, cases, light, said.out.resolve(), said.work.resolve(), started + 60 * said.minutes, "cuda")


def machine(commit: str | None) -> dict[str, Any]:
    """Hardware, versions and commit, by another process: this one is to be forked."""
    words = "import torch; gpu = torch.cuda.get_device_properties(0); print(gpu.name, gpu.total_memory, sep='|')"
    done = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True)
    if done.returncode:
        sys.exit("error: no CUDA device is available here; this script measures one")
    import torch

    name, size = done.stdout.split("|")
    if commit is None:
        words = ["git", "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(words, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    return {
        "device": f"{name}, {int(size) / 2**30:.0f} GiB",
        "device_gib": int(size) / 2**30,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit or "unknown",
    }


def measure_all(
    found: dict[str, Any],
    cases: dict[str, list[Case]],
    light: dict[str, Callable[[Path], Any]],
    out: Path,
    work: Path,
    end: float,
    device: str,
) -> None:
    """Every case as soon as its base is there and there is room for it, its plan beside it; the tables after each."""
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # asking for CUDA does not start it
    from measure import Measuring, planned
    from tables import as_text
    from turns import Turns

    started = time.monotonic()
    jobs = Jobs(work, end, found["device_gib"] - SPARE)
    bases = list(dict.fromkeys(case.base for of in cases.values() for case in of))
    rows: dict[str, dict[str, Any]] = {}

    def written(base: str) -> bool:
        return (work / base / "model_index.json").is_file()

    def done(job: Job) -> None:
        part, _, rest = job.name.partition(" ")
        if part in cases:
            of_plan = {"planned" if "failed" not in job.found else "no_plan": job.found}
            rows[key_of(job)] |= of_plan if job.kind == "plan" else job.found | {"took": job.took}
        elif part == "bases":
            if job.found:
                found.setdefault("failed", []).append(f"{job.name}: {job.found['failed']}")
                without(rest)
        else:
            found[part] = job.found
        found["took"] = round(time.monotonic() - started)
        stem = out / f"gpu-{found['date'][:10]}"
        stem.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
        stem.with_suffix(".md").write_text(as_text(found))

    def without(base: str) -> None:
        """Nobody need wait for a base, or for what all share, that could not be written."""
        for job in [job for job in jobs.waiting if job.kind and (base == "shared" or rows[key_of(job)]["base"] == base)]:
            jobs.waiting.remove(job)
            job.found = {"failed": "the base could not be written"}
            done(job)

    def key_of(job: Job) -> str:
        return job.name.removesuffix(" plan")

    shared = work / "shared" / "written"
    if bases and not shared.exists() and not all(map(written, bases)):
        jobs.waiting.append(Job("bases shared", lambda: write_base(work, None, device)))
    for base in [base for base in bases if not written(base)]:
        jobs.waiting.append(Job(f"bases {base}", lambda base=base: write_base(work, base, device)))
    for name, part in light.items():
        jobs.waiting.append(Job(name, lambda part=part: part(work)))
    for part, of in cases.items():
        found[part] = []
        for number, case in enumerate(of):
            row = {"base": case.base, "shape": case.shape, "card": case.card, "cap": case.cap, "options": case.options}
            rows[f"{part} {number}"] = row | ({"offload": case.offload} if case.kind == "predict" else {})
            found[part].append(rows[f"{part} {number}"])
    for _, name, case in sorted(
        ((case.rank, f"{part} {number}", case) for part, of in cases.items() for number, case in enumerate(of)),
        key=lambda ranked: ranked[0],
    ):
        ready = lambda case=case: written(case.base) and (case.kind == "time" or not jobs.has("bases shared"))  # noqa: E731
        measured = lambda case=case: Measuring(work, case, device, Turns(work)).found()  # noqa: E731
        jobs.waiting.append(Job(name, measured, case.device_gib + CONTEXT / 2**30, case.main_gib, "measure", ready))
        if case.kind != "time":  # planned when no more case waits for the processors
            at_last = lambda ready=ready: ready() and not any(job.kind == "measure" for job in jobs.waiting)  # noqa: E731
            jobs.waiting.append(Job(f"{name} plan", lambda case=case: planned(work, case), 0, 1, "plan", at_last))
    assert "bitsandbytes" not in sys.modules, "it has started CUDA, and forks cannot use it"
    jobs.run(done)


def write_base(work: Path, name: str | None, device: str) -> None:
    """Of one base what is its own, or what all share."""
    from random_base import write_random_base, write_shared  # bitsandbytes comes with it, and it starts CUDA

    if name is None:
        write_shared(work, device)
    else:
        write_random_base(work, name, device)


def attention(work: Path) -> Any:
    """In a turn of its own."""
    words = [sys.executable, str(HERE / "attention.py"), "--turns", str(work)]
    ran = subprocess.run(words, capture_output=True, text=True)
    return json.loads(ran.stdout.splitlines()[-1]) if ran.returncode == 0 else {"failed": ran.stderr[-2000:]}


def cuda_tests(work: Path) -> dict[str, Any]:
    files = [str(path) for path in (ROOT / "tests").rglob("test_*.py") if "mark.gpu" in path.read_text()]
    ran = subprocess.run([sys.executable, *TESTS, *files], cwd=ROOT, capture_output=True, text=True)
    said = ran.stdout.strip() or ran.stderr.strip()
    return {"passed": ran.returncode == 0, "said": said.splitlines()[-1] if ran.returncode == 0 else said[-6000:]}


def miniature(work: Path) -> dict[str, Any]:
    """The four commands with the miniature, on the GPU: what each says at its end, and how long it took beside other work;
    whether the continued training is the one in one go, and a prediction the same with each way to offload."""
    folder, other = work / f"loop-{time.time_ns()}", work / f"loop-{time.time_ns()}-stopped"
    folder.mkdir()
    lines = _walked(folder, BEFORE)
    shutil.copytree(folder, other)
    with ThreadPoolExecutor(1) as beside:
        stopped = beside.submit(_walked, other, STOPPED)
        lines += _walked(folder, STRAIGHT) + stopped.result()
    runs = [folder / "runs" / "straight", other / "runs" / "stopped"]
    encoded = [
        {path.relative_to(base): path.read_bytes() for path in base.rglob("cache/**/*") if path.is_file()}
        for base in (folder, other)
    ]
    same = {
        "encodings": encoded[0] == encoded[1],
        "stopped and continued": _same(
            [found for run in runs if (found := run / "checkpoints" / "step-000200" / "adapter.safetensors").exists()], 2
        ),
        "predictions": _same(folder.glob("predicted/*/frames/*15.png"), 3),
    }
    return {"lines": lines, "same": same, "differs": _first_difference(*(run / "log.jsonl" for run in runs))}


def _first_difference(one: Path, other: Path) -> dict[str, Any] | None:
    """The first line of two logs that is not the same in both."""
    logs = [path.read_text().splitlines() if path.exists() else [] for path in (one, other)]
    return next((json.loads(line) for line, there in zip(*logs, strict=False) if line != there), None)


def _walked(folder: Path, commands: Iterable[str]) -> list[dict[str, Any]]:
    found = []
    for line in commands:
        clip = next((folder / "data").glob("*/val/videos/*.mp4"), "") if "{clip}" in line else ""
        started = time.monotonic()
        words = [sys.executable, "-m", "fcacli", *line.format(clip=clip).split()]
        ran = subprocess.run(words, cwd=folder, capture_output=True, text=True)
        took, said = round(time.monotonic() - started, 1), (ran.stderr + ran.stdout).strip()
        found.append({"line": line, "status": ran.returncode, "seconds": took, "said": said[-600:]})
    return found


def _same(files: Iterable[Path], least: int) -> bool:
    contents = [path.read_bytes() for path in files]
    return len(contents) >= least and len(set(contents)) == 1


if __name__ == "__main__":
    main()
