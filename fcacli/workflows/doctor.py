"""`fca doctor`: facts about the installation and the machine, gathered without a network."""

import importlib.metadata
import os
import platform
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fcacli import __version__
from fcacli.errors import FcaError
from fcacli.workspace import Workspace

PACKAGES = (
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "peft",
    "bitsandbytes",
    "safetensors",
    "sentencepiece",
    "av",
    "opencv-python",
)
DECODERS = {"vp9": ("libvpx-vp9", "vp9"), "h264": ("h264",), "av1": ("libdav1d", "libaom-av1", "av1")}
"""Codec -> names of decoders, any of which will do."""
ENCODERS = {"h264": ("libx264",), "vp9": ("libvpx-vp9",)}
GIB = 1024**3


@dataclass(frozen=True)
class Accelerator:
    """One CUDA device."""

    name: str
    memory_gib: float
    free_gib: float
    bf16: bool


@dataclass(frozen=True)
class Diagnosis:
    """What `fca doctor` found; `problems` are what keeps fca from working, each with what to do."""

    fca: str
    python: str
    platform: str
    packages: dict[str, str]
    """Name -> version, or "missing"."""
    cpus: int
    memory_gib: float | None
    disk_free_gib: float
    folder: str
    cuda: list[Accelerator]
    cpu_bf16_speed: float | None
    """How many times faster than fp32 the CPU multiplies matrices in bf16; None where torch is missing."""
    decoders: dict[str, str]
    """Codec -> the decoder found, or "missing"."""
    encoders: dict[str, str]
    mini_mib: float | None
    """Size of the bundled base; None where it is missing."""
    base: str | None
    """What `--base auto` chooses."""
    base_reason: str
    hub_cache: str
    hub_models: list[str]
    """Model repositories in the hub cache."""
    hub_offline: bool
    problems: list[str]

    def rows(self) -> list[tuple[str, str]]:
        """The same for people, as (name, value) lines."""
        memory = f"{self.memory_gib:.1f} GiB memory" if self.memory_gib is not None else "memory unknown"
        bf16 = f", bf16 {self.cpu_bf16_speed:.1f}x as fast as fp32" if self.cpu_bf16_speed is not None else ""
        rows = [
            ("fca", self.fca),
            ("python", f"{self.python} on {self.platform}"),
            *self.packages.items(),
            ("cpu", f"{self.cpus} cores, {memory}{bf16}"),
        ]
        rows += [
            (f"cuda:{index}", f"{gpu.name}, {gpu.free_gib:.1f} of {gpu.memory_gib:.1f} GiB free, bf16 {_yes(gpu.bf16)}")
            for index, gpu in enumerate(self.cuda)
        ] or [("cuda", "no device: the CPU is used")]
        rows += [
            ("disk", f"{self.disk_free_gib:.1f} GiB free in {self.folder}"),
            ("decoders", _listed(self.decoders)),
            ("encoders", _listed(self.encoders)),
            ("mini", "missing" if self.mini_mib is None else f"bundled base, {self.mini_mib:.1f} MiB"),
            ("hub cache", f"{self.hub_cache}{' (offline)' if self.hub_offline else ''}"),
            ("hub models", ", ".join(self.hub_models) or "none"),
            ("--base auto", f"{self.base}: {self.base_reason}" if self.base else self.base_reason),
        ]
        return rows + [("problem", text) for text in self.problems]


def diagnose(workspace: Workspace) -> Diagnosis:
    """Gather the facts; nothing here raises for what is missing."""
    packages = {name: _version(name) for name in PACKAGES}
    problems = [
        f"{name} is missing; run: pip install -e . in the checkout of fca"
        for name, version in packages.items()
        if version == "missing"
    ]
    cuda, bf16_speed = _torch_facts(problems)
    decoders, encoders = _codecs(problems)
    mini = Path(__file__).parents[1] / "mini" / "weights"
    mini_mib = _folder_mib(mini) if (mini / "model_index.json").is_file() else None
    if mini_mib is None:
        problems.append("the bundled base is missing; check out fcacli/mini/weights again")
    base, reason = _auto_base()
    cache = _hub_cache()
    return Diagnosis(
        fca=__version__,
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        packages=packages,
        cpus=_cpus(),
        memory_gib=_memory_gib(),
        disk_free_gib=shutil.disk_usage(workspace.root).free / GIB,
        folder=str(workspace.root),
        cuda=cuda,
        cpu_bf16_speed=bf16_speed,
        decoders=decoders,
        encoders=encoders,
        mini_mib=mini_mib,
        base=base,
        base_reason=reason,
        hub_cache=str(cache),
        hub_models=sorted(p.name.removeprefix("models--").replace("--", "/") for p in cache.glob("models--*")),
        hub_offline=any(
            os.environ.get(n, "").upper() in ("1", "ON", "YES", "TRUE") for n in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
        ),
        problems=problems,
    )


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        pass
    try:
        return importlib.metadata.version(f"{package}-headless")
    except importlib.metadata.PackageNotFoundError:
        return "missing"


def _torch_facts(problems: list[str]) -> tuple[list[Accelerator], float | None]:
    try:
        import torch
    except Exception as error:
        problems.append(f"torch cannot be imported: {error}")
        return [], None
    devices = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            capability = torch.cuda.get_device_capability(index)
            devices.append(Accelerator(torch.cuda.get_device_name(index), total / GIB, free / GIB, capability >= (8, 0)))
    return devices, _bf16_speed()


def _bf16_speed(size: int = 768, repeats: int = 3) -> float:
    """Time of an fp32 matrix product over that of a bf16 one, on the CPU; the best of a few."""
    import torch

    def best(dtype: torch.dtype) -> float:
        a = torch.ones(size, size, dtype=dtype)
        times = []
        for _ in range(repeats + 1):
            start = time.perf_counter()
            a @ a
            times.append(time.perf_counter() - start)
        return min(times[1:])

    return best(torch.float32) / best(torch.bfloat16)


def _codecs(problems: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    try:
        from av.codec import Codec
    except Exception as error:
        problems.append(f"av cannot be imported: {error}")
        return {}, {}

    def found(names: tuple[str, ...], mode: Literal["r", "w"]) -> str:
        for name in names:
            try:
                Codec(name, mode)
            except ValueError:
                continue
            return name
        return "missing"

    decoders = {codec: found(names, "r") for codec, names in DECODERS.items()}
    encoders = {codec: found(names, "w") for codec, names in ENCODERS.items()}
    for kind, table in (("decoder", decoders), ("encoder", encoders)):
        problems += [f"no {codec} {kind} in PyAV; run: pip install -U av" for codec, name in table.items() if name == "missing"]
    return decoders, encoders


def _auto_base() -> tuple[str | None, str]:
    try:
        from fcacli.model.bases import resolve_base

        spec = resolve_base("auto")
    except FcaError as error:
        return None, error.message
    return spec.name, spec.reason


def _hub_cache() -> Path:
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_gib() -> float | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    except (ValueError, OSError, AttributeError):
        return None


def _folder_mib(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1024**2


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _listed(table: dict[str, str]) -> str:
    return (
        ", ".join(f"{codec} ({name})" if name != "missing" else f"{codec} MISSING" for codec, name in table.items()) or "none"
    )
